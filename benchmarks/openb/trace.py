"""The openb trace: its nodes, its lists of requests, and streams made of them.

Read by `benchmarks/bench_openb.py`. Requests that ask for the same are one shape; a stream is an
array of shape numbers in order of arrival.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.openb.packer import (
    ACCELERATORS_MAX,
    COUNT,
    CPU,
    FREE,
    KIND,
    MEMORY,
    ROOM,
    WHOLE,
    Shapes,
)
from scheduler.compiled import Ints

DATA = Path(os.environ.get("SKERRY_OPENB_DATA", "../shared/data/openb"))
NODE_FILE = "openb_node_list_gpu_node.csv"
REQUEST_FILE = "openb_pod_list_{name}.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One list of requests beside the nodes that shall host them."""

    name: str
    kinds: tuple[str, ...]  # accelerator kinds; a node's is its index here
    rooms: Ints  # one row per node, all of it free
    shapes: Shapes
    arrivals: Ints  # shape of each request, in the trace's order

    @property
    def capacity_milli(self) -> int:
        """Return thousandths of accelerators of all nodes."""
        return int(self.rooms[:, COUNT].sum()) * WHOLE

    @property
    def size_milli(self) -> Ints:
        """Return thousandths of accelerators that each shape asks for."""
        return self.shapes.accelerators * self.shapes.milli


def is_there(data: Path = DATA) -> bool:
    """Say whether the trace's files are where they are looked for."""
    return (data / NODE_FILE).is_file()


def read(name: str, data: Path = DATA) -> Trace:
    """Return the nodes and the list of that name: default, multigpu20 or gpuspec10."""
    with (data / NODE_FILE).open(encoding="utf-8", newline="") as file:
        nodes = list(csv.DictReader(file))
    with (data / REQUEST_FILE.format(name=name)).open(encoding="utf-8", newline="") as file:
        asked = [request_of(row) for row in csv.DictReader(file)]
    kinds = tuple(sorted({row["model"] for row in nodes}))
    rooms = rooms_of(
        [
            (int(n["cpu_milli"]), int(n["memory_mib"]), kinds.index(n["model"]), int(n["gpu"]))
            for n in nodes
        ]
    )
    distinct = sorted(set(asked))
    number = {request: index for index, request in enumerate(distinct)}
    arrivals = np.array([number[request] for request in asked], dtype=np.int64)
    shares = np.bincount(arrivals, minlength=len(distinct)) / len(arrivals)
    return Trace(
        name=name,
        kinds=kinds,
        rooms=rooms,
        shapes=shapes_of(distinct, shares.tolist(), kinds),
        arrivals=arrivals,
    )


Request = tuple[int, int, int, int, str]  # accelerators, milli of each, cpu, memory, kinds


def request_of(row: dict[str, str]) -> Request:
    """Return what a row asks for; a list without a kind column lets every kind serve."""
    count = int(row["num_gpu"])
    kinds = "|".join(sorted(set(filter(None, row.get("gpu_spec", "").split("|")))))
    milli = int(row["gpu_milli"]) if count else 0
    return count, milli, int(row["cpu_milli"]), int(row["memory_mib"]), kinds if count else ""


def rooms_of(nodes: list[tuple[int, int, int, int]]) -> Ints:
    """Return an empty room per node of (cpu, memory, kind, accelerators)."""
    rooms = np.zeros((len(nodes), ROOM), dtype=np.int64)
    for room, (cpu, memory, kind, count) in zip(rooms, nodes, strict=True):
        assert 0 <= count <= ACCELERATORS_MAX, "a node of this trace has at most eight"
        room[CPU], room[MEMORY], room[KIND], room[COUNT] = cpu, memory, kind, count
        room[FREE : FREE + count] = WHOLE
    return rooms


def shapes_of(requests: list[Request], shares: list[float], kinds: tuple[str, ...]) -> Shapes:
    """Return distinct requests as arrays, with the share of arrivals that each makes."""
    numbers = np.array([request[:4] for request in requests], dtype=np.int64)
    allowed = np.array(
        [[not spec or kind in spec.split("|") for kind in kinds] for *_, spec in requests],
        dtype=np.int64,
    )
    return Shapes(
        accelerators=numbers[:, 0].copy(),
        milli=numbers[:, 1].copy(),
        cpu=numbers[:, 2].copy(),
        memory=numbers[:, 3].copy(),
        allowed=allowed,
        share=np.array(shares, dtype=np.float64),
    )


def stream_of(trace: Trace, seed: int, load: float, *, shuffled: bool) -> Ints:
    """Return the trace's arrivals and then draws from them, until `load` of the capacity is asked.

    `shuffled` permutes the whole stream, as the paper does; the list alone is in order of creation.
    """
    chance = np.random.default_rng(seed)
    size, wanted = trace.size_milli, trace.capacity_milli * load
    stream = trace.arrivals
    while size[stream].sum() < wanted:
        drawn = chance.choice(trace.arrivals, size=len(trace.arrivals))
        stream = np.concatenate([stream, drawn])
    stream = stream[: int(np.searchsorted(np.cumsum(size[stream]), wanted)) + 1]
    return chance.permutation(stream) if shuffled else stream
