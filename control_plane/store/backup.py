"""Backups of the capacity database: taken while it is used, restored whole or not at all.

`skerry backup` and `skerry restore` call it. Rows are read logically in one snapshot, for that
needs no client tools and lets a backup of either database be restored into the other.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Engine,
    MetaData,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from control_plane.store import schema, tables
from control_plane.store.audit import verify_changes
from control_plane.store.backup_file import (
    BackupWriter,
    Header,
    Row,
    TableHead,
    read_backup,
    write_whole,
)
from control_plane.store.changes import Effect, append_change
from control_plane.store.columns import UtcTime
from control_plane.store.engine import parse_url
from control_plane.store.faults import translated
from control_plane.store.fencing import WriteContext
from control_plane.store.leadership import current_leadership, hold_leadership
from skerry.plumbing.errors import Conflict, Corrupt, Infeasible, NotFound

# A desired state is up to 4 MiB, so rows are fetched and written a few at a time.
ROWS_AT_ONCE = 100
CONNECT_SECONDS = 5
# Restoring waits for what a running transaction holds, and for no more than that.
LOCK_WAIT_SECONDS = 5
SQLITE_BUSY_SECONDS = 5
_VERSIONS = "alembic_version"
# Of a database that no control plane ever led these have a row each, or say who stands by.
_COUNTERS = frozenset({"leadership", "leadership_terms", "control_planes", "change_counter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup holds: its header, and how many rows each table has."""

    header: Header
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBackup:
    """A backup that was restored into a scratch database and read there.

    `changes` of the audit log are sound, `unprotected` of them recorded by a release without it.
    """

    backup: Backup
    changes: int
    unprotected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoring:
    """Into which database, by whom and when; `force` replaces what is there."""

    url: str
    actor: str
    now: datetime
    force: bool = False


def write_backup(url: str, path: Path, now: datetime) -> Backup:
    """Write all of a database, as of one moment, into a file; its control plane goes on.

    NotFound without a database there; Infeasible when its schema is newer than this release.
    """
    _check_there(url)
    schema.refuse_newer(url)
    with _snapshot(url) as connection, write_whole(path) as stream:
        there = _reflected(connection)
        header = _header(connection, there, now)
        writer = BackupWriter(stream, header)
        for table in there.sorted_tables:
            writer.begin(TableHead(name=table.name, columns=tuple(table.columns.keys())))
            for row in _rows_of(connection, table):
                writer.row(tuple(row))
        rows = writer.end()
    return Backup(header=header, rows=rows)


def verify_backup(path: Path) -> VerifiedBackup:
    """Restore a backup into a scratch database and read all of it there.

    Corrupt when the file, a value or the audit log is not what was written; Infeasible when a
    newer release wrote it.
    """
    with _scratch(path) as (url, backup):
        return _verified(url, backup)


def restore_backup(path: Path, restoring: Restoring) -> VerifiedBackup:
    """Put a verified backup in the place of what the database has, in one transaction.

    An older backup is brought to this release's schema first. The epoch rises above every earlier
    one of both, so whoever led is deposed; the next leader recovers first. Raises what
    `verify_backup` does, Infeasible while a leader's term lasts, and Conflict when the database has
    something in it and `force` is not said. For SQLite hold its lock (`leading/sole.py`).
    """
    with _scratch(path) as (scratch, backup):
        found = _verified(scratch, backup)
        _refuse_before(restoring)
        schema.upgrade(restoring.url)
        with _snapshot(scratch) as source, _writing(restoring.url) as target:
            # First, and until the end: nobody leads meanwhile.
            with Session(target) as session:
                epoch = hold_leadership(session)
            _refuse_led(target)
            if not restoring.force:
                _refuse_filled(target, tables.metadata)
            _copy(source, target)
            _mark_restored(target, restoring, backup, max(epoch, backup.header.epoch) + 1)
    return found


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[tuple[str, Backup]]:
    """Give a database of its own with the backup in it, at this release's schema."""
    with tempfile.TemporaryDirectory(prefix="skerry-backup-") as folder:
        url = f"sqlite:///{Path(folder) / 'scratch.db'}"
        with read_backup(path) as (header, rows):
            _refuse_newer_backup(url, header)
            schema.upgrade(url, header.schema)
            with _writing(url) as connection:
                counts = _fill(connection, rows)
        schema.upgrade(url)
        yield url, Backup(header=header, rows=counts)


def _fill(connection: Connection, lines: Iterator[TableHead | Row]) -> Mapping[str, int]:
    """Put a backup's rows in the place of all others; return how many each table has."""
    there = _reflected(connection)
    _empty(connection, there)
    counts: dict[str, int] = {}
    table: Table | None = None
    columns: tuple[str, ...] = ()
    waiting: list[dict[str, Any]] = []

    def put() -> None:
        if table is not None and waiting:
            connection.execute(insert(table), waiting)
            waiting.clear()

    for line in lines:
        if isinstance(line, TableHead):
            put()
            table, columns = _table_of(there, line), line.columns
            counts[table.name] = 0
            continue
        assert table is not None, "the reader gives a table before its rows"
        counts[table.name] += 1
        waiting.append(dict(zip(columns, line, strict=True)))
        if len(waiting) >= ROWS_AT_ONCE:
            put()
    put()
    if counts.keys() != there.tables.keys():
        lacks = ", ".join(sorted(there.tables.keys() - counts.keys()))
        raise Corrupt(f"the backup lacks the tables {lacks}; take another one")
    return counts


def _table_of(there: MetaData, head: TableHead) -> Table:
    table = there.tables.get(head.name)
    if table is None or set(head.columns) != set(table.columns.keys()):
        raise Corrupt(
            f"the backup's table {head.name!r} is not that of its schema; take another one"
        )
    return table


def _copy(source: Connection, target: Connection) -> None:
    """Put all rows of one database in the place of the other's; both have this release's schema."""
    there = _reflected(target)
    _empty(target, there)
    for table in _reflected(source).sorted_tables:
        rows = ({**row._mapping} for row in _rows_of(source, table))
        while batch := [row for _, row in zip(range(ROWS_AT_ONCE), rows, strict=False)]:
            target.execute(insert(there.tables[table.name]), batch)


def _empty(connection: Connection, there: MetaData) -> None:
    for table in reversed(there.sorted_tables):
        connection.execute(delete(table))


def _verified(url: str, backup: Backup) -> VerifiedBackup:
    """Read every value as this release does, and follow the audit log's chain to its end."""
    with _snapshot(url) as connection:
        for table in tables.metadata.sorted_tables:
            for _ in _rows_of(connection, table):
                pass
        with Session(connection) as session:
            chained = verify_changes(session)
    if chained.fault:
        raise Corrupt(f"the backup's audit log is not sound: {chained.fault}")
    return VerifiedBackup(backup=backup, changes=chained.checked, unprotected=chained.unprotected)


def _mark_restored(
    connection: Connection, restoring: Restoring, backup: Backup, epoch: int
) -> None:
    """Fence whoever led, and have the next leader recover before it does anything."""
    told = f"restored from a backup of {backup.header.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    row, term = tables.leadership, tables.leadership_terms
    connection.execute(update(row).values(epoch=epoch, holder="", taken_at=restoring.now))
    connection.execute(update(term).values(epoch=epoch, expires_at=None))
    connection.execute(delete(tables.control_planes))
    mark = tables.recovery
    connection.execute(delete(mark))
    connection.execute(insert(mark).values(id=1, since=restoring.now, reason=told))
    write = WriteContext(epoch=epoch, actor=restoring.actor, now=restoring.now)
    effect = Effect(after={"sequence": backup.header.sequence, "epoch": epoch})
    with Session(connection) as session:
        append_change(session, write, "database.restored", "database", told, effect)
        session.flush()


def _refuse_before(restoring: Restoring) -> None:
    """Raise what a restore would, before it changes anything; its schema too is somebody's."""
    if schema.current(restoring.url) is None:
        return
    schema.refuse_newer(restoring.url)
    with _snapshot(restoring.url) as connection:
        there = _reflected(connection)
        if tables.leadership_terms.name in there.tables:  # a release before had no terms
            _refuse_led(connection)
        if not restoring.force:
            _refuse_filled(connection, there)


def _refuse_led(connection: Connection) -> None:
    """Raise Infeasible while a leader's term lasts; SQLite's have none, its file has a lock."""
    with Session(connection) as session:
        led = current_leadership(session)
    if led.seconds_left is not None and led.seconds_left > 0:
        raise Infeasible(
            f"control plane {led.holder!r} leads; stop every control plane of the database, and"
            " restore then"
        )


def _refuse_filled(connection: Connection, there: MetaData) -> None:
    for table in there.sorted_tables:
        if table.name in _COUNTERS:
            continue
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise Conflict(
                f"the database is not empty: it has rows in {table.name!r}; back it up, then"
                " restore with --force, which replaces all of it"
            )


def _header(connection: Connection, there: MetaData, now: datetime) -> Header:
    version = connection.execute(text(f"select version_num from {_VERSIONS}")).scalar_one()
    counter, leadership = there.tables["change_counter"], there.tables["leadership"]
    return Header(
        schema=version,
        taken_at=now,
        dialect=connection.dialect.name,
        software=_software(),
        epoch=connection.execute(select(leadership.c.epoch)).scalar_one(),
        sequence=connection.execute(select(counter.c.sequence)).scalar_one(),
    )


def _software() -> str:
    try:
        return f"skerry {metadata.version('skerry')}"
    except metadata.PackageNotFoundError:
        return "skerry (checkout)"


def _check_there(url: str) -> None:
    """Raise NotFound without a database; asking SQLite itself would make one."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).is_file():
        raise NotFound(f"there is no database {parsed.database}; name the one to be backed up")
    if schema.current(url) is None:
        raise NotFound("the database is empty: no control plane ever used it")


def _refuse_newer_backup(url: str, header: Header) -> None:
    try:
        ScriptDirectory.from_config(schema.alembic_config(url)).get_revision(header.schema)
    except CommandError:
        raise Infeasible(
            f"the backup has schema {header.schema!r}, which this release does not know:"
            f" {header.software} wrote it. Restore it with that release or a newer one"
        ) from None


def _reflected(connection: Connection) -> MetaData:
    """Return our tables as the database has them, whatever its release, values left as stored.

    What others keep in the same database is not ours to copy or to empty. No release
    had a table that this one has not; a test holds it.
    """
    found = MetaData()
    event.listen(found, "column_reflect", _as_stored)
    found.reflect(bind=connection, only=lambda name, _: name in tables.metadata.tables)
    return found


def _as_stored(_: Any, __: Any, column: dict[str, Any]) -> None:
    if isinstance(column["type"], JSON):
        column["type"] = JSON(none_as_null=True)
    elif isinstance(column["type"], DateTime):
        column["type"] = UtcTime()


def _rows_of(connection: Connection, table: Table) -> Iterator[Any]:
    ordered = select(table).order_by(*table.primary_key.columns)
    streaming = connection.execution_options(yield_per=ROWS_AT_ONCE)
    return chain.from_iterable(streaming.execute(ordered).partitions())


@contextlib.contextmanager
def _snapshot(url: str) -> Iterator[Connection]:
    """Give a connection that reads the database as of one moment and holds up no writer."""
    parsed = parse_url(url)
    engine = _engine(parsed, "begin")
    if parsed.get_backend_name() == "postgresql":
        reading = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        engine = engine.execution_options(**reading)
    with translated(), engine.connect() as connection:
        yield connection
    engine.dispose()


@contextlib.contextmanager
def _writing(url: str) -> Iterator[Connection]:
    """Give a connection whose work is committed at the end, or not at all."""
    engine = _engine(parse_url(url), "begin immediate")
    with translated(), engine.begin() as connection:
        yield connection
    engine.dispose()


def _engine(url: URL, begin_with: str) -> Engine:
    if url.get_backend_name() == "postgresql":
        # Copying takes as long as it takes: only waiting for others is bounded.
        limits = f"-c lock_timeout={LOCK_WAIT_SECONDS}s -c timezone=UTC"
        told = {"connect_timeout": CONNECT_SECONDS, "options": limits}
        return create_engine(url, poolclass=NullPool, connect_args=told)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_SECONDS})
    event.listen(engine, "connect", _leave_transactions_to_us)
    event.listen(engine, "begin", _begin(begin_with))
    return engine


def _leave_transactions_to_us(connection: Any, _: object) -> None:
    connection.isolation_level = None
    connection.execute("pragma synchronous = full")


def _begin(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin
