"""The fence and the memory of requests of the simulated database: the product's own code, asked."""

from functools import lru_cache
from typing import Any, cast

from sqlalchemy import create_engine
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from control_plane.store import fencing, tables
from control_plane.store.fencing import WriteContext


class _Leads:
    """What `check_epoch` asks of a session: which epoch leads."""

    dialect = SQLiteDialect()

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def get_bind(self) -> "_Leads":
        return self

    def execute(self, _: object) -> "_Leads":
        return self

    def one(self) -> "_Leads":
        return self


def check(write: WriteContext, leading: int) -> None:
    """Ask the product's own fence about whoever does not lead; who does always passes it.

    Raises StaleGeneration.
    """
    if write.epoch != leading:
        fencing.check_epoch(cast(Session, _Leads(leading)), write.epoch)


@lru_cache(maxsize=1)
def requests_session() -> Session:
    """Return the one session on a real SQLite in which requests are remembered."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    cast(Any, tables.requests).create(engine)
    return Session(engine)
