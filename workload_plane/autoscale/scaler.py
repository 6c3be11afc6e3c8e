"""One deployment's number of replicas here: what there is and what came in, to a decision. PURE.

`LocalScaler` decides; here it is told what the plane has, and its number is split over the pools.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from skerry.fleet.autoscaling.decision import Bounds, ReplicaCounts, ScalingDecision
from skerry.fleet.autoscaling.factors import ScalingFactors, factors_of
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.local import COLD_START_SECONDS, LocalScaler
from skerry.fleet.autoscaling.work import Engine
from skerry.fleet.desired import Assignment
from skerry.fleet.observation import ReplicaState
from workload_plane.autoscale.sharing import PoolBounds, share
from workload_plane.converge.grants import surging
from workload_plane.replicas.records import ReplicaRecord

# A replica that failed is started again: it is one of those that are wanted.
_COUNTED = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a decision is made: by the monotonic clock, and by the clock on the wall."""

    now: float
    when: datetime
    is_heard: bool  # the control plane is, and the targets it set are those that it means now


class DeploymentScaler:
    """What a plane remembers of one deployment that it scales."""

    def __init__(self, assignment: Assignment) -> None:
        """Begin with nothing seen: nothing goes before a scale-down delay was watched."""
        self._factors = _factors(assignment)
        self._scaler = LocalScaler(self._factors)
        self._wanted: dict[str, int] = {}
        self._run: int | None = None
        self._surge = 0
        self.decision: ScalingDecision | None = None

    def observe(self, reading: LoadReading, run: int, *, whole: bool = True) -> None:
        """Take a reading, `whole` if every replica told what it did.

        What came between two runs of a picker was counted by nobody.
        """
        if self._run is not None and run != self._run:
            self._scaler.forget_load()
        self._run = run
        self._scaler.observe(reading, whole=whole)

    def decide(
        self,
        assignment: Assignment,
        replicas: Iterable[ReplicaRecord],
        engine: Engine | None,
        moment: Moment,
    ) -> dict[str, int]:
        """Return how many replicas each pool is to run, and keep the decision."""
        self._follow(assignment)
        self._surge = assignment.deployment.rollout.max_surge
        self._scaler.slots = float(assignment.deployment.revision.engine.concurrent_requests)
        pools = pools_of(assignment)
        there = [one for one in replicas if one.deployment == assignment.deployment.name]
        before = self._before(pools, there)
        bounds = self._bounds(assignment, pools, moment)
        decision = self._scaler.decide(
            moment.now,
            _counts(sum(before.values()), there),
            bounds,
            engine,
            cold_start_seconds(assignment, there),
        )
        self.decision = decision
        follows = bounds.target is not None and decision.target == bounds.target
        self._wanted = share(decision.target, pools, {} if follows else before)
        return dict(self._wanted)

    def _follow(self, assignment: Assignment) -> None:
        """Take up changed factors; what was seen stays, unless it was seen for another window."""
        factors = _factors(assignment)
        before, self._factors = self._factors, factors
        if factors == before:
            return
        seen_by = (factors.window_seconds, factors.target_utilization)
        if seen_by != (before.window_seconds, before.target_utilization):
            self._scaler = LocalScaler(factors)
        else:
            self._scaler.factors = factors

    def _before(
        self, pools: Sequence[PoolBounds], there: Sequence[ReplicaRecord]
    ) -> dict[str, int]:
        """Return what is wanted until now, inside the envelopes as they are now.

        After a start of the agent: all that runs or is being started again, less a rollout's surge,
        and no less than was granted. A replica that ends, or one more while another is replaced,
        changes no wish.
        """
        found = {}
        for one in pools:
            wanted = self._wanted.get(one.pool)
            here = [
                (replica.revision, replica.state)
                for replica in there
                if replica.pool == one.pool and replica.state in _COUNTED
            ]
            if wanted is None:
                wanted = max(len(here) - surging(here, self._surge), one.target)
            elif wanted == 0 and here:
                wanted = 1  # woken by a request, between two decisions
            found[one.pool] = min(max(wanted, one.floor), one.ceiling)
        return found

    def _bounds(
        self, assignment: Assignment, pools: Sequence[PoolBounds], moment: Moment
    ) -> Bounds:
        scaling, terms = assignment.deployment.scaling, assignment.scaling
        floor, ceiling = sum(one.floor for one in pools), sum(one.ceiling for one in pools)
        target = sum(one.target for one in pools)
        follows = terms is not None and terms.fleet_target and moment.is_heard
        scheduled = 0
        if not follows:
            # In the fleet's target is the whole floor. Parts rounded up above it would look like
            # need to the fleet's loop, which would raise targets as long as the schedule lasts.
            part = ceiling / max(1, self._factors.max_replicas)
            scheduled = min(self._factors.scheduled_share(moment.when, part), ceiling)
        if scaling.min_replicas and target:
            # The last of what others may rely on goes by their word only.
            floor = min(max(floor, 1), ceiling)
        return Bounds(
            floor=floor,
            ceiling=ceiling,
            target=target if follows else None,
            scheduled=scheduled,
            min_available=floor,
        )


def pools_of(assignment: Assignment) -> tuple[PoolBounds, ...]:
    """Return the envelopes of an assignment, in its order."""
    return tuple(
        PoolBounds(pool=one.pool, floor=one.floor, target=one.target, ceiling=one.ceiling)
        for one in assignment.envelopes
    )


def cold_start_seconds(assignment: Assignment, there: Iterable[ReplicaRecord]) -> float:
    """Return how long a replica takes to serve: as it took here, as was told, as most do."""
    number = assignment.deployment.revision.number
    took = [one.start_seconds for one in there if one.revision == number and one.start_seconds]
    if took:
        return max(took)
    told = assignment.scaling.cold_start_seconds if assignment.scaling is not None else 0.0
    return told or COLD_START_SECONDS


def mean_engine(parts: Mapping[str, tuple[Engine | None, int]]) -> Engine | None:
    """Return the engine that stands for several kinds, each so many times; None: one is unknown."""
    counted = [(engine, max(0, count)) for engine, count in parts.values()]
    if not any(count for _, count in counted):
        counted = [(engine, 1) for engine, _ in counted]
    known = [(engine, count) for engine, count in counted if count]
    if not known or any(engine is None for engine, _ in known):
        return None
    if len(known) == 1:
        return known[0][0]
    total = sum(count for _, count in known)

    def mean(of: str) -> float:
        told = (getattr(one.coefficients, of) * count for one, count in known if one is not None)
        return math.fsum(told) / total

    first = known[0][0]
    assert first is not None, "unknown ones have returned already"
    return Engine(
        coefficients=replace(
            first.coefficients,
            prefill_seconds_per_token=mean("prefill_seconds_per_token"),
            decode_seconds_per_token=mean("decode_seconds_per_token"),
            iteration_seconds=mean("iteration_seconds"),
        ),
        batch=math.fsum(one.batch * count for one, count in known if one is not None) / total,
    )


def _factors(assignment: Assignment) -> ScalingFactors:
    factors = factors_of(assignment.deployment.scaling)
    terms = assignment.scaling
    return replace(factors, warm_spares=terms.warm_spares if terms is not None else 0)


def _counts(wanted: int, there: Sequence[ReplicaRecord]) -> ReplicaCounts:
    """Return what there is of what is wanted: what is not READY yet is being started."""
    ready = min(wanted, sum(one.state is ReplicaState.READY for one in there))
    draining = sum(one.state is ReplicaState.DRAINING for one in there)
    return ReplicaCounts(ready=ready, starting=wanted - ready, draining=draining)
