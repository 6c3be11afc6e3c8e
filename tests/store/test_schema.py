"""Migrations: up, drift, down, and a database that is newer than the code."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Engine, create_engine, inspect, text

from control_plane.store import tables
from control_plane.store.changes import list_changes
from control_plane.store.cordons import list_cordons, set_cordon
from control_plane.store.engine import open_database, parse_url
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.schema import alembic_config, current, migrations_path, upgrade
from skerry.fleet.cordon import LOOKS, CordonState, Part, Scope
from skerry.fleet.deployment import FailureDomain
from skerry.plumbing.errors import Corrupt, Infeasible, InvalidInput
from tests.fakes.clock import START

ROOT = Path(__file__).resolve().parents[2]
NEWEST = ScriptDirectory(str(migrations_path())).get_current_head()
# As the release of migration 0001 records a change.
FIRST_RELEASE = (
    "insert into changes (sequence, time, actor, kind, subject, summary, epoch)"
    " values (:sequence, :time, 'user:old', 'k', 's', 'old', 0)"
)
# As the release of migration 0008 reads and writes cordons: each is of a FailureDomain to it.
CORDONS_BEFORE = "select domain, name, actor, reason, since from cordons"
CORDON_BEFORE = (
    "insert into cordons (domain, name, actor, reason, since)"
    " values ('cloud', 'old', 'user:old', 'leaving', :since)"
)


def test_an_empty_database_comes_up_to_date_and_a_second_upgrade_changes_nothing(url: str) -> None:
    assert current(url) is None
    upgrade(url)
    first = current(url)
    upgrade(url)
    assert first == current(url) == NEWEST


def test_the_migrations_lead_to_exactly_the_tables_of_the_code(url: str) -> None:
    upgrade(url)
    command.check(alembic_config(url))  # raises when autogenerate would add anything
    engine = create_engine(parse_url(url))
    for name, table in tables.metadata.tables.items():  # which autogenerate does not compare
        found = {check["name"] for check in inspect(engine).get_check_constraints(name)}
        constraints = [c for column in table.columns for c in column.constraints]
        checks = [c for c in constraints if isinstance(c, CheckConstraint)]
        assert found == {str(check.name) for check in checks}
    engine.dispose()


def test_a_downgrade_leaves_no_table_and_can_be_upgraded_again(url: str) -> None:
    upgrade(url)
    command.downgrade(alembic_config(url), "base")
    engine = create_engine(parse_url(url))
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    upgrade(url)


def test_the_migrations_are_one_line(url: str) -> None:
    assert len(ScriptDirectory(str(migrations_path())).get_heads()) == 1


def test_what_the_first_release_wrote_survives_every_step_up_and_down(url: str) -> None:
    upgrade(url, "0001")
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        for sequence in (1, 2):
            connection.execute(text(FIRST_RELEASE), {"sequence": sequence, "time": START})
        connection.execute(text("update change_counter set sequence = 2"))
    revisions = [r.revision for r in ScriptDirectory(str(migrations_path())).walk_revisions()]
    for revision in reversed(revisions):
        upgrade(url, revision)
        assert subjects(engine) == ["s", "s"]
    for revision in revisions:
        command.downgrade(alembic_config(url), revision)
        assert subjects(engine) == ["s", "s"]
    engine.dispose()


def test_the_first_release_goes_on_writing_beside_this_one(url: str) -> None:
    upgrade(url)
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        connection.execute(text(FIRST_RELEASE), {"sequence": 1, "time": START})
        connection.execute(text("update change_counter set sequence = sequence + 1"))
    engine.dispose()
    database = open_database(url)
    with database.read() as session:
        assert [change.subject for change in list_changes(session, 0, 10)] == ["s"]
    database.close()


def test_the_release_before_reads_and_writes_cordons_beside_those_of_every_scope(
    migrated: str,
) -> None:
    database = open_database(migrated)
    with database.write() as session:
        epoch = take_leadership(session, "cp-1", START)
        write = WriteContext(epoch=epoch, actor="user:new", now=START)
        for scope, looks in LOOKS.items():
            part = Part(scope=scope, name=looks.lower())
            for state in (CordonState.CORDONED, CordonState.DRAINING):
                set_cordon(session, write, part, state, "")
    engine = create_engine(parse_url(migrated))
    with engine.begin() as connection:
        connection.execute(text(CORDON_BEFORE), {"since": START})
        found = {FailureDomain(row.domain) for row in connection.execute(text(CORDONS_BEFORE))}
    engine.dispose()
    assert found == set(FailureDomain)
    with database.read() as session:
        listed = [(cordon.part.name, cordon.draining) for cordon in list_cordons(session)]
    assert len(listed) == len(Scope) + 1
    assert ("old", False) in listed
    database.close()


@pytest.mark.integration
async def test_a_migrator_that_is_killed_leaves_the_next_one_free_to_finish(url: str) -> None:
    program = (
        "import os, signal, sqlalchemy\n"
        "from sqlalchemy import event\n"
        "@event.listens_for(sqlalchemy.Engine, 'before_cursor_execute')\n"
        "def die(connection, cursor, statement, *rest):\n"
        "    if 'create table catalogue' in ' '.join(statement.lower().split()):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        f"from control_plane.store.schema import upgrade; upgrade({url!r})"
    )
    migrator = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, start_new_session=True
    )
    assert await migrator.wait() == -signal.SIGKILL
    assert current(url) in (None, "0003")  # SQLite takes all steps in one transaction
    upgrade(url)
    assert current(url) == NEWEST


def subjects(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("select subject from changes")).scalars())


def test_a_database_newer_than_the_code_is_refused_with_the_remedy(url: str) -> None:
    upgrade(url)
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    engine.dispose()
    with pytest.raises(Infeasible, match="Start that release, or restore the backup"):
        upgrade(url)
    assert current(url) == "9999"


def test_a_migration_that_fails_half_way_leaves_nothing_and_can_run_again(url: str) -> None:
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        connection.execute(text("create table revisions (stray integer)"))
    with pytest.raises(Exception, match="revisions"):
        upgrade(url)
    assert "leadership" not in inspect(engine).get_table_names()
    with engine.begin() as connection:
        connection.execute(text("drop table revisions"))
    engine.dispose()
    upgrade(url)


@pytest.mark.integration
async def test_two_migrators_at_once_both_succeed(url: str) -> None:
    program = f"from control_plane.store.schema import upgrade; upgrade({url!r})"
    migrators = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
        )
        for _ in range(2)
    ]
    for migrator in migrators:
        _, complaint = await migrator.communicate()
        assert migrator.returncode == 0, complaint.decode()
    assert current(url) == NEWEST


def test_the_migrations_are_found_in_a_checkout() -> None:
    assert (migrations_path() / "env.py").is_file()


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///:memory:", "mysql://x/y", "skerry.db"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="sqlite:////ABSOLUTE"):
        parse_url(url)


def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "skerry.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(Corrupt, match="restore a backup"):
        upgrade(f"sqlite:///{tmp_path / 'skerry.db'}")
