"""Which pool may host which deployment, and the reason if not.

`grid` asks for every pair; `explain` shows the reasons. Rules are tried in order, first one wins.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from scheduler.problem import DemandedDeployment, PoolBar, RegionLatency
from skerry.fleet.deployment import Deployment, ResourceShape
from skerry.fleet.packing import nodes_of_replica
from skerry.fleet.pool import Pool, resides
from skerry.fleet.spanning import why_on_one_host, why_on_one_node

GIB = 2**30
NAMED_MAX = 5  # of a list in a reason

# Seconds by (client region, plane region).
Latencies = Mapping[tuple[str, str], float]


def latency_table(latencies: Iterable[RegionLatency]) -> Latencies:
    """Return the latencies by client region and plane region."""
    return {(told.client_region, told.plane_region): told.seconds for told in latencies}


def rejection(
    demanded: DemandedDeployment,
    pool: Pool,
    *,
    bar: PoolBar | None,
    runs: int,
    latencies: Latencies,
) -> str | None:
    """Return the first reason why the pool may not host the deployment, None when it may.

    `runs` replicas there already outlive a cordon or a missing price, never a rule of the policy.
    """
    found = _reasons(demanded, pool, bar=bar, runs=runs, latencies=latencies)
    return next(found, None)


def rejections(
    demanded: DemandedDeployment,
    pool: Pool,
    *,
    bar: PoolBar | None,
    runs: int,
    latencies: Latencies,
) -> tuple[str, ...]:
    """Return every reason why the pool may not host the deployment."""
    if missing := _lacks_kind(demanded.deployment, pool):
        return (missing,)  # no other rule says anything without a shape
    return tuple(_reasons(demanded, pool, bar=bar, runs=runs, latencies=latencies))


def _reasons(
    demanded: DemandedDeployment,
    pool: Pool,
    *,
    bar: PoolBar | None,
    runs: int,
    latencies: Latencies,
) -> Iterator[str]:
    deployment = demanded.deployment
    for rule in _RULES:
        if reason := rule(deployment, pool):
            yield reason
    if reason := too_far(deployment, pool, latencies):
        yield reason
    if demanded.pools is not None and pool.name not in demanded.pools:
        yield "not among the pools this demand names"
    closed = nothing_new(pool, bar)
    if closed is not None and not (runs > 0 and (bar is None or bar.keeps_current)):
        yield closed


def nothing_new(pool: Pool, bar: PoolBar | None) -> str | None:
    """Return why nothing new may start on the pool, None when it may."""
    if bar is not None:
        return bar.reason
    if pool.terms.cordoned:
        return "pool is cordoned"
    if pool.terms.price_per_accelerator_hour is None:
        return "pool has no price: `skerry pool set`"
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


def too_far(deployment: Deployment, pool: Pool, latencies: Latencies) -> str | None:
    """Return which latency limit the pool's region breaks; one that is not told is broken."""
    for limit in deployment.policy.latency:
        seconds = _seconds(limit.client_region, pool, latencies)
        way = f"latency {limit.client_region} to {pool.plane.region}"
        if seconds is None:
            return f"{way} is not told; the limit is {limit.seconds_max * 1000:g} ms"
        if seconds > limit.seconds_max:
            return f"{way} is {seconds * 1000:g} ms; the limit is {limit.seconds_max * 1000:g} ms"
    return None


def _seconds(client_region: str, pool: Pool, latencies: Latencies) -> float | None:
    """Return what is told of the very cloud's region, else of regions of that name."""
    told = latencies.get((client_region, f"{pool.plane.cloud}/{pool.plane.region}"))
    return latencies.get((client_region, pool.plane.region)) if told is None else told


def _lacks_kind(deployment: Deployment, pool: Pool) -> str | None:
    if _shape(deployment, pool):
        return None
    kinds = _some([shape.accelerator for shape in deployment.revision.shapes], ", ")
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


def _is_on_one_node(deployment: Deployment, pool: Pool) -> str | None:
    shape, per_node = _known_shape(deployment, pool), pool.shape.accelerators_per_node
    if not nodes_of_replica(shape.accelerators, per_node):
        return None
    reason = why_on_one_node(deployment.revision.engine) or why_on_one_host(pool.plane)
    if reason is None:
        return None
    return (
        f"one replica takes {shape.accelerators} x {shape.accelerator}, a node has {per_node}, and"
        f" {reason}"
    )


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
    told = _some(pool.plane.residency_zones, ", ") or "none told"
    return f"residency must be {_some(wanted, ' or ')}; the plane's zones: {told}"


def _not_listed(what: str, value: str, listed: tuple[str, ...]) -> str | None:
    if not listed or value in listed:
        return None
    return f"{what} {value} is not among {_some(listed, ', ')}"


def _some(names: Sequence[str], between: str) -> str:
    """Return the first few names and how many more there are: a reason stays a sentence."""
    more = len(names) - NAMED_MAX
    named = between.join(names[:NAMED_MAX])
    return f"{named} and {more} more" if more > 0 else named


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
    _is_on_one_node,
    _lacks_host_memory,
)
