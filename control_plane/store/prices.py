"""Prices by time: what an accelerator-hour of a pool costs from a moment on, told ahead."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.requests import digest_of, earlier_answer, keep_answer
from control_plane.store.values import Answer
from skerry.fleet.names import full_name
from skerry.plumbing.errors import Exhausted, NotFound

PRICES_OF_POOL_MAX = 1_000  # hourly for a month and more

Price = tuple[datetime, float]  # valid from, USD per accelerator-hour


class PriceFrom(NamedTuple):
    """What an accelerator-hour of a pool costs from a moment on, in USD."""

    pool: str
    valid_from: datetime
    dollars: float


def set_price(session: Session, write: WriteContext, price: PriceFrom, request_id: str) -> bool:
    """Say what a pool costs from a moment on, until its next price; return whether that is new."""
    check_epoch(session, write.epoch)
    pool, valid_from, dollars = price
    digest = digest_of("set-price", pool, valid_from.isoformat(), repr(dollars))
    if (earlier := earlier_answer(session, write, request_id, digest)) is not None:
        return bool(earlier.changed)
    changed = _set(session, write, price)
    keep_answer(session, write, request_id, digest, Answer(changed=changed))
    return changed


def _set(session: Session, write: WriteContext, told: PriceFrom) -> bool:
    pool, valid_from, price = told
    table = tables.prices
    same = (table.c.pool == pool) & (table.c.valid_from == valid_from)
    held = find_price(session, pool, valid_from, lock=True)
    if held == price:
        return False
    counted = select(func.count()).select_from(table).where(table.c.pool == pool)
    if held is None and session.execute(counted).scalar_one() >= PRICES_OF_POOL_MAX:
        raise Exhausted(
            f"pool {pool!r} has {PRICES_OF_POOL_MAX} prices, as many as are kept; delete those"
            " that are over"
        )
    session.execute(delete(table).where(same))
    session.execute(
        insert(table).values(pool=pool, valid_from=valid_from, price_per_accelerator_hour=price)
    )
    summary = f"{price:g} USD per accelerator-hour from {valid_from.isoformat()}"
    effect = Effect(before=_told(valid_from, held), after=_told(valid_from, price))
    append_change(session, write, "price.set", _subject(write, pool), summary, effect)
    return True


def delete_price(
    session: Session, write: WriteContext, pool: str, valid_from: datetime, request_id: str
) -> None:
    """Forget a pool's price from a moment on: the one before it goes on; NotFound without one."""
    check_epoch(session, write.epoch)
    digest = digest_of("delete-price", pool, valid_from.isoformat())
    if earlier_answer(session, write, request_id, digest) is not None:
        return
    table = tables.prices
    gone = delete(table).where(table.c.pool == pool, table.c.valid_from == valid_from)
    price = session.execute(gone.returning(table.c.price_per_accelerator_hour)).scalar_one_or_none()
    if price is None:
        raise NotFound(f"pool {pool!r} has no price from {valid_from.isoformat()} on")
    keep_answer(session, write, request_id, digest, Answer(changed=True))
    effect = Effect(before=_told(valid_from, price))
    told = f"from {valid_from.isoformat()}"
    append_change(session, write, "price.deleted", _subject(write, pool), told, effect)


def find_price(
    session: Session, pool: str, valid_from: datetime, *, lock: bool = False
) -> float | None:
    """Return what was told of a pool from exactly that moment on, None where nothing was."""
    table = tables.prices
    same = (table.c.pool == pool) & (table.c.valid_from == valid_from)
    query = select(table.c.price_per_accelerator_hour).where(same)
    found: float | None = session.execute(
        query.with_for_update() if lock else query
    ).scalar_one_or_none()
    return found


def list_prices(session: Session) -> Mapping[str, tuple[Price, ...]]:
    """Return every price by pool, the earliest first."""
    table = tables.prices
    found: dict[str, list[Price]] = {}
    for row in session.execute(select(table).order_by(table.c.pool, table.c.valid_from)):
        found.setdefault(row.pool, []).append((row.valid_from, row.price_per_accelerator_hour))
    return {pool: tuple(prices) for pool, prices in found.items()}


def _told(valid_from: datetime, price: float | None) -> dict[str, object] | None:
    if price is None:
        return None
    return {"valid_from": valid_from.isoformat(), "price_per_accelerator_hour": price}


def _subject(write: WriteContext, pool: str) -> str:
    return full_name(write.project, "pools", pool)
