"""What the database's own errors mean for a caller; `engine.py` and `schema.py` translate here."""

import contextlib
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from skerry.plumbing.errors import (
    Conflict,
    Corrupt,
    Exhausted,
    InvalidInput,
    SkerryError,
    Unavailable,
)

RETRY_SECONDS = 1.0  # a restarted or failed-over PostgreSQL is back within a few seconds
_MESSAGE_CHARACTERS_MAX = 200

# SQLSTATE: serialisation failure, deadlock, and a row that another transaction just created.
_LOST_RACES = frozenset({"40001", "40P01", "23505"})
_FULL = frozenset({"53100", "53200", "53300"})  # disk, memory, connections
_CORRUPT_SQLITE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the driver raises into the kinds of `skerry.plumbing.errors`."""
    try:
        yield
    except DBAPIError as error:
        raise meaning_of(error) from error
    except StatementError as error:
        # A value that a column's type refused; SQLAlchemy wraps what the type raised.
        if isinstance(error.orig, SkerryError):
            raise error.orig from None
        raise


def meaning_of(error: DBAPIError) -> SkerryError:
    """Return the kind of a driver's error, with what to do about it."""
    told = str(error.orig).strip().partition("\n")[0][:_MESSAGE_CHARACTERS_MAX]
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, IntegrityError):
        return Conflict("somebody else wrote the same row meanwhile; read again and decide anew")
    if isinstance(error, DataError):
        return InvalidInput(f"a value does not fit the capacity database: {told}")
    if code in _CORRUPT_SQLITE:
        return Corrupt(
            f"the capacity database is damaged ({told}); restore a backup, or start with an empty"
            " one: the inventory is rebuilt from the planes"
        )
    if code == sqlite3.SQLITE_FULL or _sqlstate(error) in _FULL:
        return Exhausted(
            f"the capacity database has no room ({told}); free space on its disk",
            retry_after_seconds=RETRY_SECONDS,
        )
    return Unavailable(
        f"the capacity database does not answer ({told}); the call is safe to repeat",
        retry_after_seconds=RETRY_SECONDS,
    )


def is_transient(error: Exception) -> bool:
    """Say whether the same transaction, run again at once, may well succeed."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError):
        return False
    # A connection that the database closed while it lay in the pool is replaced on the next try.
    return (
        _sqlstate(cause) in _LOST_RACES
        or isinstance(cause, IntegrityError)
        or cause.connection_invalidated
    )


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")
