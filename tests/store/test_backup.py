"""Backups: taken under way, whole or refused, of either database into the other."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, select, text, update

from control_plane.store import tables
from control_plane.store.audit import verify_changes
from control_plane.store.backup import (
    Restoring,
    restore_backup,
    verify_backup,
    write_backup,
)
from control_plane.store.changes import list_changes
from control_plane.store.deployments import apply_deployment, list_deployments
from control_plane.store.desired import list_desired, put_desired
from control_plane.store.engine import Database, open_database, parse_url
from control_plane.store.leadership import (
    Addresses,
    WriteContext,
    acquire,
    give_up,
    leading_epoch,
    take_leadership,
)
from control_plane.store.planes import list_planes, record_report
from control_plane.store.prices import PriceFrom, list_prices, set_price
from control_plane.store.schema import current, upgrade
from control_plane.store.values import Told
from skerry.fleet.observation import PlaneReport
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import GatewayAddresses
from skerry.plumbing.errors import Conflict, Corrupt, Infeasible, InvalidInput, NotFound
from tests.builders import T0, a_deployment, a_shape, an_identity

BEFORE = "0017"
LATER = T0 + timedelta(hours=1)
REPORT = PlaneReport(
    identity=an_identity("onprem-fra"),
    pools=(a_shape(),),
    gateway=GatewayAddresses(http="a:1", grpc="a:1", peer="a:2"),
)
TOLD = Told(
    payload=bytes(range(256)),
    digest=b"\0digest",
    envelopes=(Envelope(deployment="demo", pool="onprem-fra--cpu", floor=0, target=1, ceiling=2),),
)


@pytest.fixture
def filled(database: Database, write: WriteContext) -> Database:
    """A database with something in many tables."""
    with database.write() as session:
        record_report(session, write, REPORT)
        apply_deployment(session, write, a_deployment("demo"), "", "request-1")
        put_desired(session, write, "onprem-fra", TOLD, 0)
        set_price(session, write, PriceFrom("onprem-fra--cpu", T0, 2.125), "request-2")
    return database


@pytest.fixture
def backup(filled: Database, migrated: str, tmp_path: Path) -> Path:
    """A backup of it."""
    path = tmp_path / "fleet.backup"
    write_backup(migrated, path, T0)
    return path


def restoring(url: str, *, force: bool = False) -> Restoring:
    return Restoring(url=url, actor="user:root", now=LATER, force=force)


def another(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'another.db'}"


def content(url: str) -> dict[str, Any]:
    """What operators and planes have of a database."""
    database = open_database(url)
    with database.read() as session:
        found = {
            "deployments": list_deployments(session),
            "planes": list_planes(session),
            "desired": dict(list_desired(session)),
            "prices": list_prices(session),
            "requests": session.execute(select(tables.requests)).all(),
        }
    database.close()
    return found


def test_what_is_restored_is_what_was_backed_up(
    backup: Path, migrated: str, tmp_path: Path
) -> None:
    before = content(migrated)
    restore_backup(backup, restoring(another(tmp_path)))
    assert content(another(tmp_path)) == before


@pytest.mark.postgres
def test_a_backup_of_one_database_is_restored_into_the_other_and_back(
    tmp_path: Path, migrated_file: Path, migrated_url: str, postgres_url: str
) -> None:
    shutil.copyfile(migrated_file, tmp_path / "first.db")
    first = f"sqlite:///{tmp_path / 'first.db'}"
    database = open_database(first)
    with database.write() as session:
        epoch = take_leadership(session, "cp-1", T0)
        write = WriteContext(epoch=epoch, actor="user:root", now=T0)
        record_report(session, write, REPORT)
        apply_deployment(session, write, a_deployment("demo"), "", "request-1")
        put_desired(session, write, "onprem-fra", TOLD, 0)
    database.close()
    engine = create_engine(parse_url(postgres_url), isolation_level="AUTOCOMMIT")
    name = f"restored_{os.getpid()}"
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    engine.dispose()
    postgres = parse_url(postgres_url).set(database=name).render_as_string(hide_password=False)

    write_backup(first, tmp_path / "first.backup", T0)
    restore_backup(tmp_path / "first.backup", restoring(postgres))
    assert content(postgres) == content(first)
    write_backup(postgres, tmp_path / "second.backup", LATER)
    restore_backup(tmp_path / "second.backup", restoring(another(tmp_path)))
    assert content(another(tmp_path)) == content(first)


def test_a_backup_is_taken_while_others_write_and_is_of_one_moment(
    filled: Database, migrated: str, tmp_path: Path, write: WriteContext
) -> None:
    with filled.write() as session:  # uncommitted while the backup is taken
        apply_deployment(session, write, a_deployment("half"), "", "")
        write_backup(migrated, tmp_path / "b", T0)
    verified = verify_backup(tmp_path / "b")
    assert verified.backup.rows["deployments"] == 1
    with filled.read() as session:
        assert len(list_deployments(session)) == 2


def test_the_audit_log_is_verified_and_goes_on_after_a_restore(
    backup: Path, tmp_path: Path
) -> None:
    found = verify_backup(backup)
    assert found.changes == found.backup.rows["changes"] == found.backup.header.sequence > 0
    restore_backup(backup, restoring(another(tmp_path)))
    database = open_database(another(tmp_path))
    with database.read() as session:
        assert not verify_changes(session).fault
        newest = list_changes(session, 0, 1, newest_first=True)[0]
    database.close()
    assert (newest.kind, newest.actor) == ("database.restored", "user:root")


def test_whoever_led_is_deposed_by_a_restore(
    backup: Path, filled: Database, migrated: str, write: WriteContext
) -> None:
    restore_backup(backup, restoring(migrated, force=True))
    with filled.read() as session:
        assert leading_epoch(session) == write.epoch + 1
        assert session.execute(select(tables.recovery.c.reason)).scalar_one()


def test_nothing_is_restored_while_a_control_plane_uses_the_database(
    backup: Path, filled: Database, migrated: str
) -> None:
    with filled.write() as session:
        acquire(session, "cp-2", Addresses(), T0, seconds=600.0)
    before = content(migrated)
    with pytest.raises(Infeasible, match="'cp-2' leads"):
        restore_backup(backup, restoring(migrated, force=True))
    assert content(migrated) == before


def test_a_database_with_something_in_it_is_replaced_only_by_force(
    backup: Path, migrated: str
) -> None:
    before = content(migrated)
    with pytest.raises(Conflict, match="--force"):
        restore_backup(backup, restoring(migrated))
    assert content(migrated) == before
    restore_backup(backup, restoring(migrated, force=True))
    assert content(migrated) == before


@pytest.mark.parametrize("why", ["led", "filled"])
def test_what_refuses_a_restore_leaves_the_schema_too_as_it_was(
    why: str, url: str, tmp_path: Path
) -> None:
    """A database of the release before: its control plane, or its rollback, still needs that."""
    source = another(tmp_path)
    upgrade(source)
    write_backup(source, tmp_path / "b", T0)
    upgrade(url, BEFORE)
    database = open_database(url)
    with database.write() as session:
        if why == "led":
            acquire(session, "cp-1", Addresses(), T0, seconds=60.0)
        else:
            take_leadership(session, "cp-1", T0)
            give_up(session, 1, "cp-1", T0)
    database.close()
    with pytest.raises(Infeasible if why == "led" else Conflict):
        restore_backup(tmp_path / "b", restoring(url, force=why == "led"))
    assert current(url) == BEFORE
    if why == "filled":
        restore_backup(tmp_path / "b", restoring(url, force=True))
        assert current(url) != BEFORE


def test_a_restore_takes_its_locks_in_the_order_in_which_leadership_is_taken(
    backup: Path, migrated: str, dialect: str
) -> None:
    """Otherwise who acquires in between and the restore would wait for each other."""
    if dialect == "sqlite":
        pytest.skip("an SQLite file has one writer")
    engine = create_engine(parse_url(migrated))
    with engine.begin() as taking, ThreadPoolExecutor() as pool:
        # As `acquire` begins: the term, which is over, and after it the epoch.
        taking.execute(update(tables.leadership_terms).values(expires_at=None))
        restored = pool.submit(restore_backup, backup, restoring(migrated, force=True))
        _until_somebody_waits(taking)
        taking.execute(update(tables.leadership).values(epoch=tables.leadership.c.epoch + 1))
        taking.commit()
        assert restored.result(timeout=30).changes
    engine.dispose()


def _until_somebody_waits(connection: Connection) -> None:
    """Return once another connection waits for a lock of ours."""
    waiting = text(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    for _ in range(1_000):
        connection.execute(text("select pg_stat_clear_snapshot()"))
        if connection.execute(waiting).scalar_one():
            return
        connection.execute(text("select pg_sleep(0.01)"))
    raise AssertionError("nobody waits")


def test_what_is_not_ours_in_a_database_is_neither_backed_up_nor_touched(
    filled: Database, migrated: str, tmp_path: Path
) -> None:
    engine = create_engine(parse_url(migrated))
    with engine.begin() as connection:
        connection.execute(text("create table dashboards (id integer primary key, secret text)"))
        connection.execute(text("insert into dashboards values (1, 'of others')"))
    write_backup(migrated, tmp_path / "fleet.backup", T0)
    restore_backup(tmp_path / "fleet.backup", restoring(another(tmp_path)))
    restore_backup(tmp_path / "fleet.backup", restoring(migrated, force=True))
    with engine.connect() as connection:
        rows = connection.execute(text("select secret from dashboards")).all()
    engine.dispose()
    assert [row[0] for row in rows] == ["of others"]
    assert b"of others" not in gzip.decompress((tmp_path / "fleet.backup").read_bytes())


def test_an_older_backup_is_brought_to_this_release(url: str, tmp_path: Path) -> None:
    upgrade(url, "0006")
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into cordons (domain, name, actor, reason, since)"
                " values ('cloud', 'old', 'user:old', 'leaving', :since)"
            ),
            {"since": T0},
        )
    engine.dispose()
    taken = write_backup(url, tmp_path / "b", T0)
    assert taken.header.schema == "0006"
    restore_backup(tmp_path / "b", restoring(another(tmp_path)))
    engine = create_engine(parse_url(another(tmp_path)))
    with engine.connect() as connection:
        row = connection.execute(select(tables.cordons)).one()
    engine.dispose()
    assert (row.name, row.since, row.draining) == ("old", T0, False)


def rewritten(path: Path, change: Callable[[list[Any]], None]) -> None:
    """Change the lines of a backup, its checksum left as it was."""
    with gzip.open(path, "rb") as stream:
        lines = [json.loads(line) for line in stream]
    change(lines)
    with gzip.open(path, "wb") as stream:
        stream.writelines(
            json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines
        )


def test_a_newer_releases_backup_is_refused_and_told_to_whom(backup: Path, tmp_path: Path) -> None:
    rewritten(backup, lambda lines: lines[0].update(schema="9999"))
    with pytest.raises(Infeasible, match="9999"):
        restore_backup(backup, restoring(another(tmp_path)))
    rewritten(backup, lambda lines: lines[0].update(format=2))
    with pytest.raises(InvalidInput, match="format 2"):
        verify_backup(backup)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines.pop(),
        lambda lines: lines.pop(3),
        lambda lines: lines.append(["more"]),
        lambda lines: lines[0].update(sequence=0),
        lambda lines: lines.insert(1, ["no", "table"]),
        lambda lines: lines.insert(1, "neither"),
    ],
)
def test_a_backup_that_was_altered_is_refused_and_nothing_is_touched(
    backup: Path, migrated: str, change: Callable[[list[Any]], None]
) -> None:
    before = content(migrated)
    rewritten(backup, change)
    with pytest.raises(Corrupt):
        restore_backup(backup, restoring(migrated, force=True))
    assert content(migrated) == before


def test_a_backup_cut_at_any_place_is_refused(backup: Path) -> None:
    whole = backup.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 25)):
        backup.write_bytes(whole[:length])
        with pytest.raises((Corrupt, InvalidInput)):
            verify_backup(backup)


def test_an_altered_change_in_a_backup_with_a_fitting_checksum_is_found(
    filled: Database, migrated: str, tmp_path: Path
) -> None:
    with filled.write() as session:
        session.execute(tables.changes.update().values(summary="nothing happened"))
    write_backup(migrated, tmp_path / "b", T0)
    with pytest.raises(Corrupt, match="audit log"):
        verify_backup(tmp_path / "b")


def test_a_failed_backup_leaves_the_one_before_it(backup: Path, tmp_path: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(NotFound):
        write_backup(f"sqlite:///{tmp_path / 'none.db'}", backup, T0)
    assert backup.read_bytes() == before
    assert not (tmp_path / "none.db").exists()
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_a_backup_is_for_its_owner_alone(backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600


def test_the_same_database_gives_the_same_backup(
    backup: Path, migrated: str, tmp_path: Path
) -> None:
    write_backup(migrated, tmp_path / "again", T0)
    assert (tmp_path / "again").read_bytes() == backup.read_bytes()
