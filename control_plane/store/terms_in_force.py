"""The terms of pools that hold at a moment, worked out again only where something about them moved.

With one cordon, price or reservation in a fleet every pool was looked at every time: a quarter of
what a control plane with 2,000 planes did while they came back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from control_plane.store.prices import Price
from control_plane.store.values import StoredPool
from skerry.fleet.catalogue import Reservation
from skerry.fleet.cordon import Cordon, Cordons
from skerry.fleet.terms import pool_at

_Reserved = tuple[Reservation, ...]


class _Held(NamedTuple):
    """A pool as it was worked out, from what, and when time alone makes it another."""

    stored: StoredPool
    prices: Sequence[Price]
    reserved: _Reserved
    since: datetime
    until: datetime | None
    found: StoredPool


@dataclass(slots=True)
class TermsInForce:
    """Remembers what was worked out last, of one chain of snapshots.

    Threads may ask at the same time: what is remembered is put in place as a whole.
    """

    _last: tuple[tuple[Cordon, ...], Mapping[str, _Held]] = ((), MappingProxyType({}))

    def at(
        self,
        now: datetime,
        pools: Sequence[StoredPool],
        prices: Mapping[str, Sequence[Price]],
        reservations: Sequence[Reservation],
        cordons: tuple[Cordon, ...],
    ) -> tuple[StoredPool, ...]:
        """Return the pools with what prices by time, reservations and cordons make of them."""
        under, last = self._last
        held = last if cordons == under else {}
        reserved: dict[str, _Reserved] = {}
        for reservation in reservations:
            reserved[reservation.pool] = (*reserved.get(reservation.pool, ()), reservation)
        closed = Cordons(cordons)
        by_pool: dict[str, _Held] = {}
        for stored in pools:
            name = stored.pool.name
            told, paid = prices.get(name, ()), reserved.get(name, ())
            entry = held.get(name)
            if entry is None or not _still(entry, stored, told, paid, now):
                pool = pool_at(stored.pool, told, paid, closed, now)
                found = stored if pool is stored.pool else replace(stored, pool=pool)
                entry = _Held(stored, told, paid, now, _next(told, paid, now), found)
            by_pool[name] = entry
        self._last = (cordons, by_pool)
        return tuple(entry.found for entry in by_pool.values())


def _still(
    entry: _Held, stored: StoredPool, prices: Sequence[Price], reserved: _Reserved, now: datetime
) -> bool:
    # What did not move in the store is the very same object (`snapshot.renew`).
    return (
        entry.stored is stored
        and entry.prices == prices
        and entry.reserved == reserved
        and entry.since <= now
        and (entry.until is None or now < entry.until)
    )


def _next(prices: Sequence[Price], reserved: _Reserved, now: datetime) -> datetime | None:
    """Return the first moment after `now` at which a price or a reservation begins or ends."""
    moments = [valid_from for valid_from, _ in prices]
    moments += [moment for one in reserved for moment in (one.start_time, one.end_time)]
    return min((moment for moment in moments if moment > now), default=None)
