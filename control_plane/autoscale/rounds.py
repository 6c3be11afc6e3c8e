"""The rounds of the global loop: what each deployment's load needs, and what is decided for it.

`reconcile.loop` hears planes' loads with it and has it decide every half minute. It remembers loads
and nothing else: a new leader's is empty, so it holds what its predecessor decided. No I/O.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from control_plane.autoscale.costs import LearnedCosts
from control_plane.autoscale.demand import Provision, Wish, provide
from control_plane.autoscale.flying import Flying, flying_at, helped, need_of
from control_plane.autoscale.shares import Loads, Scene, shares_by_deployment
from control_plane.autoscale.targets import understands
from control_plane.reconcile.snapshot import Demand
from scheduler.problem import PlacementProblem
from skerry.fleet.autoscaling.decision import Because
from skerry.fleet.autoscaling.factors import ScalingFactors, Strategy, factors_of
from skerry.fleet.autoscaling.fleetwide import FleetDecision, FleetScaler, PlaneShare, listed
from skerry.fleet.autoscaling.local import COLD_START_SECONDS
from skerry.fleet.autoscaling.need import Need
from skerry.fleet.autoscaling.scaled import (
    RECORD_PLANES_MAX,
    FleetRecord,
    Scaled,
    ShareRecord,
    most_changed,
)
from skerry.fleet.autoscaling.told import COLD_START_SECONDS_MAX
from skerry.fleet.cold_start import ColdStarts, StartKind, estimate
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import PlaneState
from skerry.fleet.placement import Placement
from skerry.fleet.profile import Profiles, configuration_digest, profile_key

TOLERANCE = 1e-9
# What planes are told of cold starts moves in steps: each would be another desired state.
COLD_START_STEP = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a round decided of a deployment, what held before, and the record, None of a repeat."""

    scaled: Scaled
    before: Scaled | None
    record: FleetRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a round rests on beside the scene; `problem` is only made where something is short."""

    scene: Scene
    starts: ColdStarts
    placed: Sequence[Placement]
    problem: Callable[[], PlacementProblem]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A deployment half decided: before it is known what there is room for."""

    decision: FleetDecision
    shares: Sequence[PlaneShare]
    before: Scaled | None
    targets: tuple[tuple[str, int], ...]
    cold_start_seconds: float
    wish: Wish
    by_planes: Need | None  # what those that count requests in flight ask for together
    callers: tuple[str, ...]  # planes whose users have one run elsewhere


class Rounds:
    """A `FleetScaler` for each deployment that scales, fed by what planes report."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self._demands: tuple[Demand, ...] | None = None
        self._scalers: dict[str, FleetScaler] = {}
        self._told: dict[str, FleetRecord] = {}
        self._costs = LearnedCosts()
        self.failed: dict[str, str] = {}  # of the last round: what held a deployment as it is

    def forget(self) -> None:
        """Begin anew, as another term does: what others decided meanwhile was on other grounds."""
        self._demands = None
        self._scalers, self._told, self._costs = {}, {}, LearnedCosts()

    def hear(self, demands: tuple[Demand, ...], loads: Loads) -> None:
        """Take what planes counted, each reading as of the moment it was heard."""
        self._follow(demands)
        for plane, report in loads.items():
            for load in report.readings().loads:
                scaler = self._scalers.get(load.deployment)
                if scaler is not None and load.reading is not None:
                    scaler.observe(plane, load.reading)

    def decide(self, now: float, basis: Basis) -> tuple[Outcome, ...]:
        """Return what is decided now of every deployment that scales; `now` as readings have it."""
        scene = basis.scene
        self._follow(scene.snapshot.demands)
        shares = shares_by_deployment(scene, self._costs)
        judged, self.failed = [], {}
        for demand in scene.snapshot.demands:
            name = demand.deployment.name
            if name not in shares:
                continue
            try:
                judged.append(self._judge(now, demand.deployment, shares[name], basis))
            except (ArithmeticError, ValueError) as error:
                # What no formula bears holds its own deployment as it is, and no other.
                self.failed[name] = repr(error)
        provided = provide([one.wish for one in judged], basis.problem, basis.placed, basis.scene)
        return tuple(self._outcome(one, provided, basis) for one in judged)

    def _follow(self, demands: tuple[Demand, ...]) -> None:
        """Have a scaler for each deployment that scales, with the factors it has now."""
        if demands is self._demands:
            return
        self._demands = demands
        wanted = {d.deployment.name: d.deployment for d in demands if d.deployment.scaling.scales}
        for gone in self._scalers.keys() - wanted.keys():
            del self._scalers[gone]
            self._told.pop(gone, None)
        for name, deployment in wanted.items():
            factors = factors_of(deployment.scaling)
            held = self._scalers.get(name)
            if held is None or _is_another_rule(held.factors, factors):
                self._scalers[name] = FleetScaler(factors)
            else:
                held.factors = factors

    def _judge(
        self, now: float, deployment: Deployment, shares: Sequence[PlaneShare], basis: Basis
    ) -> _Judged:
        snapshot = basis.scene.snapshot
        scaler, before = self._scalers[deployment.name], snapshot.scaled(deployment.name)
        users_at, own = scaler.users_at(now), shares
        shares = [*shares, *_guests(users_at, shares, basis.scene)]
        cold = cold_start_of(deployment, basis.starts, snapshot.profiles, before)
        decision = scaler.decide(now, snapshot.now, shares, cold or COLD_START_SECONDS)
        factors, paused = scaler.factors, decision.because is Because.PAUSED
        callers = () if paused or decision.need is not None else _callers(users_at, own)
        floor = max(
            factors.min_replicas, factors.scheduled_floor(snapshot.now), 1 if callers else 0
        )
        if paused and before is not None:
            floor = min(max(before.floor, factors.min_replicas), factors.max_replicas)
        demand = max(before.demand if before is not None else 0, floor, 1)
        flying = (
            {} if decision.need is not None else flying_at(deployment, shares, basis.scene.loads)
        )
        tellers = {share.plane for share in shares if understands(snapshot, share.plane)}
        wanted = _wanted(decision, shares, flying)
        if wanted is None:  # silence asks for no more and no less than was wanted
            wanted = demand if paused or before is None else before.wanted
        return _Judged(
            decision=decision,
            shares=shares,
            before=before,
            targets=_targets(deployment, decision, shares, before, flying, tellers),
            cold_start_seconds=cold,
            by_planes=None if paused else need_of(deployment, flying),
            callers=callers,
            wish=Wish(
                deployment=deployment,
                wanted=min(max(wanted, floor), factors.max_replicas),
                floor=floor,
                ceiling=sum(share.ceiling for share in shares),
                demand=min(demand, factors.max_replicas),
                placed=sum(p.count for p in basis.placed if p.deployment == deployment.name),
            ),
        )

    def _outcome(self, judged: _Judged, provided: Mapping[str, Provision], basis: Basis) -> Outcome:
        wish = judged.wish
        name, found = wish.deployment.name, provided[wish.deployment.name]
        scaled = Scaled(
            deployment=name,
            demand=max(found.demand, wish.floor),
            floor=wish.floor,
            targets=judged.targets,
            wanted=wish.wanted,
            unmet=found.unmet,
            unmet_dollars_per_hour=(
                found.unmet * found.dollars_per_hour
                if found.unmet and found.dollars_per_hour is not None
                else None
            ),
            cold_start_seconds=judged.cold_start_seconds,
        )
        record = _record(judged, scaled, found, basis)
        last, self._told[name] = self._told.get(name), record
        return Outcome(
            scaled=scaled,
            before=judged.before,
            record=None if _is_repeat(record, last) else record,
        )


def _guests(
    users_at: Sequence[str], shares: Sequence[PlaneShare], scene: Scene
) -> list[PlaneShare]:
    """Return shares of nothing for planes whose users are served elsewhere: their load counts.

    Their requests cost what they do where costs are known; where they are nowhere, nothing is said.
    """
    engine = next((share.engine for share in shares if share.engine is not None), None)
    known = {share.plane for share in shares}
    return [
        PlaneShare(plane=plane, running=0, floor=0, ceiling=0, engine=engine)
        for plane in users_at
        if engine is not None
        and plane not in known
        and plane in scene.conditions
        and scene.conditions[plane].state is not PlaneState.LOST
    ]


def _callers(users_at: Sequence[str], shares: Sequence[PlaneShare]) -> tuple[str, ...]:
    """Return the planes whose users are served elsewhere or nowhere: they may run none there.

    A sum of work would count them. Where there is none, planes that may run one see none of their
    requests, which wait for it.
    """
    may = {share.plane for share in shares if share.ceiling}
    return tuple(plane for plane in users_at if plane not in may)


def cold_start_of(
    deployment: Deployment, starts: ColdStarts, profiles: Profiles, before: Scaled | None
) -> float:
    """Return how long a start takes where it takes longest, 0 where nobody knows.

    It moves in steps of a quarter, and only when it is a whole one from what planes were told.
    """
    revision, found = deployment.revision, 0.0
    for shape in revision.shapes:
        kind = StartKind(
            base_model=revision.base_model.uri,
            engine=revision.engine.name,
            accelerator=shape.accelerator,
            configuration=configuration_digest(revision.engine),
        )
        told = estimate(kind, starts, profiles.get(profile_key(revision, shape)))
        found = max(found, told.seconds or 0.0)
    held = before.cold_start_seconds if before is not None else 0.0
    if found <= 0.0:
        return held
    if held > 0.0 and held / COLD_START_STEP < found < held * COLD_START_STEP:
        return held
    step = math.ceil(math.log(max(found, 1.0)) / math.log(COLD_START_STEP) - TOLERANCE)
    return min(round(COLD_START_STEP**step, 1), COLD_START_SECONDS_MAX)


def _is_another_rule(held: ScalingFactors, now: ScalingFactors) -> bool:
    """Say whether what was remembered is of no use any more; bounds and schedules keep it."""
    same = (held.strategy, held.window_seconds, held.target_utilization)
    return same != (now.strategy, now.window_seconds, now.target_utilization)


def _targets(
    deployment: Deployment,
    decision: FleetDecision,
    shares: Sequence[PlaneShare],
    before: Scaled | None,
    flying: Mapping[str, Flying],
    tellers: Collection[str],
) -> tuple[tuple[str, int], ...]:
    """Return the targets by plane that hold now; without signals those of before do."""
    found, held = [], dict(before.targets if before is not None else ())
    if deployment.scaling.strategy is Strategy.CONCURRENCY and decision.because != Because.PAUSED:
        return helped(shares, flying, held, tellers)  # the published rule knows no sum
    if decision.need is None:
        return before.targets if before is not None else ()
    unheard = set(decision.unheard)
    for share in shares:
        if share.engine is None or not share.ceiling:
            continue  # it counts by concurrency there, or has no place there
        target = decision.targets[share.plane]
        if share.plane in unheard:  # what it runs may have fallen without our hearing
            target = min(max(target, held.get(share.plane, 0)), share.ceiling)
        found.append((share.plane, target))
    return tuple(sorted(found))


def _wanted(
    decision: FleetDecision,
    shares: Sequence[PlaneShare],
    told: Mapping[str, Flying],
) -> int | None:
    """Return how many replicas are needed over all planes, None where nothing is known of it."""
    if decision.because is Because.PAUSED:
        return None
    if decision.need is not None:
        return decision.total + decision.unmet
    if not told:
        return None
    return sum(
        told[share.plane].wants if share.plane in told else share.running for share in shares
    )


def _record(judged: _Judged, scaled: Scaled, provision: Provision, basis: Basis) -> FleetRecord:
    decision, wish, targets = judged.decision, judged.wish, dict(scaled.targets)
    unheard = set(decision.unheard)
    shares = most_changed(
        [
            ShareRecord(
                plane=share.plane,
                running=share.running,
                floor=share.floor,
                ceiling=share.ceiling,
                target=targets.get(share.plane),
                price_per_hour=share.price_per_hour,
                heard=share.plane not in unheard,
            )
            for share in judged.shares
        ]
    )
    return FleetRecord(
        deployment=scaled.deployment,
        decided_at=basis.scene.snapshot.now,
        sentence=_sentence(judged, scaled, provision),
        because=decision.because.value,
        running=decision.running,
        total=decision.total,
        wanted=scaled.wanted,
        unmet=provision.unmet + provision.floor_unmet,
        demand=scaled.demand,
        floor=wish.floor,
        unmet_dollars_per_hour=provision.unmet_dollars_per_hour,
        need=decision.need or judged.by_planes,
        highest=decision.highest,
        unheard=decision.unheard[:RECORD_PLANES_MAX],
        shares=shares,
        more_planes=len(judged.shares) - len(shares),
        dollars_per_hour=_dollars(judged.shares, targets),
    )


def _dollars(shares: Sequence[PlaneShare], targets: Mapping[str, int]) -> float | None:
    """Return what the targets cost an hour, None where a price of what runs is not told."""
    counts = [(targets.get(one.plane, one.running), one.price_per_hour) for one in shares]
    if any(many and price <= 0.0 for many, price in counts):
        return None
    return math.fsum(many * price for many, price in counts)


def _sentence(judged: _Judged, scaled: Scaled, provision: Provision) -> str:
    decision, wish = judged.decision, judged.wish
    if decision.need is not None:
        told = decision.describe().removesuffix(".")
    else:
        shares = listed(f"{share.plane} {share.running}" for share in judged.shares)
        told = f"{decision.running} replicas ({shares or 'none'}) {_why(judged)}"
        if judged.by_planes is not None:
            told += f"; together they have {judged.by_planes.describe()}"
    if judged.callers:
        told += f"; one at least runs for users at {listed(judged.callers)}, where none may"
    if scaled.demand > max(wish.floor, 1):
        told += f"; {scaled.demand} are to be placed, above the floor of {wish.floor}"
    if provision.floor_unmet:
        least = max(wish.deployment.scaling.min_replicas, 1 if judged.callers else 0)
        by = "by the schedule" if wish.floor > least else "of all"
        why = "no pool has free accelerators for them"
        if not provision.has_pools:
            why = "no pool may take them"
        told += f"; the floor of {wish.floor} {by} lacks {provision.floor_unmet}: {why}"
    if scaled.unmet:
        what = "free accelerators" if provision.has_pools else "pool that may take them"
        told += f"; {scaled.unmet} of {scaled.wanted} find no {what}"
    if (dollars := provision.unmet_dollars_per_hour) is not None:
        told += f" (they would cost ${dollars:,.2f} an hour)"
    return f"{told}."


def _why(judged: _Judged) -> str:
    if judged.decision.because is Because.PAUSED:
        return "stay as they are: autoscaling is paused"
    if judged.wish.deployment.scaling.strategy is Strategy.CONCURRENCY:
        return "are left to each plane, which counts requests in flight"
    if any(share.engine is not None for share in judged.shares):
        return "stay as they are: no plane has told its load yet, which takes nothing away"
    return (
        "are left to each plane, which counts requests in flight: what tokens cost there was not"
        " measured (`skerry profile`)"
    )


def _is_repeat(record: FleetRecord, last: FleetRecord | None) -> bool:
    """Say whether nothing was decided but to go on as before, without anything that was counted."""
    if last is None or record.need is not None:
        return False
    return replace(record, decided_at=last.decided_at) == last
