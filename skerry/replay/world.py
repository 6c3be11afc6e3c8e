"""A fleet of regions under a virtual clock: replicas that start, serve, drain and are billed.

`run` asks a policy every few seconds and does what it says. A cold start is billed; a replica that
drains is billed until its last answer. `compiled_world` has the requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from scheduler.compiled import Floats, Ints
from skerry.fleet.autoscaling.decision import ReplicaCounts
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.work import Engine, engine_of
from skerry.fleet.coefficients import Coefficients
from skerry.replay.arrivals import Arrivals
from skerry.replay.compiled_world import (
    ARRIVED,
    COUNT_DRAINING,
    COUNT_READY,
    COUNT_STARTING,
    DRAINING,
    FINISHED,
    FREE,
    GAUGES,
    GOOD,
    IN_FLIGHT,
    JUDGED,
    OUTPUT,
    PROMPT,
    READY,
    STARTING,
    WAITING,
    WAITING_TOKENS,
    Rules,
    State,
    Trace,
    advance,
    new_state,
    read,
    settle,
)

TICK_SECONDS = 5.0  # of the plane's loop
REGIONS_MAX = 64
REPLICAS_OF_REGION_MAX = 512
BATCH_MAX = 1_024
# After the last request; what is not answered by then missed its objective.
TAIL_SECONDS = 3_600.0
SERIES_SECONDS = 60.0
BEGAN = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionFleet:
    """What one region may run, and what a replica costs there an hour, in dollars."""

    name: str
    floor: int
    ceiling: int
    price_per_hour: float

    def __post_init__(self) -> None:
        """Refuse what the world has no room for."""
        if not 0 <= self.floor <= self.ceiling <= REPLICAS_OF_REGION_MAX:
            raise ValueError(f"{self.name}: need 0 <= floor <= ceiling <= {REPLICAS_OF_REGION_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetModel:
    """Regions, an engine with its batch and its cold start, the objective, and spillover.

    Requests go to a peer when the best replica here has `spill_at` in flight and one there has
    `spill_margin` fewer; 0 is never. `chunk_tokens`: of prompts in one iteration. `began`: when
    second 0 was, with its time zone; schedules go by it.
    """

    regions: tuple[RegionFleet, ...]
    coefficients: Coefficients
    batch: int = 64
    chunk_tokens: int = 2_048
    cold_start_seconds: float = 120.0
    ttft_seconds: float = 2.0
    ttft_seconds_per_token: float = 0.00025
    tpot_seconds: float = 0.08
    spill_at: int = 0
    spill_margin: int = 2
    peer_seconds: float = 0.1
    tick_seconds: float = TICK_SECONDS
    began: datetime = BEGAN

    def __post_init__(self) -> None:
        """Refuse a fleet that can't be simulated."""
        if not 1 <= len(self.regions) <= REGIONS_MAX:
            raise ValueError(f"a fleet has 1 to {REGIONS_MAX} regions, not {len(self.regions)}")
        if not 1 <= self.batch <= BATCH_MAX:
            raise ValueError(f"batch must be 1..{BATCH_MAX}, not {self.batch}")
        if self.chunk_tokens < 1 or self.tick_seconds <= 0.0 or self.cold_start_seconds < 0.0:
            raise ValueError("chunk_tokens and tick_seconds must be above 0")
        if self.coefficients.iteration_seconds <= 0.0:
            raise ValueError("an engine's iteration must take time")
        if self.began.tzinfo is None:
            raise ValueError("when a trace began needs a time zone")

    @property
    def engine(self) -> Engine:
        """Return what the policies know of a replica: what was fitted, not what is simulated."""
        return engine_of(self.coefficients, self.batch, self.tpot_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSeen:
    """What a policy may know of a region: what was counted there, and what runs."""

    reading: LoadReading
    counts: ReplicaCounts


class Policy(Protocol):
    """Decides how many replicas each region is to run."""

    name: str

    def targets(self, now: float, seen: Sequence[RegionSeen]) -> Sequence[int]:
        """Return the number of each region, starting ones counted."""
        ...


@dataclass(slots=True, kw_only=True)
class Series:
    """What is plotted: per minute the replicas that are paid, and answers and misses till then."""

    at: list[float] = field(default_factory=list)
    replicas: list[tuple[int, ...]] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)
    good: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy made of a trace; reversals are ups after downs within one cold start, or back.

    `attainment` is the part of all requests that met the objective, of those that the trace has.
    """

    policy: str
    requests: int
    attainment: float
    replica_hours: float
    dollars: float
    target_changes: int
    reversals: int
    starts: int
    spilled: float
    peak_replicas: int
    series: Series

    def figures(self) -> dict[str, float | int | str]:
        """Return everything but the series."""
        told = (one.name for one in fields(self) if one.name != "series")
        return {name: getattr(self, name) for name in told}


class World:
    """The replicas of a fleet while a trace is replayed."""

    def __init__(self, fleet: FleetModel, arrivals: Arrivals) -> None:
        """Begin with every region at its floor, ready."""
        assert arrivals.region.max(initial=0) < len(fleet.regions), "a region that is not there"
        self.fleet = fleet
        self.slots = max(1, *(2 * region.ceiling for region in fleet.regions))
        self.trace = Trace(arrivals.at, arrivals.region, arrivals.prompt, arrivals.output)
        self.rules = _rules(fleet)
        regions = len(fleet.regions)
        self.state: State = new_state(regions, self.slots, fleet.batch, len(arrivals.at))
        self.ready_at: Floats = np.zeros(regions * self.slots)
        self.gauges: Floats = np.zeros((regions, GAUGES))
        self.starts = 0
        for number, region in enumerate(fleet.regions):
            self.warm(number, region.floor)

    def warm(self, region: int, replicas: int) -> None:
        """Have so many replicas ready before the trace begins."""
        first = region * self.slots
        self.state.status[first : first + replicas] = READY

    def counts(self, region: int) -> ReplicaCounts:
        """Return what a region ran when `look` was called."""
        gauges = self.gauges[region]
        return ReplicaCounts(
            ready=int(gauges[COUNT_READY]),
            starting=int(gauges[COUNT_STARTING]),
            draining=int(gauges[COUNT_DRAINING]),
        )

    def reading(self, region: int, now: float) -> LoadReading:
        """Return a region's counters as `look` last saw them."""
        totals = self.state.counters[region].tolist()
        gauges = self.gauges[region].tolist()
        return LoadReading(
            at=now,
            requests_total=totals[ARRIVED],
            prompt_tokens_total=totals[PROMPT],
            finished_total=totals[FINISHED],
            output_tokens_total=totals[OUTPUT],
            in_flight=gauges[IN_FLIGHT],
            waiting_requests=gauges[WAITING],
            waiting_prompt_tokens=gauges[WAITING_TOKENS],
            judged_total=totals[JUDGED],
            good_total=totals[GOOD],
        )

    def pass_time(self, first: int, now: float, until: float) -> int:
        """Let requests come up to a moment; return the next that will."""
        return int(advance(self.state, self.trace, self.rules, first, now, until))

    def look(self) -> None:
        """Read the gauges of all regions."""
        read(self.state, self.gauges)

    def settle(self, now: float) -> None:
        """Let starts end, and replicas that have drained go."""
        settle(self.state, self.ready_at, now)

    def scale(self, region: int, target: int, now: float) -> None:
        """Do what was decided: revive, then start; give up starts, then drain the idlest."""
        status, first = self._status(region), region * self.slots
        running = int(np.count_nonzero((status == READY) | (status == STARTING)))
        target = min(target, self.fleet.regions[region].ceiling)
        if target > running:
            draining = np.flatnonzero(status == DRAINING)[: target - running]
            status[draining] = READY
            free = np.flatnonzero(status == FREE)[: target - running - len(draining)]
            status[free] = STARTING
            self.ready_at[first + free] = now + self.fleet.cold_start_seconds
            self.starts += len(free)
            return
        surplus = running - target
        starting = np.flatnonzero(status == STARTING)
        newest = starting[np.argsort(-self.ready_at[first + starting], kind="stable")][:surplus]
        status[newest] = FREE
        ready = np.flatnonzero(status == READY)
        busy = (self.state.decoding + self.state.queued)[first + ready]
        status[ready[np.argsort(busy, kind="stable")][: surplus - len(newest)]] = DRAINING

    def paid(self) -> tuple[int, ...]:
        """Return how many replicas of each region are paid, as `look` last saw them."""
        counts = self.gauges[:, COUNT_STARTING:].sum(axis=1).tolist()
        return tuple(int(count) for count in counts)

    def _status(self, region: int) -> Ints:
        return self.state.status[region * self.slots : (region + 1) * self.slots]


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What adds up on the way."""

    seconds: list[float]
    last: list[int]
    changes: int = 0
    reversals: int = 0
    peak: int = 0
    moved_at: list[float] = field(default_factory=list)
    way: list[int] = field(default_factory=list)

    def decided(self, targets: Sequence[int], now: float, cold_start: float) -> None:
        """Count changes of targets, and those that take the last one back too soon."""
        for region, target in enumerate(targets):
            way = (target > self.last[region]) - (target < self.last[region])
            if not way:
                continue
            self.changes += 1
            if way == -self.way[region] and now - self.moved_at[region] < cold_start:
                self.reversals += 1
            self.last[region], self.way[region], self.moved_at[region] = target, way, now


def run(
    fleet: FleetModel, arrivals: Arrivals, policy: Policy, warm: Sequence[int] | None = None
) -> Outcome:
    """Replay a trace under a policy; `warm` replicas of each region are ready at its beginning."""
    world = World(fleet, arrivals)
    for region, replicas in enumerate(warm or ()):
        world.warm(region, min(max(replicas, 0), fleet.regions[region].ceiling))
    names = range(len(fleet.regions))
    world.look()
    tally = _Tally(
        seconds=[0.0 for _ in names],
        last=[world.counts(region).running for region in names],
        moved_at=[-1e18 for _ in names],
        way=[0 for _ in names],
    )
    series = Series()
    ends_at = float(arrivals.at[-1]) if len(arrivals.at) else 0.0
    now, request, tick = 0.0, 0, 0
    while True:
        world.settle(now)
        world.look()
        if request >= len(arrivals.at) and now > ends_at:
            if not world.gauges[:, IN_FLIGHT].any() or now > ends_at + TAIL_SECONDS:
                break
        else:
            _decide(world, policy, now, tally)
            world.look()
        paid = world.paid()
        # What is paid after the last request came would count against who answers late twice.
        if now <= ends_at:
            for region in names:
                tally.seconds[region] += paid[region] * fleet.tick_seconds
            tally.peak = max(tally.peak, sum(paid))
        if now >= len(series.at) * SERIES_SECONDS:
            _plot(world, series, now, paid)
        tick += 1
        until = tick * fleet.tick_seconds
        request = world.pass_time(request, now, until)
        now = until
    return _outcome(world, policy, tally, series)


def _decide(world: World, policy: Policy, now: float, tally: _Tally) -> None:
    regions = range(len(world.fleet.regions))
    seen = [
        RegionSeen(reading=world.reading(region, now), counts=world.counts(region))
        for region in regions
    ]
    targets = policy.targets(now, seen)
    tally.decided(targets, now, world.fleet.cold_start_seconds)
    for region in regions:
        if targets[region] != seen[region].counts.running:
            world.scale(region, targets[region], now)


def _plot(world: World, series: Series, now: float, paid: tuple[int, ...]) -> None:
    series.at.append(now)
    series.replicas.append(paid)
    series.judged.append(float(world.state.counters[:, JUDGED].sum()))
    series.good.append(float(world.state.counters[:, GOOD].sum()))


def _outcome(world: World, policy: Policy, tally: _Tally, series: Series) -> Outcome:
    hours = [seconds / 3_600.0 for seconds in tally.seconds]
    requests = len(world.trace.at)
    return Outcome(
        policy=policy.name,
        requests=requests,
        attainment=int(np.count_nonzero(world.state.met == 1)) / max(1, requests),
        replica_hours=sum(hours),
        dollars=sum(
            spent * region.price_per_hour
            for spent, region in zip(hours, world.fleet.regions, strict=True)
        ),
        target_changes=tally.changes,
        reversals=tally.reversals,
        starts=world.starts,
        spilled=float(world.state.served_away.sum()) / max(1, requests),
        peak_replicas=tally.peak,
        series=series,
    )


def _rules(fleet: FleetModel) -> Rules:
    costs = fleet.coefficients
    return Rules(
        prefill=costs.prefill_seconds_per_token,
        decode=costs.decode_seconds_per_token,
        iteration=costs.iteration_seconds,
        chunk=fleet.chunk_tokens,
        batch=fleet.batch,
        spill_at=fleet.spill_at,
        spill_margin=fleet.spill_margin,
        peer_seconds=fleet.peer_seconds,
        ttft_seconds=fleet.ttft_seconds,
        ttft_per_token=fleet.ttft_seconds_per_token,
        tpot_seconds=fleet.tpot_seconds,
    )
