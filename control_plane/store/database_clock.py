"""The database's own clock, and how long a transaction may lie idle: expressions of either dialect.

Who compares times of several hosts uses this clock, inside the statement: theirs may disagree.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Interval, func, literal, null, type_coerce
from sqlalchemy.orm import Session

from control_plane.store.columns import UtcTime

# A leader that is stopped inside a transaction holds what a standby waits for. Past this PostgreSQL
# takes it back: before the leader's term is over, so that it costs the takeover nothing.
IDLE_SECONDS_MAX = 2
# As SQLAlchemy writes times there: SQLite itself knows milliseconds.
_SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f000"


def clock(session: Session, after_seconds: float = 0.0) -> ColumnElement[Any]:
    """Return the database's time at that very moment, plus some seconds."""
    if session.get_bind().dialect.name == "sqlite":
        shift = f"{after_seconds:+.3f} seconds"
        return func.strftime(_SQLITE_FORMAT, "now", shift, type_=UtcTime())
    # Not now(): that is when the transaction began, and it may have waited for a lock since.
    moment = func.clock_timestamp(type_=UtcTime())
    shifted = moment + literal(timedelta(seconds=after_seconds), Interval())
    return type_coerce(shifted, UtcTime())


def gives_way(session: Session) -> ColumnElement[Any]:
    """Return what, selected, has PostgreSQL end this transaction once it lies idle for too long."""
    if session.get_bind().dialect.name == "sqlite":
        return null()
    return func.set_config("idle_in_transaction_session_timeout", f"{IDLE_SECONDS_MAX}s", True)
