"""Plans by number: what was decided when, and what waits for an operator's approval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.cordons import list_cordons
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.leadership import hold_epoch
from control_plane.store.placements import (
    list_placements,
    record_decision,
    replace_placements,
)
from control_plane.store.requests import digest_of, earlier_answer, keep_answer
from control_plane.store.values import Answer, Decision, PlanState, StoredPlan
from skerry.fleet.cordon import Cordon
from skerry.fleet.names import full_name
from skerry.fleet.placement import Placement, counts_of
from skerry.plumbing.errors import Infeasible, NotFound, StaleGeneration

PLANS_KEPT = 1_000
# (deployment, pool, count, reason), as `placements` are stored.
_Row = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A plan with what it would place, and one line on what it changes."""

    decision: Decision
    placements: tuple[Placement, ...]
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a plan was made from that others may change while it is made."""

    placements: Sequence[Placement]
    cordons: Sequence[Cordon]


def put_decided(
    session: Session,
    write: WriteContext,
    told: Proposal,
    basis: Basis,
    inputs: str,
    held: Proposal | None,
) -> tuple[bool, int | None]:
    """Put a plan in force as `put_in_force` does, StaleGeneration also where cordons changed.

    A plan that empties what is drained no more would move what serves, and count as no move.
    """
    # Whoever sets a cordon shares the epoch. Alone with it, none is set between our look and our
    # end; locks on those that are there would not keep another from being inserted.
    hold_epoch(session, write.epoch)
    if list_cordons(session) != tuple(basis.cordons):
        raise StaleGeneration("a cordon was changed while the plan was made; look again")
    return put_in_force(session, write, told, basis.placements, inputs, held)


def put_in_force(
    session: Session,
    write: WriteContext,
    told: Proposal,
    seen: Sequence[Placement],
    inputs: str,
    held: Proposal | None,
) -> tuple[bool, int | None]:
    """Put a plan in force and keep another for approval, in one piece.

    Returns whether any count changed, and the number under which `held` waits; None where nothing
    waits that did not before. StaleGeneration unless the placements are those `seen` when the plans
    were made: an operator approved one meanwhile.
    """
    check_epoch(session, write.epoch)
    if counts_of(list_placements(session)) != counts_of(seen):
        raise StaleGeneration("the placements were changed while the plan was made; look again")
    changed = replace_placements(session, write, told.placements, told.summary)
    record_decision(session, write, told.decision)
    waits = None
    if held is None or changed:
        _supersede(session)
    if changed:
        _insert(session, write, (told.decision, inputs, told.summary), PlanState.APPLIED, None)
    if held is not None:
        waits = _hold(session, write, held, inputs)
    return changed, waits


def _hold(session: Session, write: WriteContext, held: Proposal, inputs: str) -> int | None:
    """Keep a plan until an operator approves it; one from the same inputs that waits or was
    rejected is not held again."""
    table = tables.plans
    newest = select(table.c.inputs, table.c.state).order_by(table.c.number.desc()).limit(1)
    row = session.execute(newest).one_or_none()
    asked = (PlanState.HELD, PlanState.REJECTED)
    if row is not None and row.inputs == inputs and row.state in asked:
        return None
    _supersede(session)
    rows: list[list[object]] = [[p.deployment, p.pool, p.count, p.reason] for p in held.placements]
    number = _insert(session, write, (held.decision, inputs, held.summary), PlanState.HELD, rows)
    append_change(session, write, "plan.held", _subject(write, number), held.summary)
    return number


def settle_plan(
    session: Session, write: WriteContext, number: int, approved: bool, request_id: str
) -> StoredPlan:
    """Approve a plan that waits, so that its placements are in force, or reject it.

    NotFound without such a plan, Infeasible when it does not wait (any more).
    """
    check_epoch(session, write.epoch)
    digest = digest_of("settle-plan", str(number), str(approved))
    if earlier := earlier_answer(session, write, request_id, digest):
        return earlier.settled or get_plan(session, number)
    found = get_plan(session, number)
    if found.state is not PlanState.HELD:
        raise Infeasible(
            f"plan {number} is {found.state.value}; only one that waits is approved or rejected:"
            " `skerry get plans` shows which does"
        )
    state = PlanState.APPROVED if approved else PlanState.REJECTED
    table = tables.plans
    row = update(table).where(table.c.number == number)
    session.execute(row.values(state=state.value, placements=None))
    settled = replace(found, state=state, placements=())
    keep_answer(session, write, request_id, digest, Answer(settled=settled))
    if approved:
        replace_placements(session, write, found.placements, found.summary)
    effect = Effect(before={"state": found.state.value}, after={"state": state.value})
    subject = _subject(write, number)
    append_change(session, write, f"plan.{state.value}", subject, found.summary, effect)
    return settled


def get_plan(session: Session, number: int) -> StoredPlan:
    """Return a plan by its number; NotFound when there is none of it (any more)."""
    query = select(tables.plans).where(tables.plans.c.number == number)
    row = session.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(
            f"plan {number} does not exist; `skerry get plans` lists those that are kept"
        )
    return _stored(row, row["placements"] or ())


def list_plans(
    session: Session, below: int | None = None, limit: int | None = None
) -> tuple[StoredPlan, ...]:
    """Return the plans that are kept, the newest first, without what they would place.

    At most `limit`, and only those with a number below `below`.
    """
    table = tables.plans
    columns = [column for column in table.c if column is not table.c.placements]
    query = select(*columns).order_by(table.c.number.desc()).limit(limit)
    if below is not None:
        query = query.where(table.c.number < below)
    return tuple(_stored(row, ()) for row in session.execute(query).mappings())


def list_applied(session: Session, after: datetime) -> tuple[StoredPlan, ...]:
    """Return the plans put in force after a moment, by the leader itself; without placements."""
    table = tables.plans
    columns = [column for column in table.c if column is not table.c.placements]
    mine = table.c.state == PlanState.APPLIED.value
    query = select(*columns).where(mine, table.c.decided_at > after).order_by(table.c.number)
    return tuple(_stored(row, ()) for row in session.execute(query).mappings())


def _insert(
    session: Session,
    write: WriteContext,
    told: tuple[Decision, str, str],
    state: PlanState,
    placements: list[list[object]] | None,
) -> int:
    decision, inputs, summary = told
    table = tables.plans
    number = int(session.execute(select(func.max(table.c.number))).scalar() or 0) + 1
    session.execute(
        insert(table).values(
            number=number,
            epoch=write.epoch,
            decided_at=write.now,
            state=state.value,
            inputs=inputs,
            summary=summary,
            decision=decision,
            placements=placements,
        )
    )
    session.execute(delete(table).where(table.c.number <= number - PLANS_KEPT))
    return number


def _supersede(session: Session) -> bool:
    table = tables.plans
    waiting = update(table).where(table.c.state == PlanState.HELD.value)
    gone = waiting.values(state=PlanState.SUPERSEDED.value, placements=None)
    return bool(session.execute(gone.returning(table.c.number)).all())


def _stored(row: Mapping[Any, Any], placements: Iterable[_Row]) -> StoredPlan:
    return StoredPlan(
        number=row["number"],
        epoch=row["epoch"],
        decided_at=row["decided_at"],
        state=PlanState(row["state"]),
        inputs=row["inputs"],
        summary=row["summary"],
        decision=row["decision"],
        placements=tuple(
            Placement(deployment=deployment, pool=pool, count=count, reason=reason)
            for deployment, pool, count, reason in placements
        ),
    )


def _subject(write: WriteContext, number: int) -> str:
    return full_name(write.project, "plans", str(number))
