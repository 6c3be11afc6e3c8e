"""Sight: one read of the store and the link as a Snapshot; does I/O, decides nothing."""

from collections.abc import Callable
from typing import Protocol

from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.snapshot import Demand, LinkView, PlaneView, Snapshot
from control_plane.store.engine import Database
from control_plane.store.snapshot import StoreSnapshot, load
from control_plane.store.values import StoredDesired
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneReport
from skerry.plumbing.clock import Clock


class LiveLinks(Protocol):
    """What the link remembers; control_plane.link.registry.Registry is the real one."""

    @property
    def since_start_seconds(self) -> float:
        """Return the age of this control plane on the monotonic clock."""

    def view(self, plane: str) -> LinkView:
        """Return what is known of one plane's link."""

    def reports(self) -> tuple[PlaneReport, ...]:
        """Return the newest report of every plane heard."""


class Sight:
    """Looks at the fleet."""

    def __init__(
        self,
        database: Database,
        links: LiveLinks,
        clock: Clock,
        policy: ReconcilePolicy,
        decode: Callable[[bytes, Version], DesiredState],
    ) -> None:
        self._database = database
        self._links = links
        self._clock = clock
        self._policy = policy
        self._decode = decode

    async def look(self) -> Snapshot:
        """Return the fleet as stored and as heard, at one `now`."""
        stored = await self._database.run_read(load)
        now = self._clock.now()
        return Snapshot(
            now=now,
            since_start_seconds=self._links.since_start_seconds,
            policy=self._policy,
            demands=tuple(
                Demand(deployment=d.deployment, deleting=d.deleting) for d in stored.deployments
            ),
            planes=self._planes(stored),
            pools=tuple(p.pool for p in stored.pools_at(now)),
            placements=stored.placements,
            desired=tuple(
                self._desired(plane, state) for plane, state in sorted(stored.desired.items())
            ),
        )

    def _desired(self, plane: str, state: StoredDesired) -> DesiredState:
        if not state.payload:  # only its generation is known: nothing was ever told under it
            return DesiredState(plane=plane, version=state.version)
        return self._decode(state.payload, state.version)

    def _planes(self, stored: StoreSnapshot) -> tuple[PlaneView, ...]:
        known = {plane.identity.name: plane for plane in stored.planes}
        views = [
            PlaneView(
                identity=plane.identity,
                gateway=plane.gateway,
                shapes=plane.pools,
                condition=plane.condition,
                link=self._links.view(name),
            )
            for name, plane in known.items()
        ]
        views += [
            # Heard for the first time: the plan records it.
            PlaneView(
                identity=report.identity,
                gateway=report.gateway,
                shapes=(),
                condition=None,
                link=self._links.view(report.identity.name),
            )
            for report in self._links.reports()
            if report.identity.name not in known
        ]
        return tuple(sorted(views, key=lambda view: view.name))
