"""Everything a decision needs from the store, as of one read transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from control_plane.store.catalogue import RESERVATIONS, list_entries
from control_plane.store.changes import last_sequence
from control_plane.store.cordons import list_cordons
from control_plane.store.deployments import list_deployments
from control_plane.store.desired import list_desired
from control_plane.store.placements import last_decision, list_placements
from control_plane.store.planes import list_planes
from control_plane.store.pools import list_pools
from control_plane.store.prices import Price, list_prices
from control_plane.store.values import (
    Decision,
    StoredDeployment,
    StoredDesired,
    StoredPlane,
    StoredPool,
)
from skerry.fleet.catalogue import Reservation
from skerry.fleet.cordon import Cordon
from skerry.fleet.placement import Placement
from skerry.fleet.terms import pool_at


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSnapshot:
    """The store at change `sequence`; `desired` is by plane, `prices` by pool.

    `pools` have the terms that were set; `pools_at` has those that hold at a moment.
    """

    deployments: tuple[StoredDeployment, ...]
    pools: tuple[StoredPool, ...]
    planes: tuple[StoredPlane, ...]
    placements: tuple[Placement, ...]
    desired: Mapping[str, StoredDesired]
    sequence: int
    decision: Decision | None
    prices: Mapping[str, tuple[Price, ...]]
    reservations: tuple[Reservation, ...]
    cordons: tuple[Cordon, ...]

    def pools_at(self, now: datetime) -> tuple[StoredPool, ...]:
        """Return the pools with what prices by time, reservations and cordons make of them."""
        reserved: dict[str, list[Reservation]] = {}
        for reservation in self.reservations:
            reserved.setdefault(reservation.pool, []).append(reservation)
        closed = {(cordon.domain, cordon.name) for cordon in self.cordons}
        found = []
        for stored in self.pools:
            name = stored.pool.name
            prices, paid = self.prices.get(name, ()), reserved.get(name, ())
            pool = pool_at(stored.pool, prices, paid, closed, now)
            found.append(stored if pool is stored.pool else replace(stored, pool=pool))
        return tuple(found)


def load(session: Session) -> StoreSnapshot:
    """Return the whole store; run it in one read transaction."""
    return StoreSnapshot(
        deployments=list_deployments(session),
        pools=list_pools(session),
        planes=list_planes(session),
        placements=list_placements(session),
        desired=list_desired(session),
        sequence=last_sequence(session),
        decision=last_decision(session),
        prices=list_prices(session),
        reservations=tuple(entry.value for entry in list_entries(session, RESERVATIONS)),
        cordons=list_cordons(session),
    )
