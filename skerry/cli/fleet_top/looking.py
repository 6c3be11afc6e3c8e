"""One look at a fleet: the operator API's lists, each deployment's load, and the pickers' pages."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.cli.fleet_top.frame import FirstBytes, Look
from skerry.cli.support.asked import Page, pages_of
from skerry.plumbing.errors import SkerryError, Unavailable

if TYPE_CHECKING:
    import aiohttp

    from skerry.client.operator import OperatorClient
    from skerry.client.rows import DeploymentRow
    from skerry.fleet.autoscaling.load import LoadReading
    from skerry.plumbing.clock import Clock

# Each is a call of its own; more rows than this fit no screen.
DEPLOYMENTS_ASKED_MAX = 50
PAGE_SECONDS_MAX = 2.0
PAGE_BYTES_MAX = 4 * 1024 * 1024
_JOB = "metrics/skerry-picker--"
_FIRST_BYTE = re.compile(
    r'^skerry_picker_first_byte_answers_total\{deployment="([^"]+)",le="([^"]+)"\} (\S+)$',
    re.MULTILINE,
)


def look(client: "OperatorClient", clock: "Clock", root: Path | None) -> Look:
    """Return what the fleet tells now; Unavailable where no control plane answers.

    `root` is the data directory of a fleet of this host, whose pickers are asked themselves.
    """
    deployments = client.list_deployments()
    asked = deployments[:DEPLOYMENTS_ASKED_MAX]
    return Look(
        planes=client.list_planes(),
        pools=client.list_pools(),
        deployments=deployments,
        placements=client.list_placements(),
        readings=_readings(client, asked),
        first_bytes=None if root is None else read_first_bytes(root),
        unasked=len(deployments) - len(asked),
        at=clock.monotonic(),
        time=clock.now(),
    )


def _readings(
    client: "OperatorClient", deployments: "tuple[DeploymentRow, ...]"
) -> "Mapping[tuple[str, str], LoadReading]":
    found = {}
    for row in deployments:
        try:
            explained = client.explain_scaling(row.name, 1)
        except Unavailable:
            raise
        except SkerryError:
            continue  # it is gone by now
        for plane in explained.planes:
            if plane.reading is not None:
                found[row.name, plane.plane] = plane.reading
    return found


def read_first_bytes(root: Path) -> FirstBytes | None:
    """Return what the pickers of a data directory tell; None where none of them answers."""
    try:
        pages = pages_of(root / "prometheus-targets.json")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    pickers = tuple(page for page in pages if page.name.startswith(_JOB))
    told = [page for page in asyncio.run(_read(pickers)) if page is not None]
    return add_first_bytes(told) if told else None


async def _read(pages: tuple[Page, ...]) -> list[str | None]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=PAGE_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        return list(await asyncio.gather(*(_read_page(http, page) for page in pages)))


async def _read_page(http: "aiohttp.ClientSession", page: Page) -> str | None:
    import aiohttp

    try:
        async with http.get(page.url) as answer:
            data = await answer.read() if answer.status == 200 else b""
    except (aiohttp.ClientError, TimeoutError):
        return None
    return data.decode(errors="replace") if 0 < len(data) <= PAGE_BYTES_MAX else None


def add_first_bytes(pages: list[str]) -> FirstBytes:
    """Return the sums over several pickers' pages, by deployment and bound. Pure."""
    sums: dict[str, dict[float, float]] = {}
    for page in pages:
        for deployment, bound, count in _FIRST_BYTE.findall(page):
            of = sums.setdefault(deployment, {})
            try:
                of[float(bound)] = of.get(float(bound), 0.0) + float(count)
            except ValueError:
                continue
    return sums
