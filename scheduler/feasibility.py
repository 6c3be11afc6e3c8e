"""Which pool may host which deployment, and the reason if not.

`grid` asks for every pair; `explain` shows the reasons. Rules are tried in order, first one wins.
"""

from collections.abc import Callable, Iterable, Mapping

from scheduler.problem import PoolBar
from skerry.fleet.deployment import Deployment, ResourceShape
from skerry.fleet.packing import nodes_of_replica
from skerry.fleet.pool import Pool, resides

GIB = 2**30


def rejection(deployment: Deployment, pool: Pool, *, bar: PoolBar | None, runs: int) -> str | None:
    """Return why the pool may not host the deployment, None when it may.

    `runs` replicas there already outlive a cordon or a missing price, never a rule of the policy.
    """
    for rule in _RULES:
        if reason := rule(deployment, pool):
            return reason
    closed = nothing_new(pool, bar)
    if closed is None or (runs > 0 and (bar is None or bar.keeps_current)):
        return None
    return closed


def nothing_new(pool: Pool, bar: PoolBar | None) -> str | None:
    """Return why nothing new may start on the pool, None when it may."""
    if bar is not None:
        return bar.reason
    if pool.terms.cordoned:
        return "pool is cordoned"
    if pool.terms.price_per_accelerator_hour is None:
        return "pool has no price: `skerry pools set`"
    return None


def bars_by_pool(bars: Iterable[PoolBar]) -> Mapping[str, PoolBar]:
    """Return one bar per pool: reasons joined, current replicas kept only if every bar keeps."""
    merged: dict[str, PoolBar] = {}
    for bar in sorted(bars, key=lambda bar: (bar.pool, bar.reason)):
        before = merged.get(bar.pool)
        merged[bar.pool] = PoolBar(
            pool=bar.pool,
            reason=f"{before.reason}; {bar.reason}" if before else bar.reason,
            keeps_current=bar.keeps_current and (before is None or before.keeps_current),
        )
    return merged


def _lacks_kind(deployment: Deployment, pool: Pool) -> str | None:
    if _shape(deployment, pool):
        return None
    kinds = ", ".join(shape.accelerator for shape in deployment.revision.shapes)
    return f"pool has {pool.shape.accelerator}; the deployment runs on {kinds}"


def _lacks_nodes(deployment: Deployment, pool: Pool) -> str | None:
    shape, per_node = _known_shape(deployment, pool), pool.shape.accelerators_per_node
    if pool.shape.nodes == 0:
        return "pool has no node that is fit for work"
    if shape.accelerators > per_node and shape.accelerators % per_node:
        return (
            f"one replica takes {shape.accelerators} x {shape.accelerator} and a node has"
            f" {per_node}: more than a node must be whole nodes"
        )
    if shape.accelerators > pool.shape.accelerators:
        return (
            f"one replica takes {shape.accelerators} x {shape.accelerator};"
            f" the pool has {pool.shape.accelerators}"
        )
    return None


def _lacks_host_memory(deployment: Deployment, pool: Pool) -> str | None:
    shape = _known_shape(deployment, pool)
    nodes = max(1, nodes_of_replica(shape.accelerators, pool.shape.accelerators_per_node))
    share = -(-shape.host_memory_bytes // nodes)
    if share <= pool.shape.host_memory_bytes:
        return None
    return (
        f"one replica takes {share / GIB:.1f} GiB of host memory on a node;"
        f" a node has {pool.shape.host_memory_bytes / GIB:.1f}"
    )


def _outside_clouds(deployment: Deployment, pool: Pool) -> str | None:
    return _not_listed("cloud", pool.plane.cloud, deployment.policy.clouds)


def _outside_regions(deployment: Deployment, pool: Pool) -> str | None:
    return _not_listed("region", pool.plane.region, deployment.policy.regions)


def _outside_classes(deployment: Deployment, pool: Pool) -> str | None:
    classes = deployment.policy.capacity_classes
    return _not_listed("capacity class", pool.terms.capacity_class.value, classes)


def _outside_residency(deployment: Deployment, pool: Pool) -> str | None:
    wanted = deployment.policy.residency_zones
    if resides(pool.plane.residency_zones, wanted):
        return None
    told = ", ".join(pool.plane.residency_zones) or "none told"
    return f"residency must be {' or '.join(wanted)}; the plane's zones: {told}"


def _not_listed(what: str, value: str, listed: tuple[str, ...]) -> str | None:
    if not listed or value in listed:
        return None
    return f"{what} {value} is not among {', '.join(listed)}"


def _shape(deployment: Deployment, pool: Pool) -> ResourceShape | None:
    return deployment.revision.shape_on(pool.shape.accelerator)


def _known_shape(deployment: Deployment, pool: Pool) -> ResourceShape:
    shape = _shape(deployment, pool)
    assert shape is not None, "the rule of kinds comes first"
    return shape


_RULES: tuple[Callable[[Deployment, Pool], str | None], ...] = (
    _lacks_kind,
    _outside_residency,
    _outside_clouds,
    _outside_regions,
    _outside_classes,
    _lacks_nodes,
    _lacks_host_memory,
)
