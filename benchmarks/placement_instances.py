"""Placement instances for measuring: seeded generators of four sizes, and `skerry-placement-v0`.

`bench_large` and `bench_scheduler` use them; a seed and a size give the same arrays everywhere.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.compiled import Floats, Ints
from scheduler.instance import (
    NO_LIMIT,
    ColumnArrays,
    DeploymentArrays,
    Instance,
    PoolArrays,
    assemble,
)

FORMAT = "skerry-placement-v0"
GIB = float(2**30)
# kind: ($ of an accelerator-hour on demand, GiB of one accelerator, speed, GiB of a node, share)
KINDS = {
    "L4": (0.8, 24, 1.0, 384, 9),
    "A10G": (1.05, 24, 1.3, 512, 12),
    "L40S": (1.6, 48, 2.6, 1024, 13),
    "A100": (2.4, 80, 4.3, 1024, 14),
    "H100": (3.9, 80, 9.0, 2048, 28),
    "H200": (4.6, 141, 10.5, 2048, 20),
    "B200": (6.6, 192, 17.0, 4096, 4),
}
# (price over on demand, share of the pools); reserved, on demand, spot
MARKETS = ((0.65, 48), (1.0, 36), (0.38, 16))
# (GiB of accelerator memory a replica needs, GiB of host memory, share of the deployments)
MODELS = ((18, 21, 18), (30, 27, 14), (44, 38, 14), (80, 61, 16), (160, 106, 20), (480, 436, 18))
EXTRA_HOST_GIB = 210  # prefix caches in host memory
EXTRA_HOST_SHARE = 0.18
TENSOR_PARALLEL = (1, 2, 4, 8, 16)
KEEPS = (0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.67, 0.75, 0.75, 0.9)
SPOT_MAX_BY_PRIORITY = (0.0, 0.2, 0.5, 1.0)
# Accelerators that the cheapest kinds would take over all there are; survival and kinds that fill
# up come on top, so that prices of a third of the pools rise and greedy leaves some unserved.
TIGHTNESS = 0.36


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One row of the targets table."""

    pools: int
    deployments: int
    nodes_mean: float


SIZES = {
    "10x50": Size(pools=10, deployments=50, nodes_mean=70.0),
    "100x500": Size(pools=100, deployments=500, nodes_mean=80.0),
    "1000x2000": Size(pools=1000, deployments=2000, nodes_mean=56.0),
    "1M": Size(pools=1000, deployments=2000, nodes_mean=131.5),
}


def generate(name: str, seed: int) -> Instance:
    """Return the instance of a size and a seed."""
    size, chance = SIZES[name], np.random.default_rng(seed)
    planes = max(4, size.pools // 5)
    plane = np.sort(
        np.concatenate([np.arange(planes), chance.integers(0, planes, size.pools - planes)])
    ).astype(np.int64)
    region_of_plane = chance.integers(0, max(3, planes // 5), planes)
    kinds = _pick(chance, [k[4] for k in KINDS.values()], size.pools)
    market = _pick(chance, [m[1] for m in MARKETS], size.pools)
    figures = np.array([k[:4] for k in KINDS.values()])
    nodes = np.maximum(2, np.round(np.exp(chance.normal(0.0, 1.1, size.pools)) * 30)).astype(int)
    nodes = np.maximum(2, np.round(nodes * size.nodes_mean / nodes.mean())).astype(np.int64)
    discount = np.array([m[0] for m in MARKETS])[market]
    price = figures[kinds, 0] * discount * chance.uniform(0.85, 1.2, size.pools)
    pools = _pools(nodes, figures[kinds, 3], plane, region_of_plane[plane])
    model = _pick(chance, [m[2] for m in MODELS], size.deployments)
    host = np.array([m[1] for m in MODELS], float)[model]
    host += EXTRA_HOST_GIB * (chance.random(size.deployments) < EXTRA_HOST_SHARE)
    priority = _pick(chance, [10, 30, 41, 19], size.deployments)
    need = np.array([m[0] for m in MODELS], float)[model]
    taken, speed = _shapes(need, figures, chance)
    able = _eligible(chance, taken, kinds, region_of_plane[plane])
    of, on = np.nonzero(able)
    throughput, accelerators = speed[of, kinds[on]], taken[of, kinds[on]].astype(float)
    host_memory = host[of] * GIB
    columns = _columns((of, on), accelerators, throughput, host_memory, pools, price, market)
    replicas = np.exp(chance.normal(0.0, 1.2, size.deployments)) * 20
    best = np.full(size.deployments, np.inf)
    np.minimum.at(best, of, accelerators / throughput)
    share = replicas * np.where(taken > 0, taken, 99).min(axis=1) * (best < np.inf)
    accelerators_all = float((nodes * 8).sum())
    best[~np.isfinite(best)] = 1.0
    demand = np.round(share / share.sum() * TIGHTNESS * accelerators_all / best, 4)
    return _assembled(chance, pools, columns, demand, priority)


def _assembled(
    chance: np.random.Generator,
    pools: PoolArrays,
    columns: ColumnArrays,
    demand: Floats,
    priority: Ints,
) -> Instance:
    count = len(demand)
    keep = np.array(KEEPS)[chance.integers(0, len(KEEPS), count)]
    # No deployment takes more than a fifth of what it could use, nor promises what planes can't.
    reach = np.zeros(count)
    capacity = pools.capacity[columns.pool] / columns.accelerators * columns.throughput
    np.add.at(reach, columns.deployment, capacity)
    demand = np.minimum(demand, np.round(0.2 * reach, 4))
    pairs = np.unique(np.stack([columns.deployment, pools.plane[columns.pool]]), axis=1)
    planes = np.bincount(pairs[0], minlength=count)
    keep = np.where(planes * (1 - keep) >= 1.5, keep, 0.0)
    return assemble(
        pools,
        _deployments(demand, priority, keep, np.array(SPOT_MAX_BY_PRIORITY)[priority]),
        columns,
        np.zeros(len(pools.nodes), np.int64),
    )


def _pick(chance: np.random.Generator, weights: Sequence[int], count: int) -> Ints:
    share = np.array(weights, float)
    return chance.choice(len(weights), count, p=share / share.sum()).astype(np.int64)


def _shapes(need: Floats, figures: Floats, chance: np.random.Generator) -> tuple[Ints, Floats]:
    """Return accelerators and throughput per (deployment, kind); 0 where it cannot run."""
    count, kinds = len(need), len(figures)
    ladder = np.array(TENSOR_PARALLEL)
    steps = np.searchsorted(ladder, need[:, None] / figures[None, :, 1])
    runs = (steps < len(ladder)) & (chance.random((count, kinds)) < 0.55)
    runs[np.arange(count), chance.integers(4, kinds, count)] |= steps.max(axis=1) < 99
    runs &= steps < len(ladder)
    taken = np.where(runs, ladder[np.minimum(steps, len(ladder) - 1)], 0)
    speed = 200.0 * figures[None, :, 2] * taken**0.9 / need[:, None]
    speed *= chance.uniform(0.85, 1.15, (count, kinds))
    taken_or_one = np.where(taken.max(axis=1, keepdims=True) == 0, 1, taken)
    return np.where(runs, taken, 0 * taken_or_one).astype(np.int64), np.round(speed, 4)


def _eligible(
    chance: np.random.Generator, taken: Ints, kinds: Ints, region: Ints
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    count, regions = len(taken), int(region.max()) + 1
    share = np.array([1.0, 0.65, 0.36, 0.3])[chance.integers(0, 4, count)]
    allowed = chance.random((count, regions)) < share[:, None]
    allowed[np.arange(count), chance.integers(0, regions, count)] = True
    return (taken[:, kinds] > 0) & allowed[:, region]


def _pools(nodes: Ints, memory_gib: Floats, plane: Ints, region: Ints) -> PoolArrays:
    return PoolArrays(
        nodes=nodes,
        per_node=np.full(len(nodes), 8, np.int64),
        node_memory=memory_gib * GIB,
        capacity=(nodes * 8).astype(np.float64),
        memory=nodes * memory_gib * GIB,
        plane=plane,
        region=region.astype(np.int64),
        cloud=(region % 3).astype(np.int64),
    )


def _columns(
    pairs: tuple[Any, Any],
    accelerators: Floats,
    throughput: Floats,
    host_memory: Floats,
    pools: PoolArrays,
    price: Floats,
    market: Ints,
) -> ColumnArrays:
    of, on = (np.asarray(ids, np.int64) for ids in pairs)
    nodes, node_memory = pools.nodes[on], pools.node_memory[on]
    whole = np.where(accelerators > 8, accelerators // 8, 0)
    fits = host_memory / np.maximum(whole, 1) <= node_memory
    by_node = np.minimum(8 // accelerators, node_memory // host_memory)
    alone = np.where(whole > 0, nodes // np.maximum(whole, 1), nodes * by_node)
    nothing = np.zeros(len(of), np.int64)
    return ColumnArrays(
        deployment=of,
        pool=on,
        accelerators=accelerators,
        memory=np.where(whole > 0, whole * node_memory, host_memory),
        load_memory=host_memory,
        throughput=throughput,
        price=accelerators * price[on],
        move_price=np.zeros(len(of)),
        current=nothing,
        limit=np.where(fits, alone, 0).astype(np.int64),
        spot=(market[on] == 2).astype(np.int64),
    )


def _deployments(demand: Floats, priority: Ints, keep: Floats, spot: Floats) -> DeploymentArrays:
    count = len(demand)
    return DeploymentArrays(
        demand=demand,
        priority=priority,
        replicas_max=np.full(count, NO_LIMIT),
        cost_max=np.full(count, NO_LIMIT),
        tolerate=np.where(keep > 0, 0, -1).astype(np.int64),
        keep=keep,
        spread=np.full(count, -1, np.int64),
        domains_min=np.zeros(count, np.int64),
        spot_max=spot,
    )


def read(path: Path) -> Instance:
    """Return the instance of a `skerry-placement-v0` file; raises ValueError on another format."""
    raw: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    if raw.get("format") != FORMAT:
        raise ValueError(f"{path.name} has format {raw.get('format')!r}; need {FORMAT!r}")
    told, wanted = raw["pools"], raw["deployments"]
    plane = np.array([pool["plane"] for pool in told], np.int64)
    pools = _pools(
        np.array([pool["nodes"] for pool in told], np.int64),
        np.array([pool["host_mem_gib_per_node"] for pool in told], float),
        plane,
        plane,
    )
    assert all(pool["gpus_per_node"] == 8 for pool in told)
    rows = [
        (d["id"], on, shape["tp"], shape["throughput"], d["host_mem_gib"] * GIB)
        for d in wanted
        for on in d["eligible_pools"]
        if (shape := d["configs"].get(told[on]["gpu"]))
    ]
    of, on, accelerators, throughput, memory = (np.array(part) for part in zip(*rows, strict=True))
    columns = _columns(
        (of, on),
        accelerators.astype(float),
        throughput,
        memory,
        pools,
        np.array([pool["price_gpu_hour"] for pool in told]),
        np.array([2 * (pool["market"] == "spot") for pool in told], np.int64),
    )
    return assemble(
        pools,
        _deployments(
            np.array([d["demand"] for d in wanted]),
            np.array([d["priority"] for d in wanted], np.int64),
            np.array([d["survive_any_plane_loss_share"] for d in wanted]),
            np.array([d["spot_share_max"] for d in wanted], float),
        ),
        columns,
        np.zeros(len(told), np.int64),
    )
