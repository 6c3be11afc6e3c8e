"""Column types: fleet values as JSON, and times that stay in UTC on both databases."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import JSON, DateTime, Select
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeDecorator

from skerry.plumbing.errors import Corrupt, InvalidInput

Value = TypeVar("Value")


def driver_rows(session: Session, query: Select[Any]) -> Sequence[tuple[Any, ...]]:
    """Return the rows of a query as the driver made them: no column type converts its values.

    Of 100,000 rows SQLAlchemy's own take 30 to 100 ms longer.
    """
    cursor = session.connection().execute(query).cursor
    assert cursor is not None, "a query has rows"
    try:
        rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    except sqlite3.Error as error:
        # SQLAlchemy wraps what it fetches itself; PostgreSQL's rows were all here before.
        raise DBAPIError(str(query), None, error) from error
    finally:
        cursor.close()
    return rows


class ValueColumn(TypeDecorator[Value], Generic[Value]):
    """A frozen value as JSON, checked by its own invariants when it is read back."""

    impl = JSON
    cache_ok = True

    def __init__(self, value_type: type[Value], unset: tuple[str, ...] = ()) -> None:
        """Keep how values of that type are written and read.

        The fields on the way of names `unset` are left out where they are None: an older release
        that knows no None there reads its own default.
        """
        super().__init__(none_as_null=True)
        self.value_type = value_type
        self.unset = unset
        self._adapter = TypeAdapter(value_type)

    def process_bind_param(self, value: Value | None, dialect: Dialect) -> Any:
        """Return the value as JSON; InvalidInput for a number that is not finite."""
        if value is None:
            return None
        written = self._adapter.dump_python(value, mode="json")
        for way in self.unset:
            _leave_out(written, way)
        try:
            # JSON has no NaN and no infinity; Python would write them, PostgreSQL refuse to read.
            json.dumps(written, allow_nan=False)
        except ValueError:
            raise InvalidInput(
                f"{self.value_type.__name__} holds a number that is not finite"
            ) from None
        return written

    def process_result_value(self, value: Any, dialect: Dialect) -> Value | None:
        """Return the stored value; Corrupt when it breaks its type's invariants."""
        if value is None:
            return None
        found = self._read(value)
        if found is None:
            raise Corrupt(
                f"a stored {self.value_type.__name__} cannot be read; restore a backup of the"
                " capacity database, or start the release that wrote it"
            )
        return found

    def _read(self, written: Any) -> Value | None:
        try:
            return self._adapter.validate_python(written)
        except ValueError:  # pydantic's ValidationError is one
            return None


def _leave_out(written: Any, way: str) -> None:
    *parents, name = way.split(".")
    for parent in parents:
        written = written[parent]
    if written[name] is None:
        del written[name]


class UtcTime(TypeDecorator[datetime]):
    """An aware time; SQLite keeps no zone, so UTC is written and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC; a naive time is a bug of the caller."""
        if value is None:
            return None
        assert value.tzinfo is not None, "times are aware"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored time, aware and in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
