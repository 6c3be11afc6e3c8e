"""The fleet as stored and as reported at one moment, indexed for lookups; made anew when it moved.

Every call of the API looks through one. Reading and indexing 100,000 placements takes longer than a
caller waits, so a view is shared until something was committed or reported.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from control_plane.api.ports import Live
from control_plane.store.engine import Database
from control_plane.store.snapshot import StoreSnapshot, load
from control_plane.store.values import StoredDeployment, StoredPlane, StoredPool
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import Observation, PlaneState, ReplicaState
from skerry.fleet.placement import Placement
from skerry.plumbing.clock import Clock

# Another control plane's commits are not heard of here; nor do prices by time announce themselves.
STORE_SECONDS_MAX = 1.0
# Reports of a thousand planes come in all the time; a person sees no difference.
REPORTS_SECONDS_MAX = 0.2


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """The store at one moment and what planes reported by then; indexes are made when asked for."""

    store: StoreSnapshot
    observations: Mapping[str, Observation]
    now: datetime

    @cached_property
    def pools(self) -> Mapping[str, StoredPool]:
        """Return the pools by name, with the terms that hold now."""
        return {stored.pool.name: stored for stored in self.store.pools_at(self.now)}

    @cached_property
    def set_pools(self) -> Mapping[str, StoredPool]:
        """Return the pools by name, with the terms that were set."""
        return {stored.pool.name: stored for stored in self.store.pools}

    @cached_property
    def planes(self) -> Mapping[str, StoredPlane]:
        """Return the planes by name."""
        return {stored.identity.name: stored for stored in self.store.planes}

    @cached_property
    def stored(self) -> Mapping[str, StoredDeployment]:
        """Return the deployments as stored by name."""
        return {stored.deployment.name: stored for stored in self.store.deployments}

    @cached_property
    def deployments(self) -> Mapping[str, Deployment]:
        """Return the deployments by name."""
        return {name: stored.deployment for name, stored in self.stored.items()}

    @cached_property
    def placements(self) -> Mapping[str, Sequence[Placement]]:
        """Return the placements by deployment."""
        found: dict[str, list[Placement]] = defaultdict(list)
        for placement in self.store.placements:
            found[placement.deployment].append(placement)
        return found

    @cached_property
    def accelerators_placed(self) -> Mapping[str, int]:
        """Return how many accelerators placements take, by pool."""
        found: Counter[str] = Counter()
        for placement in self.store.placements:
            found[placement.pool] += self.accelerators(placement)
        return found

    @cached_property
    def unplaced(self) -> Mapping[str, Sequence[tuple[str, int, str]]]:
        """Return what the last decision left out, by deployment: (name, replicas, reason)."""
        found: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
        for left_out in self.store.decision.unplaced if self.store.decision else ():
            found[left_out[0]].append(left_out)
        return found

    @cached_property
    def ready(self) -> Mapping[tuple[str, str], int]:
        """Return READY replicas by (deployment, pool); none of a lost plane's last words."""
        lost = {
            stored.identity.name
            for stored in self.store.planes
            if stored.condition is not None and stored.condition.state is PlaneState.LOST
        }
        return Counter(
            (replica.deployment, replica.pool)
            for plane, observation in self.observations.items()
            if plane not in lost
            for replica in observation.report.replicas
            if replica.state is ReplicaState.READY
        )

    @cached_property
    def ready_of(self) -> Mapping[str, int]:
        """Return READY replicas by deployment."""
        found: Counter[str] = Counter()
        for (deployment, _), number in self.ready.items():
            found[deployment] += number
        return found

    def accelerators(self, placement: Placement, deployment: Deployment | None = None) -> int:
        """Return how many accelerators a placement takes; 0 when it cannot be known."""
        wanted = deployment or self.deployments.get(placement.deployment)
        stored = self.pools.get(placement.pool)
        shape = wanted and stored and wanted.revision.shape_on(stored.pool.shape.accelerator)
        return placement.count * shape.accelerators if shape else 0

    def cost_per_hour(self, placement: Placement, deployment: Deployment | None = None) -> float:
        """Return a placement's cost in USD per hour, 0 where no price was told."""
        stored = self.pools.get(placement.pool)
        price = stored.pool.terms.price_per_accelerator_hour if stored else None
        return self.accelerators(placement, deployment) * (price or 0.0)


class FleetViews:
    """Hands out views, the same one while nothing moved that a caller could tell."""

    def __init__(self, database: Database, live: Live, clock: Clock) -> None:
        """Look at this store and these reports."""
        self._database = database
        self._live = live
        self._clock = clock
        self._view: FleetView | None = None
        self._commits = -1
        self._read_at = self._made_at = 0.0

    async def now(self) -> FleetView:
        """Return the fleet as it is: own commits at once, the rest within a second."""
        commits, moment = self._database.commits, self._clock.monotonic()
        view = self._view if commits == self._commits else None
        if view is not None and moment - self._made_at < REPORTS_SECONDS_MAX:
            return view
        store = view.store if view else None
        if store is None or moment - self._read_at >= STORE_SECONDS_MAX:
            store = await self._database.run_read(load)
            self._read_at = moment
        observations = dict(self._live.observations())
        self._view = FleetView(store=store, observations=observations, now=self._clock.now())
        self._commits, self._made_at = commits, moment
        return self._view
