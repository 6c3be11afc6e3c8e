"""Serves the dashboard where the settings say, if they do; main.py calls it."""

from aiohttp import web

from control_plane.api.access.authenticator import Authenticator
from control_plane.dashboard.site import Place, Site
from control_plane.http import serve_http
from control_plane.settings import ControlPlaneSettings
from skerry.plumbing.clock import Clock
from skerry.plumbing.ids import SystemIds


async def serve_dashboard(
    settings: ControlPlaneSettings, operator: str, authenticator: Authenticator, clock: Clock
) -> web.AppRunner | None:
    """Serve it and return what stops it; None where no address is told.

    `operator` is where the operator API is in plaintext, for this process alone.
    """
    address = settings.dashboard_address
    if address is None:
        return None
    place = Place(
        operator_address=operator,
        project=settings.project,
        port=int(address.rpartition(":")[2]),
        origin=settings.dashboard_origin,
    )
    site = Site(place, authenticator, clock, SystemIds(clock))
    return await serve_http(site.application(), address)
