"""The nodes of a plane by name: as its settings name them, or counted within each pool. PURE.

`settings` calls it; what it finds wrong goes to the settings' list of faults.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skerry.fleet.names import NAME_CHARACTERS_MAX, SEPARATOR, InvalidName, check_part
from skerry.fleet.node import NODES_REPORTED_MAX, Node, node_name
from skerry.fleet.pool import PoolShape

Fault = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPool:
    """A pool of the settings with its place there, and the names of its nodes where given."""

    path: str
    shape: PoolShape
    node_names: tuple[str, ...] | None = None


def name_nodes(plane: str, pools: Sequence[NamedPool], fault: Fault) -> tuple[Node, ...]:
    """Return every node of the plane, none if there are too many to report each.

    Without names of its own a pool's nodes are POOL-1 to POOL-N. Every fault is told by the path
    of the setting.
    """
    if sum(pool.shape.nodes for pool in pools) > NODES_REPORTED_MAX:
        for pool in pools:
            if pool.node_names is not None:
                fault(
                    f"{pool.path}.node_names",
                    f"a plane of more than {NODES_REPORTED_MAX} nodes tells none: leave it out",
                )
        return ()
    taken: set[str] = set()
    nodes: list[Node] = []
    # Names that were chosen keep what they are; only a counted one can be in their way.
    for pool in sorted(pools, key=lambda one: one.node_names is None):
        nodes += _nodes_of(plane, pool, taken, fault)
    order = {pool.shape.name: place for place, pool in enumerate(pools)}
    return tuple(sorted(nodes, key=lambda node: order[node.pool]))


def _nodes_of(plane: str, pool: NamedPool, taken: set[str], fault: Fault) -> list[Node]:
    shape, given = pool.shape, pool.node_names
    if given is not None and len(given) != shape.nodes:
        fault(
            f"{pool.path}.node_names",
            f"names {len(given)} nodes, the pool has {shape.nodes}: name each, or leave it out",
        )
        return []
    counted = tuple(f"{shape.name}-{number}" for number in range(1, shape.nodes + 1))
    nodes: list[Node] = []
    for place, name in enumerate(counted if given is None else given):
        where = f"{pool.path}.node_names" + ("" if given is None else f"[{place}]")
        remedy = "; name the pool's nodes here" if given is None else ""
        if name in taken:
            fault(where, f"node {name!r} appears twice in the plane{remedy}")
            continue
        taken.add(name)
        if wrong := _why_unfit(plane, name):
            fault(where, f"{wrong}{remedy}")
            if given is None:
                break  # they only differ by their number: one fault says it
            continue
        nodes.append(Node(name=name, pool=shape.name, accelerators=shape.accelerators_per_node))
    return nodes


def _why_unfit(plane: str, name: str) -> str:
    """Return why a node cannot have the name, empty when it can."""
    try:
        check_part(name, "node")
    except InvalidName as error:
        return str(error)
    try:
        node_name(plane, name)
    except InvalidName:
        return (
            f"node {name!r} has the id {plane}{SEPARATOR}{name} in the fleet, which is longer than"
            f" {NAME_CHARACTERS_MAX} characters"
        )
    return ""
