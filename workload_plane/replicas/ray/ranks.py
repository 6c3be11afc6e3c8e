"""The simulated engine over several nodes: a driver of Ray's with a rank on each of them.

It does what TensorRT-LLM and vLLM do there: joins the plane's Ray, takes the current placement
group, starts an actor in its bundles, and ends when one of them does. Started by the replica host.
"""

import argparse
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from skerry.plumbing.errors import Unavailable
from workload_plane.replicas.ray.settings import CPU, GPU
from workload_plane.simulated.config import read_config
from workload_plane.simulated.server import main as serve

PLACED_SECONDS_MAX = 60.0  # importing us on a busy machine takes seconds
_RANK_ENDED = 70  # the exit code


class Rank:
    """Stands for the ranks of one node; a real engine has one for each accelerator."""

    def node(self) -> str:
        """Return the node's id in Ray."""
        return str(ray.get_runtime_context().get_node_id())

    def work(self) -> None:
        """Return never: whoever waits for it sees it end."""
        threading.Event().wait()


def first_bundles(nodes: Mapping[int, str]) -> tuple[int, ...]:
    """Return the first bundle of each node, in the bundles' order, from node ids by bundle."""
    first: dict[str, int] = {}
    for bundle, node in sorted(nodes.items()):
        first.setdefault(node, bundle)
    return tuple(first.values())


def _place(group: Any) -> list[Any]:
    """Start a rank on each node of the group; raises Unavailable unless all come up there."""
    table = placement_group_table(group)
    nodes = {int(bundle): str(node) for bundle, node in table["bundles_to_node_id"].items()}
    ranks: list[Any] = []
    for bundle in first_bundles(nodes):
        resources = dict(group.bundle_specs[bundle])
        cpus, gpus = resources.pop(CPU, 0.0), resources.pop(GPU, 0.0)
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=bundle
        )
        kind: Any = ray.remote(Rank)
        actor = kind.options(
            num_cpus=cpus, num_gpus=gpus, resources=resources, scheduling_strategy=strategy
        )
        ranks.append(actor.remote())
    try:
        told = ray.get([rank.node.remote() for rank in ranks], timeout=PLACED_SECONDS_MAX)
    except ray.exceptions.RayError as error:
        raise Unavailable(f"ranks did not come up: {error}") from None
    assert set(told) == set(nodes.values()), f"ranks are on {told}, bundles on {nodes}"
    return ranks


def _watch(ranks: Sequence[Any]) -> None:
    ray.wait([rank.work.remote() for rank in ranks], num_returns=1)
    print("a rank ended", file=sys.stderr, flush=True)
    os._exit(_RANK_ENDED)


def main(argv: Sequence[str] | None = None) -> int:
    """Place the ranks, then serve like the simulated engine of one node."""
    parser = argparse.ArgumentParser(prog="simulated-ranks", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args(argv)
    config = read_config(arguments.config)
    ray.init(
        address=os.environ["RAY_ADDRESS"],
        log_to_driver=False,
        configure_logging=False,
        _node_ip_address=config.host,
    )
    group = ray.util.get_current_placement_group()
    if group is None:
        print("simulated-ranks: in no placement group", file=sys.stderr, flush=True)
        return 1
    ranks = _place(group)
    threading.Thread(target=_watch, args=(ranks,), daemon=True).start()
    return serve(["--config", str(arguments.config)])


if __name__ == "__main__":
    raise SystemExit(main())
