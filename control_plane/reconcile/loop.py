"""wake -> load -> judge -> place -> plan -> apply -> wait: the one file here that does I/O.

`main.py` runs it. Every turn reads the whole truth; a lost wake-up costs a tick, nothing else.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from control_plane import instruments
from control_plane.reconcile.actions import (
    Action,
    PushDesired,
    RaiseGeneration,
    RecordReport,
    RemoveDeployment,
    SetCondition,
)
from control_plane.reconcile.decision import decision_of, with_origins
from control_plane.reconcile.failover import is_evacuated, is_frozen, judge
from control_plane.reconcile.kept import Kept, with_kept
from control_plane.reconcile.memory import (
    Decided,
    Fingerprint,
    digest_of,
    fingerprint,
    is_answered,
)
from control_plane.reconcile.plan import plan_conditions, plan_desired
from control_plane.reconcile.problem import (
    current_placements,
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
from control_plane.reconcile.sight import Sight
from control_plane.reconcile.snapshot import Demand, Seen, Snapshot
from control_plane.reconcile.summary import summarise
from control_plane.reconcile.supply import supply_of
from control_plane.store import deployments, desired, planes
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext, leading_epoch
from control_plane.store.moves import put_moved
from control_plane.store.plans import Proposal, put_in_force
from control_plane.store.requests import Asked
from control_plane.store.values import Told
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.solve import UnusablePlan, keep_what_is
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Placement, counts_of
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, Infeasible, SkerryError, StaleGeneration
from skerry.plumbing.tasks import first_of

_log = logs.get_logger(__name__)

TICK_SECONDS = 1.0  # leases lapse without anybody telling us
ACTOR = "control-plane:reconcile"
_MOVED_ON = "the fleet has changed since the move was made; look again and repeat it"
WAITS = "plans wait for an operator's approval; `skerry get plans` shows them"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """A plan that was not applied, and what it would change."""

    plan: PlacementPlan
    before: tuple[Placement, ...]
    solve_seconds: float


class Solver(Protocol):
    """Answers placement problems; scheduler.process.SolverProcess is the real one."""

    async def solve(self, problem: PlacementProblem) -> PlacementPlan:
        """Return a checked plan; its `solver_reason` says why when it is a fallback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What the loop reaches outside: desired states encoded and pushed, judgements, the solver."""

    encode: Callable[[DesiredState], tuple[bytes, bytes]]
    push: Callable[[str, Version, bytes], None]
    judged: Callable[[Mapping[str, PlaneCondition]], None]
    solver: Solver


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
        self._seen: Seen | None = None
        self._woken = asyncio.Event()

    @property
    def epoch(self) -> int:
        """Return the epoch this loop writes under."""
        return self._epoch

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
        while True:
            self._woken.clear()
            try:
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
            await first_of(self._woken.wait(), self._clock.sleep(TICK_SECONDS))

    async def turn(self) -> None:
        """Do one turn: judge planes, place if anything it depends on moved, push what changed."""
        snapshot = await self._sight.look()
        conditions = judge(snapshot)
        self._seen = Seen(snapshot=snapshot, conditions=conditions)
        self._doors.judged(conditions)
        _count_planes(conditions)
        await self._apply(plan_conditions(snapshot, conditions))
        frozen = self._decided is not None and is_frozen(snapshot)
        if frozen and _none_is_declared(conditions):
            return  # silence decides nothing: not that of a fault of ours,
        if self._decided is None and snapshot.is_waiting:
            return  # and not that of a start
        if frozen:
            # What an operator declared lost is placed elsewhere, and nothing else is moved.
            snapshot = replace(snapshot, policy=replace(snapshot.policy, moves_max=0))
        seen = fingerprint(snapshot, conditions)
        answered = is_answered(self._decided, seen, snapshot)
        if not answered and not (frozen and is_evacuated(snapshot)):
            await self._place(snapshot, conditions, seen)
            # Solving took its time: a plane may have joined or gone meanwhile.
            snapshot = await self._sight.look()
            conditions = judge(snapshot)
        if self._decided is None:
            return
        snapshot = replace(snapshot, envelopes=self._decided.plan.envelopes)
        await self._apply(plan_desired(snapshot, conditions))
        self._push_all(snapshot)

    async def plan(self, deployment: Deployment | None) -> PlannedChange:
        """Return what placing would change, with `deployment` applied if given; changes nothing."""
        snapshot = await self._sight.look()
        conditions = judge(snapshot)
        before = current_placements(snapshot, conditions)
        if deployment is not None:
            snapshot = with_deployment(snapshot, Demand(deployment=deployment))
        plan, _, seconds = await self._solve(snapshot, conditions)
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

    async def _is_deposed(self) -> bool:
        try:
            return await self._database.run_read(leading_epoch) != self._epoch
        except SkerryError:
            return False  # not known: the next write is refused if it is so

    async def _place(
        self, snapshot: Snapshot, conditions: Mapping[str, PlaneCondition], seen: Fingerprint
    ) -> None:
        plan, kept, seconds = await self._solve(snapshot, conditions)
        held: Proposal | None = None
        if snapshot.policy.advisory:
            problem = placement_problem(snapshot, conditions, empties=False)
            in_force = await asyncio.to_thread(keep_what_is, problem, WAITS)
            if counts_of(plan.placements) != counts_of(in_force.placements):
                held = _proposal(plan, seconds, snapshot, kept)
            plan, kept = in_force, ()
        changed, waits = await self._database.run(
            put_in_force,
            self._context(),
            _proposal(plan, seconds, snapshot, kept),
            snapshot.placements,
            digest_of(seen, snapshot.policy),
            held,
        )
        if waits is not None:
            _log.info("plan.held", number=waits)
        self._decided = Decided(fingerprint=seen, plan=plan, kept=kept)
        instruments.SOLVE_SECONDS.observe(seconds)
        instruments.PENDING_REPLICAS.set(sum(u.replicas for u in plan.unplaced))
        instruments.COST.set(plan.cost_per_hour)
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
        problem = placement_problem(snapshot, conditions)
        started = self._clock.monotonic()
        plan = with_origins(await self._doors.solver.solve(problem), snapshot.placements)
        if plan.solver_reason:
            _log.warning("solver.fell-back", solver=plan.solver, reason=plan.solver_reason)
        drained = supply_of(snapshot, conditions).drained
        plan, kept = with_kept(plan, snapshot, drained)
        return plan, kept, self._clock.monotonic() - started

    def _context(self) -> WriteContext:
        return WriteContext(epoch=self._epoch, actor=ACTOR, now=self._clock.now())

    def _push_all(self, snapshot: Snapshot) -> None:
        """Offer every plane its stored state: a leader's first turn re-pushes under its epoch."""
        for state in snapshot.desired:
            if not state.required_features:  # never told anything yet
                continue
            payload, _ = self._doors.encode(state)
            version = Version(epoch=self._epoch, generation=state.version.generation)
            self._doors.push(state.plane, version, payload)

    async def _apply(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            _log.info("action", does=action.describe())
            try:
                await self._apply_one(action)
            except StaleGeneration:
                raise
            except SkerryError as error:
                # One plane that cannot be recorded or told must not stop the others.
                _log.warning("action.failed", does=action.describe(), error=str(error))
                continue
            instruments.ACTIONS.labels(type(action).__name__).inc()

    async def _apply_one(self, action: Action) -> None:
        write = self._context()
        match action:
            case RecordReport(report=report):
                await self._database.run(planes.record_report, write, report)
            case SetCondition(plane=plane, condition=condition, before=before):
                await self._database.run(planes.set_condition, write, plane, condition, before)
            case PushDesired(desired=state, expected_generation=expected):
                payload, digest = self._doors.encode(state)
                told = Told(payload=payload, digest=digest, envelopes=state.envelopes)
                version = await self._database.run(
                    desired.put_desired, write, state.plane, told, expected
                )
                self._doors.push(state.plane, version, payload)
            case RaiseGeneration(plane=plane, at_least=at_least):
                await self._database.run(desired.raise_generation, write, plane, at_least)
            case RemoveDeployment(deployment=name):
                await self._database.run(deployments.remove_deployment, write, name)


def _none_is_declared(conditions: Mapping[str, PlaneCondition]) -> bool:
    return not any(condition.declared for condition in conditions.values())


def _proposal(
    plan: PlacementPlan, seconds: float, snapshot: Snapshot, kept: tuple[Kept, ...]
) -> Proposal:
    return Proposal(
        decision=decision_of(plan, seconds, kept),
        placements=plan.placements,
        summary=summarise(plan, snapshot.placements),
    )


def _count_planes(conditions: Mapping[str, PlaneCondition]) -> None:
    states = Counter(condition.state for condition in conditions.values())
    for state in PlaneState:
        instruments.PLANES.labels(state.value).set(states[state])
