"""Migrations: up, drift, down, and a database that is newer than the code."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import CheckConstraint, create_engine, inspect, text

from control_plane.store import tables
from control_plane.store.engine import parse_url
from control_plane.store.schema import alembic_config, current, migrations_path, upgrade
from skerry.plumbing.errors import Corrupt, Infeasible, InvalidInput

ROOT = Path(__file__).resolve().parents[2]


def test_an_empty_database_comes_up_to_date_and_a_second_upgrade_changes_nothing(url: str) -> None:
    assert current(url) is None
    upgrade(url)
    first = current(url)
    upgrade(url)
    assert first == current(url) == "0001"


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
    assert current(url) == "0001"


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
