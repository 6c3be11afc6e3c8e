"""Builders of small fleets for the scheduler's tests; names tell what differs from the default."""

from datetime import UTC, datetime

from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
)
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.placement import Placement
from skerry.fleet.pool import CapacityClass, PlaneIdentity, Pool, PoolShape, PoolTerms

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 2**30


def a_plane(
    name: str, *, cloud: str = "", region: str = "", zones: tuple[str, ...] = ()
) -> PlaneIdentity:
    """Return a plane of its own cloud and region unless told."""
    return PlaneIdentity(
        name=name,
        cloud=cloud or f"cloud-{name}",
        region=region or f"region-{name}",
        residency_zones=zones,
    )


def a_shape(
    *, kind: str = "cpu", nodes: int = 1, per_node: int = 8, memory_gib: int = 512
) -> PoolShape:
    """Return a pool's shape, named by its kind."""
    return PoolShape(
        name=kind.lower(),
        accelerator=kind,
        accelerator_memory_bytes=0,
        nodes=nodes,
        accelerators_per_node=per_node,
        host_memory_bytes=memory_gib * GIB,
    )


def some_terms(
    price: float | None = 1.0,
    *,
    kind: CapacityClass = CapacityClass.ON_DEMAND,
    cordoned: bool = False,
) -> PoolTerms:
    """Return an operator's terms."""
    return PoolTerms(capacity_class=kind, price_per_accelerator_hour=price, cordoned=cordoned)


def a_pool(
    plane: PlaneIdentity | str, shape: PoolShape | None = None, terms: PoolTerms | None = None
) -> Pool:
    """Return a pool; the default has 8 accelerators at $1."""
    identity = a_plane(plane) if isinstance(plane, str) else plane
    return Pool(plane=identity, shape=shape or a_shape(), terms=terms or some_terms())


def a_deployment(
    name: str = "demo",
    *,
    shapes: tuple[ResourceShape, ...] = (ResourceShape(accelerator="cpu"),),
    replicas: tuple[int, int] = (0, 10),
    policy: PlacementPolicy | None = None,
) -> Deployment:
    """Return a deployment; `replicas` are (min, max)."""
    return Deployment(
        name=name,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="builtin://skerry-tiny", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=shapes,
        ),
        scaling=Scaling(min_replicas=replicas[0], max_replicas=replicas[1]),
        policy=policy or PlacementPolicy(),
    )


def wanting(replicas: int, deployment: Deployment | None = None) -> DemandedDeployment:
    """Return so many replicas of the deployment as a demand."""
    return DemandedDeployment(deployment=deployment or a_deployment(), replicas=replicas)


def a_problem(
    pools: tuple[Pool, ...],
    demands: tuple[DemandedDeployment, ...],
    *,
    current: tuple[Placement, ...] = (),
    bars: tuple[PoolBar, ...] = (),
    reserve_fraction: float = 0.0,
    move_cost_dollars: float = 1.0,
) -> PlacementProblem:
    """Return a problem at a fixed time."""
    return PlacementProblem(
        now=NOW,
        pools=pools,
        demands=demands,
        current=current,
        bars=bars,
        reserve_fraction=reserve_fraction,
        move_cost_dollars=move_cost_dollars,
    )


def runs(count: int, deployment: str, pool: str) -> Placement:
    """Return a current placement."""
    return Placement(deployment=deployment, pool=pool, count=count)
