"""The database's engine and its single thread; everybody reaches the store through `Database`.

SQLite in WAL mode when embedded; PostgreSQL, by the same code, for more than one control plane.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.orm import Session

from control_plane.store.faults import is_transient, translated
from skerry.plumbing.errors import Exhausted, InvalidInput, Unavailable

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Measured: 900 small reads or 160 durable writes a second, so 1,000 waiting are seconds of delay.
WAITING_JOBS_MAX = 1_000
# A transaction that lost against another one is run again; three losses mean real contention.
ATTEMPTS_MAX = 3
SQLITE_BUSY_SECONDS = 5  # one writer at a time: the longest transaction takes milliseconds
# PostgreSQL: nothing here needs a second; past these it is the database that is in trouble.
CONNECT_SECONDS = 5
_LIMITS = (
    "-c statement_timeout=5s -c lock_timeout=2s -c idle_in_transaction_session_timeout=10s"
    " -c timezone=UTC"
)
# A host that vanished answers nothing, not even that it is gone: TCP alone would wait for minutes.
_PATIENCE = {
    "tcp_user_timeout": 5_000,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
}
_BEGIN = "skerry_begin"


class Database:
    """The store's engine, its own thread, and who waits for commits."""

    def __init__(self, engine: Engine) -> None:
        """Take over the engine; nothing is connected before the first session."""
        self._engine = engine
        self._reads, self._writes = _views_of(engine)
        # One thread: SQLite has one writer anyway, and the order of calls is the order of effects.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._waiting = 0
        self._closed = False
        self._commits = 0
        self._committed = asyncio.Event()
        self._lock = threading.Lock()

    @property
    def dialect(self) -> str:
        """Return `sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session that sees one snapshot and is rolled back at the end."""
        with translated(), Session(self._reads, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session whose work is committed at the end, or not at all."""
        with translated(), Session(self._writes, expire_on_commit=False) as session:
            with session.begin():
                yield session

    async def run(
        self,
        function: Callable[Concatenate[Session, Arguments], Result],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Run `function(session, ...)` in one write transaction on the store's thread.

        A cancelled caller leaves the transaction whole: it commits or it does not.
        """

        def work() -> Result:
            result = self._attempt(self.write, function, *args, **kwargs)
            loop.call_soon_threadsafe(self._announce)
            return result

        loop = asyncio.get_running_loop()
        return await self._submit(work)

    async def run_unannounced(
        self,
        function: Callable[Concatenate[Session, Arguments], Result],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Run a write like `run`, of which nobody who reads or watches need hear.

        What is flushed every second would have every reader wait for a new look each second.
        """
        return await self._submit(lambda: self._attempt(self.write, function, *args, **kwargs))

    async def run_read(
        self,
        function: Callable[Concatenate[Session, Arguments], Result],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Run `function(session, ...)` in one read transaction on the store's thread."""
        return await self._submit(lambda: self._attempt(self.read, function, *args, **kwargs))

    @property
    def commits(self) -> int:
        """Return how many transactions of this process were committed; a number that only rises."""
        return self._commits

    def next_commit(self) -> asyncio.Event:
        """Return the event of this process's next commit; take it before you read."""
        return self._committed

    def close(self) -> None:
        """Let what was begun end, then release the connections; later calls are Unavailable."""
        self._closed = True
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._engine.dispose()

    def _attempt(
        self,
        open_session: Callable[[], contextlib.AbstractContextManager[Session]],
        function: Callable[Concatenate[Session, Arguments], Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                with open_session() as session:
                    return function(session, *args, **kwargs)
            except Exception as error:
                if attempt == ATTEMPTS_MAX or not is_transient(error):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _submit(self, work: Callable[[], Result]) -> Result:
        if self._closed:
            raise Unavailable("the capacity database is closed: this control plane is stopping")
        with self._lock:
            if self._waiting >= WAITING_JOBS_MAX:
                raise Exhausted(
                    f"{self._waiting} calls wait for the capacity database; try again later",
                    retry_after_seconds=1.0,
                )
            self._waiting += 1
        future = self._thread.submit(work)
        future.add_done_callback(self._one_less)
        # Shielded: a cancelled caller must not take back a job that may have begun.
        outcome = asyncio.wrap_future(future)
        outcome.add_done_callback(_heard)
        return await asyncio.shield(outcome)

    def _one_less(self, _: object) -> None:
        with self._lock:
            self._waiting -= 1

    def _announce(self) -> None:
        self._commits += 1
        done, self._committed = self._committed, asyncio.Event()
        done.set()


def _heard(outcome: asyncio.Future[Any]) -> None:
    """Take a failure that whoever waited for it went away from: it is no fault of ours."""
    if not outcome.cancelled():
        outcome.exception()


def open_database(url: str) -> Database:
    """Open the capacity database of a URL, `sqlite:////path/file.db` or `postgresql://...`."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(_sqlite_engine(parsed))
    return Database(
        create_engine(
            parsed,
            connect_args={"connect_timeout": CONNECT_SECONDS, "options": _LIMITS, **_PATIENCE},
            pool_pre_ping=True,  # the database may have been restarted since
        )
    )


def parse_url(url: str) -> URL:
    """Return the URL with the driver we use; InvalidInput says which forms there are."""
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        name = ""
    if name == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if name == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite+pysqlite")
    raise InvalidInput(
        "the database URL must be sqlite:////ABSOLUTE/PATH.db or postgresql://USER@HOST/NAME"
    )


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _: object) -> None:
        # None: the driver starts no transactions by itself; `begin` below does.
        connection.isolation_level = None
        connection.execute("pragma journal_mode = wal")
        # FULL, not NORMAL: with NORMAL a power cut takes back commits that were acknowledged, and
        # planes would hold generations the database never heard of. A commit is one fsync.
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: a read that later turns into a write would fail
        # with "database is locked" without waiting.
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "begin"))

    return engine


def _views_of(engine: Engine) -> tuple[Engine, Engine]:
    if engine.dialect.name == "sqlite":
        return engine, engine.execution_options(**{_BEGIN: "begin immediate"})
    reads = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return reads, engine
