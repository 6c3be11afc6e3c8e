"""How Alembic reaches the database: one migrator at a time, and never a long wait for a lock.

`control_plane.store.schema` runs it with a URL; by hand, `alembic -x url=sqlite:////... current`.
"""

from typing import Any

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from control_plane.store.engine import parse_url
from control_plane.store.tables import metadata

# Any fixed number: two migrators of one database must choose the same.
ADVISORY_LOCK = 0x5CE227
MIGRATOR_WAIT_SECONDS = 60  # for another migrator that is at it
LOCK_WAIT_SECONDS = 2  # for tables: queueing longer would hold up everybody behind us
STATEMENT_SECONDS = 60


def database_url() -> URL:
    """Return the URL handed over by schema.py, or named on Alembic's command line."""
    given = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get(
        "url"
    )
    if given is None:
        raise SystemExit("name the database: alembic -x url=sqlite:////PATH.db ...")
    return given if isinstance(given, URL) else parse_url(given)


def run_online() -> None:
    """Migrate over a connection of its own."""
    url = database_url()
    engine = create_engine(url, poolclass=NullPool)
    if url.get_backend_name() == "sqlite":
        _begin_immediately(engine)
        with engine.connect() as connection:
            # One transaction for all: SQLite's lock is the transaction's own.
            _migrate(connection, transaction_per_migration=False)
        return
    with engine.connect() as connection:
        connection.execute(text(f"set statement_timeout = '{MIGRATOR_WAIT_SECONDS}s'"))
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.execute(text(f"set lock_timeout = '{LOCK_WAIT_SECONDS}s'"))
        connection.execute(text(f"set statement_timeout = '{STATEMENT_SECONDS}s'"))
        connection.commit()  # the advisory lock is the session's: it ends with the connection
        _migrate(connection, transaction_per_migration=True)


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(url=database_url(), target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def _migrate(connection: Connection, *, transaction_per_migration: bool) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=transaction_per_migration,
        transactional_ddl=True,  # SQLite's too, once the driver is told to leave BEGIN to us
        render_as_batch=connection.dialect.name == "sqlite",
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _begin_immediately(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute(f"pragma busy_timeout = {MIGRATOR_WAIT_SECONDS * 1000}")
        connection.execute("pragma journal_mode = wal")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("begin immediate")


if context.is_offline_mode():
    run_offline()
else:
    run_online()
