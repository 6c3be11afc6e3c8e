"""The fleet as stored and as reported at one moment, indexed for lookups; made anew when it moved.

Every call of the API looks through one. Reading and indexing 100,000 placements takes longer than a
caller waits: a view is shared until something was committed or reported, only what moved is read
and indexed again, and callers keep the view there is meanwhile, for a second at most.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control_plane.api.granted import Granted, index_granted
from control_plane.api.ports import Live
from control_plane.store.engine import Database
from control_plane.store.reads import StoreReads
from control_plane.store.snapshot import StoreSnapshot
from control_plane.store.values import StoredDeployment, StoredPlane, StoredPool
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.observation import (
    Observation,
    ObservedReplica,
    PlaneReport,
    PlaneState,
    ReplicaState,
)
from skerry.fleet.placement import Placement
from skerry.fleet.profile import Profiles
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock

_log = logs.get_logger(__name__)

# Another control plane's commits are not heard of here; nor do prices by time announce themselves.
STORE_SECONDS_MAX = 1.0
# At this age they are looked for beside the callers, so that none of them waits.
STORE_SECONDS = 0.8
# Reports of a thousand planes come in all the time; a person sees no difference.
REPORTS_SECONDS_MAX = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A deployment as `convert` made it of what is stored, `StoreIndex.told` and what is ready.

    `item` is the same encoded, as it stands in a list.
    """

    stored: StoredDeployment
    told: object
    ready: int
    made: Any
    item: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIndex:
    """The store at one moment by what callers look for; parts that did not move are shared."""

    store: StoreSnapshot
    pools: Mapping[str, StoredPool]
    set_pools: Mapping[str, StoredPool]
    planes: Mapping[str, StoredPlane]
    stored: Mapping[str, StoredDeployment]
    deployments: Mapping[str, Deployment]
    # Whose each deployment is that is not the fleet's own project's.
    owners: Mapping[str, str]
    placements: Mapping[str, Sequence[Placement]]
    accelerators_placed: Mapping[str, int]
    unplaced: Mapping[str, Sequence[tuple[str, int, str]]]
    lost: frozenset[str]
    granted: Granted
    profiles: Profiles
    scaled: Mapping[str, Scaled]
    # Another one when what a deployment's message tells beside the deployment itself has moved.
    told: object
    messages: dict[str, Message]


def index_store(store: StoreSnapshot, now: datetime, held: StoreIndex | None) -> StoreIndex:
    """Return the index of a store with the terms that hold now; what `held` has is not made again.

    Takes as long as there are placements that moved: 0.2 s for 100,000.
    """
    pools: Mapping[str, StoredPool] = {one.pool.name: one for one in store.pools_at(now)}
    stored = {one.deployment.name: one for one in store.deployments}
    deployments = {name: one.deployment for name, one in stored.items()}
    placed = told = by_deployment = None
    messages: dict[str, Message] = {}
    if held is not None:
        pools = held.pools if pools == held.pools else pools
        messages = {name: one for name, one in held.messages.copy().items() if name in stored}
        if store.placements is held.store.placements:
            by_deployment = held.placements
            if pools is held.pools and store.deployments is held.store.deployments:
                placed = held.accelerators_placed
            same_decision = store.decision is held.store.decision
            if pools is held.pools and same_decision and store.scalings is held.store.scalings:
                told = held.told
    return StoreIndex(
        store=store,
        pools=pools,
        set_pools={one.pool.name: one for one in store.pools},
        planes={one.identity.name: one for one in store.planes},
        stored=stored,
        deployments=deployments,
        owners={
            name: one.project for name, one in deployments.items() if one.project != DEFAULT_PROJECT
        },
        placements=_by_deployment(store) if by_deployment is None else by_deployment,
        accelerators_placed=(
            _accelerators_placed(store, deployments, pools) if placed is None else placed
        ),
        unplaced=_unplaced(store),
        lost=_lost(store),
        granted=index_granted(store, held.store, held.granted) if held else index_granted(store),
        profiles=(
            held.profiles
            if held and held.store.profiles is store.profiles
            else {entry.value.key: entry.value for entry in store.profiles}
        ),
        scaled={one.deployment: one for one in store.scalings},
        told=told or object(),
        messages=messages,
    )


def _by_deployment(store: StoreSnapshot) -> Mapping[str, Sequence[Placement]]:
    found: dict[str, list[Placement]] = defaultdict(list)
    for placement in store.placements:
        found[placement.deployment].append(placement)
    return found


def _accelerators_placed(
    store: StoreSnapshot,
    deployments: Mapping[str, Deployment],
    pools: Mapping[str, StoredPool],
) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for placement in store.placements:
        wanted, stored = deployments.get(placement.deployment), pools.get(placement.pool)
        found[placement.pool] += _accelerators(placement, wanted, stored)
    return found


def _accelerators(
    placement: Placement, wanted: Deployment | None, stored: StoredPool | None
) -> int:
    shape = wanted and stored and wanted.revision.shape_on(stored.pool.shape.accelerator)
    return placement.count * shape.accelerators if shape else 0


def _unplaced(store: StoreSnapshot) -> Mapping[str, Sequence[tuple[str, int, str]]]:
    found: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    for left_out in store.decision.unplaced if store.decision else ():
        found[left_out[0]].append(left_out)
    return found


def _lost(store: StoreSnapshot) -> frozenset[str]:
    return frozenset(
        stored.identity.name
        for stored in store.planes
        if stored.condition is not None and stored.condition.state is PlaneState.LOST
    )


class ReadyCounts:
    """READY replicas as reported; counts only the planes that have reported since it last did."""

    def __init__(self) -> None:
        """Have nothing counted."""
        self._counted: dict[str, tuple[PlaneReport, Sequence[tuple[str, str]]]] = {}
        self._ready: Counter[tuple[str, str]] = Counter()
        self._of: Counter[str] = Counter()

    def follow(
        self, observations: Mapping[str, Observation], lost: frozenset[str]
    ) -> tuple[Mapping[tuple[str, str], int], Mapping[str, int]]:
        """Return READY replicas by (deployment, pool) and by deployment; none of a lost plane."""
        for plane in self._counted.keys() - (observations.keys() - lost):
            self._add(self._counted.pop(plane)[1], -1)
        for plane, observation in observations.items():
            report = observation.report
            before, counted = self._counted.get(plane, (None, ()))
            if before is report or plane in lost:
                continue
            pairs = _ready_pairs(report)
            if pairs != counted:  # most reports say what the one before did
                self._add(counted, -1)
                self._add(pairs, 1)
            self._counted[plane] = (report, pairs)
        return dict(self._ready), dict(self._of)

    def _add(self, pairs: Sequence[tuple[str, str]], number: int) -> None:
        for pair in pairs:
            _count(self._ready, pair, number)
            _count(self._of, pair[0], number)


def _ready_pairs(report: PlaneReport) -> Sequence[tuple[str, str]]:
    """Return (deployment, pool) of every READY replica that a plane reports."""
    return [
        (replica.deployment, replica.pool)
        for replica in report.replicas
        if replica.state is ReplicaState.READY
    ]


def _count(counts: Counter[Any], key: Any, number: int) -> None:
    counts[key] += number
    if not counts[key]:
        del counts[key]  # else what is gone would be kept for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """The store at one moment and what planes reported by then."""

    index: StoreIndex
    observations: Mapping[str, Observation]
    now: datetime
    # READY replicas by (deployment, pool), and by deployment; none of a lost plane's last words.
    ready: Mapping[tuple[str, str], int]
    ready_of: Mapping[str, int]

    @property
    def store(self) -> StoreSnapshot:
        """Return all that is stored."""
        return self.index.store

    @property
    def pools(self) -> Mapping[str, StoredPool]:
        """Return the pools by name, with the terms that hold now."""
        return self.index.pools

    @property
    def set_pools(self) -> Mapping[str, StoredPool]:
        """Return the pools by name, with the terms that were set."""
        return self.index.set_pools

    @property
    def planes(self) -> Mapping[str, StoredPlane]:
        """Return the planes by name."""
        return self.index.planes

    @property
    def stored(self) -> Mapping[str, StoredDeployment]:
        """Return the deployments as stored by name."""
        return self.index.stored

    @property
    def placements(self) -> Mapping[str, Sequence[Placement]]:
        """Return the placements by deployment."""
        return self.index.placements

    @property
    def granted(self) -> Granted:
        """Return placements by their full names, with what planes are granted."""
        return self.index.granted

    @property
    def accelerators_placed(self) -> Mapping[str, int]:
        """Return how many accelerators placements take, by pool."""
        return self.index.accelerators_placed

    @property
    def unplaced(self) -> Mapping[str, Sequence[tuple[str, int, str]]]:
        """Return what the last decision left out, by deployment: (name, replicas, reason)."""
        return self.index.unplaced

    @property
    def projects(self) -> Sequence[str]:
        """Return the names of all projects, the fleet's own first."""
        return (DEFAULT_PROJECT, *(one.name for one in self.store.projects))

    def project_of(self, deployment: str) -> str:
        """Return whose a deployment is; what is of none that is stored is the fleet's own."""
        return self.index.owners.get(deployment, DEFAULT_PROJECT)

    def replicas(self) -> Iterator[tuple[str, ObservedReplica]]:
        """Yield every replica of every plane heard with its plane, in no order."""
        for plane, observation in self.observations.items():
            for replica in observation.report.replicas:
                yield plane, replica

    def accelerators(self, placement: Placement, deployment: Deployment | None = None) -> int:
        """Return how many accelerators a placement takes; 0 when it cannot be known."""
        wanted = deployment or self.index.deployments.get(placement.deployment)
        return _accelerators(placement, wanted, self.pools.get(placement.pool))

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
        self._reads = StoreReads(database, clock)
        self._reading = asyncio.Lock()
        self._index: StoreIndex | None = None
        self._commits = -1
        self._read_at = self._made_at = 0.0
        self._ready = ReadyCounts()
        self._view: FleetView | None = None

    def share(self, reads: StoreReads) -> None:
        """Read the store from now on together with whoever else looks at the whole of it."""
        self._reads = reads

    async def now(self) -> FleetView:
        """Return the fleet as it is: own commits at once, the rest within a second."""
        commits, moment = self._database.commits, self._clock.monotonic()
        index = self._index
        if index is None or self._is_behind(commits, moment):
            async with self._reading:
                # Whoever read while this caller waited may have read what it needs.
                if self._index is None or self._is_behind(commits, moment):
                    await self._take(commits, moment - STORE_SECONDS_MAX)
        assert self._index is not None, "it was read"
        return self._look(self._index)

    async def warm(self) -> None:
        """Read the store before anybody asks: of thousands of planes it takes seconds.

        Where it cannot be read yet, callers are told so.
        """
        try:
            await self.now()
        except Exception as error:  # as below
            _log.warning("views.not-read", error=repr(error))

    async def keep_fresh(self) -> None:
        """Read what others committed before a caller has to wait for it, for ever."""
        while True:
            await self._clock.sleep(STORE_SECONDS)
            try:
                async with self._reading:
                    over = self._clock.monotonic() - STORE_SECONDS
                    if self._read_at <= over:
                        await self._take(self._database.commits, over)
            except Exception as error:  # a row that cannot be read must not end who leads
                _log.warning("views.not-read", error=repr(error))

    def _is_behind(self, commits: int, moment: float) -> bool:
        return self._commits < commits or moment - self._read_at >= STORE_SECONDS_MAX

    async def _take(self, commits: int, over: float) -> None:
        """Put a read in place that has so many commits and began after `over`."""
        held, now = self._index, self._clock.now()
        read = self._reads.held  # the reconcile loop's, if it has just looked
        if read is None or read.commits < commits or read.began_at <= over:
            read = await self._reads.newest()
        store = read.store
        if held is None or store is not held.store or store.prices or store.reservations:
            # On another thread than the store's: both the loop and the store have callers.
            self._index = await asyncio.to_thread(index_store, store, now, held)
        self._commits, self._read_at = read.commits, read.began_at

    def _look(self, index: StoreIndex) -> FleetView:
        moment, view = self._clock.monotonic(), self._view
        if (
            view is not None
            and view.index is index
            and moment - self._made_at < REPORTS_SECONDS_MAX
        ):
            return view
        observations = dict(self._live.observations())
        ready, ready_of = self._ready.follow(observations, index.lost)
        now = self._clock.now()
        self._view = FleetView(
            index=index, observations=observations, now=now, ready=ready, ready_of=ready_of
        )
        self._made_at = moment
        return self._view
