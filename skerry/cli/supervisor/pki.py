"""The fleet's authority and certificates in DIR/pki, and when the supervisor looks at them again.

`skerry up` makes them before anything starts; the supervisor renews them while the fleet runs.
Servers, gateways and the link follow the files, so nothing is started again for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from skerry.cli.supervisor.layout import CONTROL_PLANE_NAME, HOST, DataDirectory, Layout
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.plumbing.certificates import (
    CA_NAME,
    Subject,
    ensure_authority,
    ensure_certificate,
)
from skerry.plumbing.rpc import TlsFiles
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

# A certificate is renewed at half of its 30 days; a look a day leaves a fortnight of retries.
RENEWAL_PERIOD = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPki:
    """Where the certificates of a fleet are; planes, and the first's standbys, by name."""

    control_plane: TlsFiles
    standbys: Mapping[str, TlsFiles]
    planes: Mapping[str, TlsFiles]


def is_renewal_due(looked_at: datetime | None, now: datetime) -> bool:
    """Say whether the certificates are to be looked at: never yet, a day ago, or time was set back.

    Wall time, as certificates are: a host that slept for a month looks at once.
    """
    return looked_at is None or now < looked_at or now - looked_at >= RENEWAL_PERIOD


def ensure_pki(directory: DataDirectory, layout: Layout, now: datetime) -> FleetPki:
    """Make what is missing, renew what is past half its life, and return where all is.

    Only control planes' certificates carry the name that the planes' link asks for: any
    other party of the fleet can serve TLS, but not pose as the control plane.
    """
    ensure_authority(directory.pki / "authority", "skerry authority", now)
    return FleetPki(
        control_plane=_of_control_plane(directory, CONTROL_PLANE_NAME, now),
        standbys={
            one.name: _of_control_plane(directory, one.name, now)
            for one in layout.control_planes[1:]
        },
        planes={
            plane.name: _ensure(directory, "planes", plane.name, now) for plane in layout.planes
        },
    )


def authority_file(directory: DataDirectory) -> Path:
    """Return the file of the roots that clients of the operator API trust."""
    return directory.pki / "authority" / CA_NAME


def _of_control_plane(directory: DataDirectory, name: str, now: datetime) -> TlsFiles:
    return _ensure(directory, "control-planes", name, now, (CONTROL_PLANE_SERVER_NAME,))


def _ensure(
    directory: DataDirectory,
    collection: str,
    name: str,
    now: datetime,
    server_names: tuple[str, ...] = (),
) -> TlsFiles:
    folder = directory.pki / ("planes" if collection == "planes" else "") / name
    subject = Subject(
        name=name,
        uris=(f"skerry://{full_name(DEFAULT_PROJECT, collection, name)}",),
        dns_names=("localhost", name, *server_names),
        addresses=(HOST,),
    )
    return ensure_certificate(directory.pki / "authority", folder, subject, now)
