"""Cold starts: how long replicas took to their first answer, the newest of every kind.

`control_plane.upkeep` writes them in one batch a second, no change of the log; the API reads them
when a plan is asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.fencing import WriteContext, check_epoch
from skerry.fleet.cold_start import StartKind
from skerry.fleet.deployment import Revision
from skerry.fleet.engine import EngineName
from skerry.fleet.profile import configuration_digest

# Enough for a ninth decile that one slow disk does not move, few enough to follow a new release.
STARTS_OF_KIND_MAX = 64
# Of all kinds together, some 130 full ones; reading all of it takes 25 ms.
STARTS_MAX = 8_192
# One transaction's: a fleet of 100,000 replicas that is seen anew is written in pieces.
STARTS_OF_BATCH_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SightedStart:
    """A start as its plane measured it.

    `is_fresh` when it ended before our eyes; another one happened nobody knows when, before this
    control plane led.
    """

    plane: str
    replica: str
    restarts: int
    deployment: str
    revision: int
    accelerator: str
    seconds: float
    seen_at: datetime
    is_fresh: bool = True


def record_starts(session: Session, write: WriteContext, starts: Sequence[SightedStart]) -> int:
    """Keep these starts, each once, and forget the oldest of their kinds; return how many are new.

    What is not fresh only fills up a kind of which less is known. A start of a revision that is not
    stored, or of one that cannot run on that accelerator, is passed over.
    """
    check_epoch(session, write.epoch)
    assert len(starts) <= STARTS_OF_BATCH_MAX, "the caller writes in pieces"
    rows = _rows(session, starts)
    if not rows:
        return 0
    table = tables.cold_starts
    is_postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert(table) if is_postgres else sqlite.insert(table)
    before = _count(session)
    session.execute(insert.on_conflict_do_nothing(), rows)
    new = _count(session) - before
    for kind in {_kind(row) for row in rows}:
        _forget(session, _newest().where(_is_of(kind)).offset(STARTS_OF_KIND_MAX))
    _forget(session, _newest().offset(STARTS_MAX))
    return new


def list_cold_starts(session: Session) -> Mapping[StartKind, tuple[float, ...]]:
    """Return how long the starts took that are kept, in seconds, by kind, the newest first."""
    columns = tables.cold_starts.c
    order = (columns.measured_at.desc(), columns.plane, columns.replica, columns.restarts)
    query = select(*_kind_columns(), columns.seconds).order_by(*order)
    found: dict[StartKind, list[float]] = {}
    for row in session.execute(query).mappings():
        found.setdefault(_kind(row), []).append(row["seconds"])
    return {kind: tuple(seconds) for kind, seconds in found.items()}


def _rows(session: Session, starts: Sequence[SightedStart]) -> list[dict[str, Any]]:
    revisions = _revisions(session, {(start.deployment, start.revision) for start in starts})
    kept = _kept(session)
    rows = []
    for start in starts:
        revision = revisions.get((start.deployment, start.revision))
        if revision is None or revision.shape_on(start.accelerator) is None:
            continue
        row = {
            "plane": start.plane,
            "replica": start.replica,
            "restarts": start.restarts,
            "base_model": revision.base_model.uri,
            "engine": revision.engine.name.value,
            "configuration": configuration_digest(revision.engine),
            "accelerator": start.accelerator,
            "seconds": start.seconds,
            "measured_at": start.seen_at,
        }
        kind = _kind(row)
        if not start.is_fresh and kept.get(kind, 0) >= STARTS_OF_KIND_MAX:
            continue
        kept[kind] = kept.get(kind, 0) + 1
        rows.append(row)
    return rows


def _revisions(
    session: Session, wanted: Iterable[tuple[str, int]]
) -> Mapping[tuple[str, int], Revision]:
    table = tables.revisions
    query = select(table.c.deployment, table.c.number, table.c.revision).where(
        tuple_(table.c.deployment, table.c.number).in_(sorted(wanted))
    )
    return {(row.deployment, row.number): row.revision for row in session.execute(query)}


def _kept(session: Session) -> dict[StartKind, int]:
    kind = _kind_columns()
    query = select(*kind, func.count().label("kept")).group_by(*kind)
    return {_kind(row): row["kept"] for row in session.execute(query).mappings()}


def _count(session: Session) -> int:
    return session.execute(select(func.count()).select_from(tables.cold_starts)).scalar_one()


def _kind_columns() -> tuple[ColumnElement[str], ...]:
    columns = tables.cold_starts.c
    return (columns.base_model, columns.engine, columns.configuration, columns.accelerator)


def _kind(row: Mapping[Any, Any]) -> StartKind:
    return StartKind(
        base_model=row["base_model"],
        engine=EngineName(row["engine"]),
        configuration=row["configuration"],
        accelerator=row["accelerator"],
    )


def _is_of(kind: StartKind) -> ColumnElement[bool]:
    wanted = (kind.base_model, kind.engine.value, kind.configuration, kind.accelerator)
    return tuple_(*_kind_columns()) == wanted


def _newest() -> Select[tuple[str, str, int]]:
    """Return the query of all keys, the newest first; equals in an order of their own."""
    columns = tables.cold_starts.c
    key = (columns.plane, columns.replica, columns.restarts)
    return select(*key).order_by(columns.measured_at.desc(), *key)


def _forget(session: Session, beyond: Select[tuple[str, str, int]]) -> None:
    columns = tables.cold_starts.c
    # SQLite takes an offset only with a limit; no batch leaves more than itself to forget.
    keys = [tuple(row) for row in session.execute(beyond.limit(STARTS_OF_BATCH_MAX))]
    if keys:
        key = tuple_(columns.plane, columns.replica, columns.restarts)
        session.execute(delete(tables.cold_starts).where(key.in_(keys)))
