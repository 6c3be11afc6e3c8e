"""Waiting until a fleet that was just started answers, and telling the control plane its prices.

`skerry up` and the demo wait here; every wait is bounded and says what was missing.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.cli.supervisor.fleet_file import read_fleet
from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.settings_files import POOL
from skerry.fleet.names import pool_name
from skerry.fleet.observation import PlaneState
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import NotFound, SkerryError, Unavailable
from skerry.plumbing.processes import ProcessRecord, is_alive

if TYPE_CHECKING:
    from skerry.client.operator import AsyncOperatorClient

# Importing the solver and migrating a new database takes 3 s alone; 32 planes share two cores.
READY_SECONDS_MAX = 60.0
READY_SECONDS_PER_PLANE = 5.0
_LOOK_SECONDS = 0.25
_LOG_LINES_SHOWN = 12
_LOG_BYTES_READ = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a fleet has come up."""

    control_plane: bool
    connected: int
    priced: int
    planes: int

    @property
    def is_ready(self) -> bool:
        """Say whether every plane is connected and priced."""
        return self.control_plane and self.connected == self.priced == self.planes


async def until_ready(
    directory: DataDirectory,
    layout: Layout,
    supervisor: ProcessRecord,
    client: "AsyncOperatorClient",
    clock: Clock,
) -> AsyncIterator[Progress]:
    """Yield the progress whenever it changes, until all is ready.

    Raises Unavailable with the end of the right log when a process gives up or time is over.
    """
    limit = READY_SECONDS_MAX + READY_SECONDS_PER_PLANE * len(layout.planes)
    deadline = clock.monotonic() + limit
    shown: Progress | None = None
    while shown is None or not shown.is_ready:
        if not is_alive(supervisor):
            raise _gave_up("the supervisor", directory.supervisor_log)
        if (dead := _dead_control_plane(directory, supervisor)) is not None:
            raise _gave_up("the control plane", directory.control_plane_of(dead) / "log")
        progress = await _look(layout, client)
        if progress != shown:
            shown = progress
            yield progress
        if clock.monotonic() > deadline:
            raise Unavailable(
                f"the fleet is not ready after {limit:.0f} s: {progress.connected} of"
                f" {progress.planes} planes are connected; see the logs in {directory.root}"
            )
        if not progress.is_ready:
            await clock.sleep(_LOOK_SECONDS)


def grace_seconds() -> float:
    """Return how long after its return a control plane lets nothing expire."""
    from control_plane.reconcile.policy import ReconcilePolicy

    return ReconcilePolicy().grace_seconds()


async def _look(layout: Layout, client: "AsyncOperatorClient") -> Progress:
    names = {plane.name for plane in layout.planes}
    try:
        planes = await client.list_planes()
        priced = await _set_prices(layout, client)
    except Unavailable:
        return Progress(control_plane=False, connected=0, priced=0, planes=len(names))
    connected = [p for p in planes if p.name in names and p.state is PlaneState.CONNECTED]
    return Progress(control_plane=True, connected=len(connected), priced=priced, planes=len(names))


async def _set_prices(layout: Layout, client: "AsyncOperatorClient") -> int:
    """Price the pools that have no price yet; one that the operator set stays. Count the priced."""
    prices = {
        pool_name(plane.name, POOL): plane.offer.price_per_accelerator_hour
        for plane in layout.planes
    }
    priced = 0
    for pool in await client.list_pools():
        if pool.name not in prices:
            continue
        if pool.terms.price_per_accelerator_hour is None:
            terms = replace(pool.terms, price_per_accelerator_hour=prices[pool.name])
            await client.set_pool_terms(pool.name, terms)
        priced += 1
    return priced


def _dead_control_plane(directory: DataDirectory, supervisor: ProcessRecord) -> str | None:
    """Return a control plane that is dead for good, None while each lives or is about to."""
    try:
        fleet = read_fleet(directory.fleet)
    except NotFound:
        return None
    # An older supervisor's file says nothing about this start.
    if fleet["supervisor_pid"] != supervisor.pid:
        return None
    return next((str(one["name"]) for one in fleet["control_planes"] if one["pid"] is None), None)


def _gave_up(what: str, log: Path) -> SkerryError:
    return Unavailable(f"{what} ended at its start; the end of {log}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _LOG_BYTES_READ))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"  (cannot be read: {error})"
    return "\n".join(f"  {line[:300]}" for line in lines[-_LOG_LINES_SHOWN:])
