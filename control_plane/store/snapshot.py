"""Everything a decision needs from the store, as of one read transaction."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from control_plane.store.changes import last_sequence
from control_plane.store.deployments import list_deployments
from control_plane.store.desired import list_desired
from control_plane.store.placements import last_decision, list_placements
from control_plane.store.planes import list_planes
from control_plane.store.pools import list_pools
from control_plane.store.values import (
    Decision,
    StoredDeployment,
    StoredDesired,
    StoredPlane,
    StoredPool,
)
from skerry.fleet.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSnapshot:
    """The store at change `sequence`; `desired` is by plane."""

    deployments: tuple[StoredDeployment, ...]
    pools: tuple[StoredPool, ...]
    planes: tuple[StoredPlane, ...]
    placements: tuple[Placement, ...]
    desired: Mapping[str, StoredDesired]
    sequence: int
    decision: Decision | None


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
    )
