"""The last decision: where replicas go, what it cost, and what was left out and why."""

from collections.abc import Mapping

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.columns import driver_rows
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import Decision
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.placement import Placement, counts_of

__all__ = [
    "Decision",
    "last_decision",
    "list_placements",
    "record_decision",
    "replace_placements",
]

# Of one decision in the change log: 60 kB of names.
PAIRS_TOLD_MAX = 1_000

_Pair = tuple[str, str]


def replace_placements(
    session: Session, write: WriteContext, placements: tuple[Placement, ...], summary: str
) -> bool:
    """Put these placements in the place of all others; return whether any count changed.

    New reasons for the same counts are kept without a change in the log.
    """
    check_epoch(session, write.epoch)
    held = list_placements(session)
    wanted = tuple(sorted(placements, key=lambda p: (p.deployment, p.pool)))
    if held == wanted:
        return False
    session.execute(delete(tables.placements))
    if wanted:
        rows = [
            {"deployment": p.deployment, "pool": p.pool, "replicas": p.count, "reason": p.reason}
            for p in wanted
        ]
        session.execute(insert(tables.placements), rows)
    before, after = counts_of(held), counts_of(wanted)
    if before == after:
        return False
    subject = full_name(DEFAULT_PROJECT, "placements", "-")
    effect = _effect(before, after)
    append_change(session, write, "placements.decided", subject, summary, effect)
    return True


def _effect(held: Mapping[_Pair, int], wanted: Mapping[_Pair, int]) -> Effect:
    """Return the counts that differ, by deployment and pool, before and after.

    Of a decision about more than a thousand pairs the first thousand and how many there are.
    """
    pairs = sorted(
        pair for pair in held.keys() | wanted.keys() if held.get(pair) != wanted.get(pair)
    )
    told = pairs[:PAIRS_TOLD_MAX]
    before = {f"{name} on {pool}": held.get((name, pool), 0) for name, pool in told}
    after = {f"{name} on {pool}": wanted.get((name, pool), 0) for name, pool in told}
    if len(pairs) > len(told):
        after["pairs that differ"] = len(pairs)
    return Effect(before=before, after=after)


def list_placements(session: Session) -> tuple[Placement, ...]:
    """Return the placements by deployment, then pool."""
    table = tables.placements
    query = select(table.c.deployment, table.c.pool, table.c.replicas, table.c.reason)
    # Ordered here: of 100,000 rows either database takes 60 to 110 ms for that, this 25.
    return tuple(
        Placement(deployment=deployment, pool=pool, count=count, reason=reason)
        for deployment, pool, count, reason in sorted(driver_rows(session, query))
    )


def record_decision(session: Session, write: WriteContext, decision: Decision) -> None:
    """Keep what the decision cost and left out, in the place of the one before."""
    check_epoch(session, write.epoch)
    table = tables.decisions
    session.execute(delete(table))
    values = {"id": 1, "epoch": write.epoch, "decided_at": write.now, "decision": decision}
    session.execute(insert(table).values(values))


def last_decision(session: Session) -> Decision | None:
    """Return the last decision; None before the first."""
    decision: Decision | None = session.execute(select(tables.decisions.c.decision)).scalar()
    return decision
