"""wake -> load -> judge -> place -> plan -> apply -> wait; what is applied, `applying` stores.

`main.py` runs it. Every turn reads the whole truth; a lost wake-up costs a tick, nothing else.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from control_plane import instruments
from control_plane.autoscale.keeper import Autoscaler
from control_plane.autoscale.targets import scaled_envelopes
from control_plane.reconcile.applying import Applying
from control_plane.reconcile.budget import (
    WINDOW_SECONDS,
    Budget,
    Moved,
    bounded,
    budget_of,
    moves_between,
    recent,
)
from control_plane.reconcile.decision import decision_of, with_origins
from control_plane.reconcile.doors import Doors
from control_plane.reconcile.failover import Freeze, freeze_of, judge
from control_plane.reconcile.frozen import held_still, without_moves
from control_plane.reconcile.kept import Kept, with_kept
from control_plane.reconcile.memory import (
    Decided,
    Fingerprint,
    Inputs,
    digest_of,
    fingerprint,
    inputs_of,
    is_answered,
    is_at_rest,
    told_of,
)
from control_plane.reconcile.pace import aside, rest_after, share_evenly
from control_plane.reconcile.plan import plan_conditions, plan_desired
from control_plane.reconcile.problem import (
    current_placements,
    despite_settling,
    placement_problem,
    with_deployment,
)
from control_plane.reconcile.relocation import (
    MoveProposal,
    Relocation,
    check_heard,
    check_kept,
    check_promises,
    relocated,
    with_reason,
)
from control_plane.reconcile.rollout import plan_rollouts
from control_plane.reconcile.sight import Mark, Sight
from control_plane.reconcile.snapshot import Demand, Seen, Snapshot
from control_plane.reconcile.summary import summarise
from control_plane.reconcile.supply import supply_of
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext, leading_epoch
from control_plane.store.moves import put_moved
from control_plane.store.plans import Basis, Proposal, list_applied, put_decided
from control_plane.store.requests import Asked
from control_plane.store.rollouts import in_batches, put_rollouts
from control_plane.store.verdicts import record_freeze
from scheduler.plan import PlacementPlan
from scheduler.solve import UnusablePlan, keep_what_is
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Placement, counts_of
from skerry.fleet.rollout import STATES, Rollout
from skerry.plumbing import logs, tracing
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, Infeasible, SkerryError, StaleGeneration
from skerry.plumbing.tasks import first_of

_log = logs.get_logger(__name__)

TICK_SECONDS = 1.0  # leases lapse without anybody telling us
# A large fleet in which nothing moves is looked at whole no more often: for what nobody told us of,
# and for prices and reservations, which begin and end by themselves.
REST_SECONDS_MAX = 10.0
# A plan that fell back and left something without a place is no last word: a solver that was late
# or died may do better. Without this what it left waited for the next change of the fleet.
RETRY_SECONDS = 10.0
ACTOR = "control-plane:reconcile"
_MOVED_ON = "the fleet has changed since the move was made; look again and repeat it"
_ROLLOUTS = {state: instruments.ROLLOUTS.labels(state) for state in STATES}
_PLANES = {state: instruments.PLANES.labels(state.value) for state in PlaneState}
WAITS = "plans wait for an operator's approval; `skerry get plans` shows them"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """A plan that was not applied, and what it would change."""

    plan: PlacementPlan
    before: tuple[Placement, ...]
    solve_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    """A turn that found nothing to do; what it looked at, and until when it answers for others."""

    mark: Mark
    until: float


class ReconcileLoop:
    """Holds what one control plane is in the middle of; all deciding is done by pure functions."""

    def __init__(
        self, database: Database, sight: Sight, doors: Doors, clock: Clock, *, epoch: int
    ) -> None:
        self._database = database
        self._sight = sight
        self._doors = doors
        self._clock = clock
        self._epoch = epoch
        self._decided: Decided | None = None
        self._retry_at: float | None = None
        self._moved: tuple[Moved, ...] | None = None  # None: not read from the store yet
        self._freeze = ""
        self._seen: Seen | None = None
        self._applying = Applying(database, doors, self._context)
        self._quiet: Inputs | None = None  # of the last turn, if it had nothing to do
        self._told: Inputs | None = None  # by which nothing more was to be told
        self._rest: _Rest | None = None
        self._woken = asyncio.Event()
        self._autoscaler: Autoscaler | None = None
        if doors.loads is not None:
            self._autoscaler = Autoscaler(database, doors.loads, clock, self._context)

    @property
    def epoch(self) -> int:
        """Return the epoch this loop writes under, 0 while its control plane stands by."""
        return self._epoch

    def lead(self, epoch: int) -> None:
        """Write under this epoch from now on; 0: no more."""
        self._epoch = epoch
        # Planes are offered what is stored under every epoch anew.
        self._quiet = self._rest = self._told = None
        if self._autoscaler is not None:
            self._autoscaler.forget()
            self._note_targets()

    @property
    def is_recovering(self) -> bool:
        """Say whether operators' changes are refused: what planes hold is still taken in."""
        return self._doors.recovery is not None and self._doors.recovery.is_under_way

    @property
    def decided(self) -> Decided | None:
        """Return the plan in force and what it answers; None before the first of this run."""
        return self._decided

    @property
    def has_decided(self) -> bool:
        """Say whether a placement was decided in this run."""
        return self._decided is not None

    @property
    def seen(self) -> Seen | None:
        """Return what the last turn saw; None before the first."""
        return self._seen

    def wake(self) -> None:
        """Make the next turn start at once."""
        self._woken.set()

    async def run(self) -> None:
        """Turn for ever; raises StaleGeneration when another leader has taken over."""
        share_evenly()
        while True:
            self._woken.clear()
            began = self._clock.monotonic()
            try:
                # One that decides nothing and tells nobody is not sent.
                with tracing.span("reconcile.turn", idle=True, epoch=self._epoch):
                    await self.turn()
                instruments.TURNS.labels("done").inc()
            except StaleGeneration as error:
                if await self._is_deposed():
                    raise
                # Somebody else wrote in between: the next turn reads again.
                _log.info("reconcile.again", reason=str(error))
            except Exception:
                # One turn is lost, not the control plane: the next one starts from the whole truth.
                _log.exception("reconcile.turn-failed")
                instruments.TURNS.labels("failed").inc()
            seen = self._seen.snapshot if self._seen is not None else None
            if (rest := rest_after(seen, self._clock.monotonic() - began)) > 0.0:
                await self._clock.sleep(rest)
            await first_of(self._woken.wait(), self._clock.sleep(TICK_SECONDS))

    async def turn(self) -> None:
        """Do one turn: judge planes, place if anything it depends on moved, push what changed."""
        if await self._rests():
            return  # it would see what the last one saw
        snapshot = await self._sight.look()
        conditions = await aside(snapshot, judge, snapshot)
        self._seen = Seen(snapshot=snapshot, conditions=conditions)
        self._doors.judged(conditions)
        _count_planes(conditions)
        judged = await aside(snapshot, plan_conditions, snapshot, conditions)
        await self._applying.apply(judged)
        freeze = await aside(snapshot, freeze_of, snapshot)
        await self._raise_freeze(freeze)
        if await self._recovers(snapshot):
            return  # what the database has forgotten must not be decided against
        if self._decided is None and snapshot.is_waiting:
            return  # silence decides nothing: not that of a start,
        snapshot = without_moves(snapshot, freeze)  # and not that of a fault of ours
        snapshot = await self._scale(snapshot, conditions)
        inputs = await aside(snapshot, inputs_of, snapshot, conditions)
        if inputs is not None and inputs == self._quiet and not self._is_retry_due():
            if not judged and not freeze.frozen:
                self._begin_rest(snapshot)
            self._note_targets()
            return  # all was decided, stored and told already
        self._quiet = None
        budget = await self._budget(snapshot)
        if not snapshot.policy.advisory:  # what an operator approves is no move of ours
            snapshot = replace(snapshot, policy=bounded(snapshot.policy, budget))
        seen = await aside(snapshot, fingerprint, snapshot, conditions)
        answered = is_answered(self._decided, seen, snapshot) and not self._is_retry_due()
        if not answered:
            await self._place(snapshot, conditions, seen)
            # Solving took its time: a plane may have joined or gone meanwhile.
            snapshot, inputs = await self._sight.look(), None
            conditions = await aside(snapshot, judge, snapshot)
            # Who is lost by now is stored so before others are given its share.
            await self._applying.apply(await aside(snapshot, plan_conditions, snapshot, conditions))
            if await self._recovers(snapshot):
                return  # who came meanwhile holds more than the database knows
        if self._decided is None:
            return
        envelopes = await aside(snapshot, scaled_envelopes, self._decided.plan.envelopes, snapshot)
        snapshot = replace(snapshot, envelopes=envelopes)
        snapshot = await self._roll(snapshot, conditions)
        told = await aside(snapshot, told_of, snapshot, conditions)
        if told == self._told:
            self._quiet = inputs
            self._note_targets()
            return  # while a rollout waits, thousands of planes are not to be told what they know
        self._told = None
        actions = await aside(snapshot, plan_desired, snapshot, conditions)
        await self._applying.apply(actions)
        await self._applying.push_all(snapshot)
        self._note_targets()
        self._quiet, self._told = (None, None) if actions else (inputs, told)

    async def _rests(self) -> bool:
        """Say whether the last turn had nothing to do, and nothing has moved since."""
        rest, self._rest = self._rest, None
        if rest is None or self._is_retry_due() or self._clock.monotonic() >= rest.until:
            return False
        if not rest.mark.is_same(await self._sight.mark()):
            return False
        self._rest = rest
        return True

    def _begin_rest(self, snapshot: Snapshot) -> None:
        if isinstance(snapshot.mark, Mark) and is_at_rest(snapshot):
            until = self._clock.monotonic() + REST_SECONDS_MAX
            self._rest = _Rest(mark=snapshot.mark, until=until)

    async def _scale(
        self, snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]
    ) -> Snapshot:
        """Return the snapshot with the targets that load asks for by now."""
        if self._autoscaler is None:
            return snapshot
        plan = self._decided.plan if self._decided is not None else None
        try:
            return await self._autoscaler.turn(snapshot, conditions, plan)
        except StaleGeneration:
            raise
        except Exception:
            # Targets stay as they are; placing, failing over and telling planes go on.
            _log.exception("scaling.failed")
            return snapshot

    def _note_targets(self) -> None:
        """Let planes know of which round the targets are that they were told: all were, by now."""
        if self._autoscaler is not None and self._doors.targets is not None:
            self._doors.targets(self._autoscaler.ended_at)

    async def _recovers(self, snapshot: Snapshot) -> bool:
        recovery = self._doors.recovery
        return recovery is not None and await recovery.holds(snapshot, self._epoch)

    async def _roll(self, snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]) -> Snapshot:
        """Store how rollouts go on, before any plane is told what they allow."""
        held = {one.deployment: one for one in snapshot.rollouts}
        moved = await aside(snapshot, plan_rollouts, snapshot, conditions)
        for batch in in_batches([(one, held.get(one.deployment)) for one in moved]):
            await self._database.run(put_rollouts, self._context(), batch)
            for rollout, _ in batch:
                held[rollout.deployment] = rollout
                _log.info(
                    "rollout.moved",
                    deployment=rollout.deployment,
                    revision=rollout.revision,
                    state=rollout.state,
                    plane=rollout.plane,
                    reason=rollout.reason,
                )
        _count_rollouts(held.values())
        return replace(snapshot, rollouts=tuple(held[name] for name in sorted(held)))

    async def plan(self, deployment: Deployment | None) -> PlannedChange:
        """Return what placing would change, with `deployment` applied if given; changes nothing."""
        snapshot = await self._sight.look()
        conditions = judge(snapshot)
        before = current_placements(snapshot, conditions)
        if deployment is not None:
            snapshot = with_deployment(snapshot, Demand(deployment=deployment))
        plan, _, seconds = await self._solve(without_moves(snapshot), conditions)
        return PlannedChange(plan=plan, before=before, solve_seconds=seconds)

    async def propose_move(self, move: Relocation) -> MoveProposal:
        """Return the plan in which the replicas are where an operator wants them.

        NotFound or Infeasible say why that cannot be. Changes nothing.
        """
        snapshot = await self._sight.look()
        conditions = judge(snapshot)
        check_heard(snapshot, conditions, move)
        held = placement_problem(snapshot, conditions, empties=False)
        problem = relocated(held, move)
        try:
            before = await asyncio.to_thread(keep_what_is, held)
            plan = await asyncio.to_thread(keep_what_is, problem, "moved by an operator")
        except UnusablePlan as error:
            raise Infeasible(f"the move would break a rule: {error}") from None
        check_kept(problem, move, plan)
        check_promises(before, plan)
        seen = fingerprint(snapshot, conditions)
        return MoveProposal(
            plan=with_reason(with_origins(plan, snapshot.placements), move),
            before=snapshot.placements,
            seen=seen,
            inputs=digest_of(seen, snapshot.policy),
        )

    async def put_moved(self, write: WriteContext, told: MoveProposal, asked: Asked) -> bool:
        """Put a proposed move in force; return False when that was done before.

        Conflict when supply, demand or the placements are others by now.
        """
        decided = self._decided
        if decided is not None and decided.fingerprint != told.seen:
            raise Conflict(_MOVED_ON)
        proposal = Proposal(
            decision=decision_of(told.plan, 0.0),
            placements=told.plan.placements,
            summary=summarise(told.plan, told.before),
        )
        try:
            done = await self._database.run(
                put_moved, write, proposal, told.before, told.inputs, asked
            )
        except StaleGeneration:
            if await self._is_deposed():
                raise
            raise Conflict(_MOVED_ON) from None
        if done and decided is not None and self._decided is decided:
            # It answers what the plan before it answered, so nothing moves back by itself; what
            # waits for a place, or stays for want of one, may have one now.
            holds = not (told.plan.unplaced or decided.kept)
            self._decided = replace(decided, plan=told.plan, holds=holds)
        self.wake()
        return done

    def _is_retry_due(self) -> bool:
        return self._retry_at is not None and self._clock.monotonic() >= self._retry_at

    async def _is_deposed(self) -> bool:
        try:
            return await self._database.run_read(leading_epoch) != self._epoch
        except SkerryError:
            return False  # not known: the next write is refused if it is so

    @property
    def held_back(self) -> tuple[str, ...]:
        """Return why moves wait that would be made otherwise, in words; nothing when none does."""
        told = [self._freeze] if self._freeze else []
        if self._seen is not None and self._moved:
            snapshot = self._seen.snapshot
            per_minute = snapshot.policy.moves_per_minute_max
            told.append(budget_of(self._moved, per_minute, snapshot.now).describe())
        return tuple(filter(None, told))

    async def _budget(self, snapshot: Snapshot) -> Budget:
        """Return how many moves are left of this minute, also of a leader's before us."""
        if self._moved is None:
            begin = snapshot.now - timedelta(seconds=WINDOW_SECONDS)
            plans = await self._database.run_read(list_applied, begin)
            self._moved = tuple(Moved(at=p.decided_at, replicas=p.decision.moves) for p in plans)
        self._moved = recent(self._moved, snapshot.now)
        return budget_of(self._moved, snapshot.policy.moves_per_minute_max, snapshot.now)

    async def _raise_freeze(self, freeze: Freeze) -> None:
        """Tell once that moves are frozen, and once that they are so no more."""
        instruments.FROZEN_PLANES.set(len(freeze.silent) if freeze.frozen else 0)
        told, before = freeze.describe(), self._freeze
        if bool(told) != bool(before):
            _log.warning("moves.frozen" if told else "moves.thawed", planes=len(freeze.silent))
            why = told or "planes are heard again: moves are frozen no more"
            await self._database.run(record_freeze, self._context(), freeze.frozen, why)
        self._freeze = told

    def _note_moves(self, snapshot: Snapshot, replicas: int) -> None:
        """Count what was moved, and place anew once more may be: this plan may have made do."""
        if replicas:
            moved = Moved(at=snapshot.now, replicas=replicas)
            self._moved = (*(self._moved or ()), moved)
        budget = budget_of(self._moved or (), snapshot.policy.moves_per_minute_max, snapshot.now)
        if budget.freed_seconds is not None and self._retry_at is None:
            self._retry_at = self._clock.monotonic() + max(TICK_SECONDS, budget.freed_seconds)

    async def _place(
        self, snapshot: Snapshot, conditions: Mapping[str, PlaneCondition], seen: Fingerprint
    ) -> None:
        with tracing.span("reconcile.place") as span:
            await self._place_in(span, snapshot, conditions, seen)

    async def _place_in(
        self,
        span: tracing.Span,
        snapshot: Snapshot,
        conditions: Mapping[str, PlaneCondition],
        seen: Fingerprint,
    ) -> None:
        plan, kept, seconds = await self._solve(snapshot, conditions)
        held: Proposal | None = None
        if snapshot.policy.advisory:
            problem = placement_problem(snapshot, conditions, empties=False)
            in_force = await asyncio.to_thread(keep_what_is, problem, WAITS)
            if counts_of(plan.placements) != counts_of(in_force.placements):
                held = _proposal(plan, seconds, snapshot, kept)
            plan, kept = in_force, ()
        bars = supply_of(snapshot, conditions).bars
        moves = moves_between(snapshot.placements, plan.placements, bars)
        told = _proposal(plan, seconds, snapshot, kept)
        told = replace(told, decision=replace(told.decision, moves=moves))
        changed, waits = await self._database.run(
            put_decided,
            self._context(),
            told,
            Basis(placements=snapshot.placements, cordons=snapshot.cordons),
            digest_of(seen, snapshot.policy),
            held,
        )
        if waits is not None:
            _log.info("plan.held", number=waits)
        self._decided = Decided(fingerprint=seen, plan=plan, kept=kept)
        fell_short = plan.solver_reason and plan.unplaced
        self._retry_at = self._clock.monotonic() + RETRY_SECONDS if fell_short else None
        self._note_moves(snapshot, moves)
        instruments.SOLVE_SECONDS.observe(seconds)
        instruments.PENDING_REPLICAS.set(sum(u.replicas for u in plan.unplaced))
        instruments.COST.set(plan.cost_per_hour)
        span.set(
            changed=bool(changed),
            solver=plan.solver,
            moves=moves,
            unplaced=sum(u.replicas for u in plan.unplaced),
            held_plan=waits or 0,
        )
        _log.info(
            "placements.decided",
            changed=changed,
            solver=plan.solver,
            solve_seconds=round(seconds, 4),
            cost_per_hour=plan.cost_per_hour,
            unplaced=sum(u.replicas for u in plan.unplaced),
        )

    async def _solve(
        self, snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]
    ) -> tuple[PlacementPlan, tuple[Kept, ...], float]:
        problem = await aside(snapshot, placement_problem, snapshot, conditions)
        started = self._clock.monotonic()
        plan = with_origins(await self._doors.solver.solve(problem), snapshot.placements)
        if (more := despite_settling(plan, snapshot, conditions)) is not None:
            plan = with_origins(await self._doors.solver.solve(more), snapshot.placements)
        if plan.solver_reason:
            _log.warning("solver.fell-back", solver=plan.solver, reason=plan.solver_reason)
        drained = supply_of(snapshot, conditions).drained
        plan, kept = with_kept(held_still(plan, snapshot, conditions), snapshot, drained)
        return plan, kept, self._clock.monotonic() - started

    def _context(self) -> WriteContext:
        return WriteContext(epoch=self._epoch, actor=ACTOR, now=self._clock.now())


def _proposal(
    plan: PlacementPlan, seconds: float, snapshot: Snapshot, kept: tuple[Kept, ...]
) -> Proposal:
    return Proposal(
        decision=decision_of(plan, seconds, kept),
        placements=plan.placements,
        summary=summarise(plan, snapshot.placements),
    )


def _count_rollouts(rollouts: Iterable[Rollout]) -> None:
    states = Counter(rollout.state for rollout in rollouts)
    for state, gauge in _ROLLOUTS.items():
        gauge.set(states[state])


def _count_planes(conditions: Mapping[str, PlaneCondition]) -> None:
    states = Counter(condition.state for condition in conditions.values())
    for state, gauge in _PLANES.items():
        gauge.set(states[state])
