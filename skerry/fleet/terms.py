"""Which terms of a pool hold at a moment: reservations, then prices by time, then what was set."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from skerry.fleet.catalogue import Reservation
from skerry.fleet.cordon import Cordons
from skerry.fleet.pool import CapacityClass, Pool, PoolTerms


def terms_at(
    terms: PoolTerms,
    prices: Sequence[tuple[datetime, float]],
    reservations: Iterable[Reservation],
    now: datetime,
) -> PoolTerms:
    """Return the terms that hold at `now`.

    `prices` are (valid from, USD per accelerator-hour), the earliest first: the latest that has
    begun counts. A reservation that holds makes the pool `reserved` at its own price; of several
    the cheapest counts. A cordon stays a cordon.
    """
    begun = [price for valid_from, price in prices if valid_from <= now]
    if begun:
        terms = replace(terms, price_per_accelerator_hour=begun[-1])
    paid = [r.price_per_accelerator_hour for r in reservations if r.holds(now)]
    if paid:
        terms = replace(
            terms, capacity_class=CapacityClass.RESERVED, price_per_accelerator_hour=min(paid)
        )
    return terms


def pool_at(
    pool: Pool,
    prices: Sequence[tuple[datetime, float]],
    reservations: Iterable[Reservation],
    cordons: Cordons,
    now: datetime,
) -> Pool:
    """Return the pool with the terms that hold at `now`, cordoned where it lies in a cordon."""
    terms = terms_at(pool.terms, prices, reservations, now)
    if cordons.of_pool(pool) is not None:
        terms = replace(terms, cordoned=True)
    return pool if terms == pool.terms else replace(pool, terms=terms)
