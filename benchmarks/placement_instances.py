"""Placement instances for measuring, one description for all: the values of `skerry-placement-v0`.

`describe` makes them from a size and a seed, `load` reads a file of the format, `write` makes one
for `skerry schedule`; arrays (`arrays_of`) and problems (`problem_of`) come from the same values.
"""

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scheduler.compiled import Floats, Ints
from scheduler.instance import (
    NO_LIMIT,
    ColumnArrays,
    DeploymentArrays,
    Instance,
    PoolArrays,
    assemble,
)
from scheduler.problem import PlacementProblem
from skerry.cli.schedule import FORMAT, read_file, read_problem

DATA = Path(os.environ.get("SKERRY_PLACEMENT_DATA", "../shared/data/placement"))
GIB = float(2**30)
PER_NODE = 8
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
# market: (price over on demand, share of the pools)
MARKETS = {"reserved": (0.65, 48), "on_demand": (1.0, 36), "spot": (0.38, 16)}
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

Values = Mapping[str, Any]


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
# Solved before anything is timed, to load and compile what the timed call needs: one for the exact
# path, and one with more columns than that takes.
TINY = Size(pools=6, deployments=12, nodes_mean=12.0)
TINY_WIDE = Size(pools=100, deployments=150, nodes_mean=12.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Supply:
    """The pools' figures; `kind` and `market` are places in KINDS and MARKETS."""

    plane: Ints
    region: Ints
    kind: Ints
    market: Ints
    nodes: Ints
    price: Floats


def generate(name: str, seed: int) -> Instance:
    """Return the arrays of a size and a seed."""
    return arrays_of(describe(SIZES[name], seed))


def read(path: Path) -> Instance:
    """Return the arrays of a file; raises InvalidInput on another format."""
    return arrays_of(load(path))


def load(path: Path) -> Values:
    """Return the values of a file; raises InvalidInput on another format."""
    return read_file(path)


def write(path: Path, values: Values) -> None:
    """Write a file that `skerry schedule` takes, packed if its name ends in .gz."""
    text = json.dumps(values, separators=(",", ":")).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def problem_of(values: Values) -> PlacementProblem:
    """Return the problem, as `skerry schedule` reads it."""
    return read_problem(values, "benchmark")


def instance_file(size: str) -> Path:
    """Return where the shared instance of a size would be; not every size has one."""
    return DATA / f"placement_{size}_seed1.json.gz"


def values_of(size: str, seed: str) -> Values:
    """Return the values of a size and a seed; the seed "file" is the shared instance."""
    return load(instance_file(size)) if seed == "file" else describe(SIZES[size], int(seed))


def describe(size: Size, seed: int) -> Values:
    """Return the values of `skerry-placement-v0`; equal for equal sizes and seeds everywhere."""
    chance = np.random.default_rng(seed)
    supply = _supply(size, chance)
    figures = np.array([k[:4] for k in KINDS.values()])
    model = _pick(chance, [m[2] for m in MODELS], size.deployments)
    host = np.array([m[1] for m in MODELS], np.int64)[model]
    host += EXTRA_HOST_GIB * (chance.random(size.deployments) < EXTRA_HOST_SHARE)
    priority = _pick(chance, [10, 30, 41, 19], size.deployments)
    need = np.array([m[0] for m in MODELS], float)[model]
    taken, speed = _shapes(need, figures, chance)
    able = _eligible(chance, taken, supply)
    replicas = np.exp(chance.normal(0.0, 1.2, size.deployments)) * 20
    demand = _demand(able, (taken, speed), supply, replicas)
    keep = np.array(KEEPS)[chance.integers(0, len(KEEPS), size.deployments)]
    planes = np.array([len(np.unique(supply.plane[row])) for row in able])
    # No promise that the planes there are can't keep.
    keep = np.where(planes * (1 - keep) >= 1.5, keep, 0.0)
    kinds = list(KINDS)
    told = zip(demand, priority, keep, host, taken, speed, able, strict=True)
    return {
        "format": FORMAT,
        "seed": seed,
        "pools": _told_pools(supply),
        "deployments": [
            {
                "id": number,
                "demand": float(wanted),
                "priority": int(level),
                "survive_any_plane_loss_share": float(kept),
                "spot_share_max": SPOT_MAX_BY_PRIORITY[level],
                "host_mem_gib": int(memory),
                "configs": {
                    kinds[k]: {"tp": int(sizes[k]), "throughput": float(speeds[k])}
                    for k in np.flatnonzero(sizes)
                },
                "eligible_pools": np.flatnonzero(where).tolist(),
            }
            for number, (wanted, level, kept, memory, sizes, speeds, where) in enumerate(told)
        ],
    }


def _supply(size: Size, chance: np.random.Generator) -> _Supply:
    planes = max(4, size.pools // 5)
    plane = np.sort(
        np.concatenate([np.arange(planes), chance.integers(0, planes, size.pools - planes)])
    ).astype(np.int64)
    region_of_plane = chance.integers(0, max(3, planes // 5), planes)
    kind = _pick(chance, [k[4] for k in KINDS.values()], size.pools)
    market = _pick(chance, [m[1] for m in MARKETS.values()], size.pools)
    nodes = np.maximum(2, np.round(np.exp(chance.normal(0.0, 1.1, size.pools)) * 30)).astype(int)
    nodes = np.maximum(2, np.round(nodes * size.nodes_mean / nodes.mean())).astype(np.int64)
    discount = np.array([m[0] for m in MARKETS.values()])[market]
    price = np.array([k[0] for k in KINDS.values()])[kind] * discount
    price = price * chance.uniform(0.85, 1.2, size.pools)
    region = region_of_plane[plane].astype(np.int64)
    return _Supply(plane=plane, region=region, kind=kind, market=market, nodes=nodes, price=price)


def _told_pools(supply: _Supply) -> list[Values]:
    kinds, markets = list(KINDS), list(MARKETS)
    return [
        {
            "id": number,
            "plane": int(supply.plane[number]),
            "gpu": kinds[supply.kind[number]],
            "market": markets[supply.market[number]],
            "price_gpu_hour": float(supply.price[number]),
            "nodes": int(supply.nodes[number]),
            "gpus_per_node": PER_NODE,
            "host_mem_gib_per_node": KINDS[kinds[supply.kind[number]]][3],
        }
        for number in range(len(supply.plane))
    ]


def _pick(chance: np.random.Generator, weights: Sequence[int], count: int) -> Ints:
    share = np.array(weights, float)
    return chance.choice(len(weights), count, p=share / share.sum()).astype(np.int64)


def _shapes(need: Floats, figures: Floats, chance: np.random.Generator) -> tuple[Ints, Floats]:
    """Return accelerators and throughput per (deployment, kind); 0 where it cannot run."""
    count, kinds = len(need), len(figures)
    ladder = np.array(TENSOR_PARALLEL)
    steps = np.searchsorted(ladder, need[:, None] / figures[None, :, 1])
    runs = (steps < len(ladder)) & (chance.random((count, kinds)) < 0.55)
    runs[np.arange(count), chance.integers(4, kinds, count)] = True
    runs &= steps < len(ladder)
    taken = np.where(runs, ladder[np.minimum(steps, len(ladder) - 1)], 0).astype(np.int64)
    speed = 200.0 * figures[None, :, 2] * taken**0.9 / need[:, None]
    speed *= chance.uniform(0.85, 1.15, (count, kinds))
    return taken, np.round(speed, 4)


def _eligible(chance: np.random.Generator, taken: Ints, supply: _Supply) -> NDArray[np.bool_]:
    """Return which pools each deployment may use: its kinds, in the regions it allows."""
    count, regions = len(taken), int(supply.region.max()) + 1
    share = np.array([1.0, 0.65, 0.36, 0.3])[chance.integers(0, 4, count)]
    allowed = chance.random((count, regions)) < share[:, None]
    allowed[np.arange(count), chance.integers(0, regions, count)] = True
    return np.asarray((taken[:, supply.kind] > 0) & allowed[:, supply.region])


def _demand(
    able: NDArray[np.bool_], shapes: tuple[Ints, Floats], supply: _Supply, replicas: Floats
) -> Floats:
    """Return demands that share TIGHTNESS of all accelerators, on each one's cheapest kind."""
    taken, speed = shapes
    of, on = np.nonzero(able)
    accelerators = taken[of, supply.kind[on]].astype(float)
    throughput = speed[of, supply.kind[on]]
    best = np.full(len(able), np.inf)
    np.minimum.at(best, of, accelerators / throughput)
    share = replicas * np.where(taken > 0, taken, 99).min(axis=1) * (best < np.inf)
    best[~np.isfinite(best)] = 1.0
    accelerators_all = float((supply.nodes * PER_NODE).sum())
    demand = np.round(share / share.sum() * TIGHTNESS * accelerators_all / best, 4)
    # No deployment takes more than a fifth of what it could use.
    reach = np.zeros(len(able))
    np.add.at(reach, of, (supply.nodes * PER_NODE).astype(float)[on] / accelerators * throughput)
    return np.asarray(np.minimum(demand, np.round(0.2 * reach, 4)))


def arrays_of(values: Values) -> Instance:
    """Return the arrays of the values: pools and deployments in their order there."""
    told, wanted = values["pools"], values["deployments"]
    pools = _pool_arrays(told)
    kinds = sorted({pool["gpu"] for pool in told} | {k for d in wanted for k in d["configs"]})
    place = {kind: number for number, kind in enumerate(kinds)}
    taken, speed = np.zeros((2, len(wanted), len(kinds)))
    for number, deployment in enumerate(wanted):
        for kind, config in deployment["configs"].items():
            taken[number, place[kind]] = config["tp"]
            speed[number, place[kind]] = config["throughput"]
    lists = [deployment["eligible_pools"] for deployment in wanted]
    of = np.repeat(np.arange(len(wanted)), [len(pools) for pools in lists]).astype(np.int64)
    on = np.array([j for pools in lists for j in pools], np.int64)
    kind_of_pool = np.array([place[pool["gpu"]] for pool in told], np.int64)
    runs = taken[of, kind_of_pool[on]] > 0
    of, on = of[runs], on[runs]
    return assemble(
        pools,
        _deployment_arrays(wanted),
        _columns(
            (of, on, taken[of, kind_of_pool[on]], speed[of, kind_of_pool[on]]),
            np.array([d["host_mem_gib"] for d in wanted]) * GIB,
            pools,
            np.array([pool["price_gpu_hour"] for pool in told]),
            np.array([pool["market"] == "spot" for pool in told], np.int64),
        ),
        np.zeros(len(told), np.int64),
    )


def _pool_arrays(told: Sequence[Values]) -> PoolArrays:
    nodes = np.array([pool["nodes"] for pool in told], np.int64)
    per_node = np.array([pool["gpus_per_node"] for pool in told], np.int64)
    memory = np.array([pool["host_mem_gib_per_node"] for pool in told], float) * GIB
    plane = np.array([pool["plane"] for pool in told], np.int64)
    return PoolArrays(
        nodes=nodes,
        per_node=per_node,
        node_memory=memory,
        capacity=(nodes * per_node).astype(np.float64),
        memory=nodes * memory,
        plane=plane,
        region=plane,  # the format knows no region and no cloud
        cloud=plane,
    )


def _columns(
    pairs: tuple[Ints, Ints, Floats, Floats],
    host_memory: Floats,
    pools: PoolArrays,
    price: Floats,
    spot: Ints,
) -> ColumnArrays:
    of, on, accelerators, throughput = pairs
    memory, nodes, node_memory = host_memory[of], pools.nodes[on], pools.node_memory[on]
    per_node = pools.per_node[on]
    whole = np.where(accelerators > per_node, accelerators // per_node, 0)
    fits = memory / np.maximum(whole, 1) <= node_memory
    fits &= (whole == 0) | (accelerators % per_node == 0)
    by_node = np.minimum(per_node // accelerators, node_memory // np.maximum(memory, 1.0))
    alone = np.where(whole > 0, nodes // np.maximum(whole, 1), nodes * by_node)
    return ColumnArrays(
        deployment=of,
        pool=on,
        accelerators=accelerators,
        memory=np.where(whole > 0, whole * node_memory, memory),
        load_memory=memory,
        throughput=throughput,
        price=accelerators * price[on],
        move_price=np.zeros(len(of)),
        current=np.zeros(len(of), np.int64),
        limit=np.where(fits, alone, 0).astype(np.int64),
        spot=spot[on],
    )


def _deployment_arrays(wanted: Sequence[Values]) -> DeploymentArrays:
    count = len(wanted)
    keep = np.array([d["survive_any_plane_loss_share"] for d in wanted], float)
    return DeploymentArrays(
        demand=np.array([d["demand"] for d in wanted], float),
        priority=np.array([d["priority"] for d in wanted], np.int64),
        replicas_max=np.full(count, NO_LIMIT),
        cost_max=np.full(count, NO_LIMIT),
        tolerate=np.where(keep > 0, 0, -1).astype(np.int64),
        keep=keep,
        spread=np.full(count, -1, np.int64),
        domains_min=np.zeros(count, np.int64),
        spot_max=np.array([d["spot_share_max"] for d in wanted], float),
    )
