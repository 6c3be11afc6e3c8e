"""Cordons of nodes, pools, planes, regions and clouds; a pool's terms may cordon it as well.

Those of nodes and pools are in a table of their own, which the release before does not read.
"""

from typing import Any

from sqlalchemy import Select, Table, delete, func, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.requests import digest_of, earlier_answer, keep_answer
from control_plane.store.values import Answer
from skerry.fleet.cordon import Cordon, CordonState, Part, Scope
from skerry.fleet.names import full_name
from skerry.plumbing.errors import Exhausted

CORDONS_MAX = 10_000
_TABLES = (tables.cordons, tables.cordons_within_planes)
# What a request's digest has for the state. The first two are as the release before wrote them, so
# that a request repeated across the upgrade is answered.
_ASKED = {
    CordonState.OPEN: "False",
    CordonState.CORDONED: "True",
    CordonState.DRAINING: "draining",
}
_TOLD = {
    CordonState.OPEN: ("uncordoned", "takes replicas again"),
    CordonState.CORDONED: ("cordoned", "takes nothing new"),
    CordonState.DRAINING: ("draining", "what runs there goes elsewhere"),
}


def set_cordon(
    session: Session, write: WriteContext, part: Part, state: CordonState, request_id: str
) -> bool:
    """Open, cordon or drain a part of the fleet; return whether that was new.

    The part need not have reported: a cloud can be closed before its first plane joins. To cordon
    what is drained ends the drain, and `since` of a cordon that begins to drain is that moment.
    """
    check_epoch(session, write.epoch)
    digest = digest_of("cordon", part.scope.value, part.name, _ASKED[state])
    if (earlier := earlier_answer(session, write, request_id, digest)) is not None:
        return bool(earlier.changed)
    held = find_cordon(session, part, lock=True)
    before = state_of(held)
    changed = before is not state
    keep_answer(session, write, request_id, digest, Answer(changed=changed))
    if not changed:
        return False
    _put(session, write, part, state, is_new=held is None)
    verb, told = _TOLD[state]
    effect = Effect(before={"state": before.value}, after={"state": state.value})
    subject = full_name(write.project, f"{part.scope.value}s", part.name)
    append_change(session, write, f"domain.{verb}", subject, write.reason or told, effect)
    return True


def list_cordons(session: Session) -> tuple[Cordon, ...]:
    """Return every cordon, by scope and name."""
    found = (_cordon(row) for table in _TABLES for row in session.execute(select(table)).all())
    return tuple(sorted(found, key=lambda cordon: (cordon.part.scope.value, cordon.part.name)))


def find_cordon(session: Session, part: Part, *, lock: bool = False) -> Cordon | None:
    """Return the cordon of exactly that part, None where there is none."""
    table = _table_of(part)
    query = select(table).where(table.c.domain == part.scope.value, table.c.name == part.name)
    row = session.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _cordon(row)


def counted_cordons() -> Select[int]:
    """Return the query for how many parts are cordoned."""
    here, within = (select(func.count()).select_from(one).scalar_subquery() for one in _TABLES)
    return select(here + within)


def state_of(cordon: Cordon | None) -> CordonState:
    """Return what a cordon, or that there is none, makes of its part."""
    if cordon is None:
        return CordonState.OPEN
    return CordonState.DRAINING if cordon.draining else CordonState.CORDONED


def _put(
    session: Session, write: WriteContext, part: Part, state: CordonState, *, is_new: bool
) -> None:
    table = _table_of(part)
    mine = (table.c.domain == part.scope.value, table.c.name == part.name)
    if state is CordonState.OPEN:
        session.execute(delete(table).where(*mine))
        return
    values = {
        "actor": write.actor,
        "reason": write.reason,
        "since": write.now,
        "draining": state is CordonState.DRAINING,
    }
    if not is_new:
        session.execute(update(table).where(*mine).values(**values))
        return
    if session.execute(counted_cordons()).scalar_one() >= CORDONS_MAX:
        raise Exhausted(
            f"{CORDONS_MAX} parts of the fleet are cordoned, as many as are kept; uncordon one"
        )
    session.execute(insert(table).values(domain=part.scope.value, name=part.name, **values))


def _table_of(part: Part) -> Table:
    is_within_a_plane = part.scope in (Scope.NODE, Scope.POOL)
    return tables.cordons_within_planes if is_within_a_plane else tables.cordons


def _cordon(row: Any) -> Cordon:
    return Cordon(
        part=Part(scope=Scope(row.domain), name=row.name),
        actor=row.actor,
        reason=row.reason,
        since=row.since,
        draining=row.draining,
    )
