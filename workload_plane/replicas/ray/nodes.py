"""Which of a plane's pools Ray's nodes belong to, by which name, and what is fit for work: PURE.

`cluster` calls it with each look; a node that Ray no longer lists is kept for a while, and for as
long as replicas of it are not known to be gone.
"""

import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from skerry.fleet.names import InvalidName, check_part
from skerry.fleet.node import NODES_REPORTED_MAX, Node
from skerry.fleet.pool import PoolShape
from workload_plane.replicas.ray.settings import NODE_LABEL, RayPool
from workload_plane.replicas.ray.values import RayNode
from workload_plane.replicas.supply import Supply

# A raylet that is started again is back within it; only then is the control plane to place anew.
GRACE_SECONDS = 60.0
# A node of an autoscaled group never comes back under its name.
FORGET_SECONDS = 3_600.0
_ID_CHARS = 6
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNode:
    """A node of the plane; `fault` says why it takes nothing, `node_id` is empty while it is away.

    `seen_at` is when Ray last listed it, in monotonic seconds of this agent. `boot_id` is the
    machine's, as its launcher last said. `stray` nodes go by a name that is not theirs: nothing is
    started on them, and nobody is asked there.
    """

    name: str
    pool: str
    node_id: str = ""
    address: str = ""
    boot_id: str = ""
    fault: str = ""
    seen_at: float = 0.0
    stray: bool = False


def place_nodes(
    pools: Sequence[RayPool],
    shapes: Sequence[PoolShape],
    nodes: Iterable[RayNode],
    now: float,
    known: Container[str] = (),
) -> tuple[KnownNode, ...]:
    """Return the living Ray nodes that belong to a pool, by name.

    Of two of one name that which is `known` by its id has it: what its raylet holds counts until
    Ray tells its end, and the next raylet of the same machine waits for that.
    """
    per_node = {shape.name: shape.accelerators_per_node for shape in shapes}
    placed: dict[str, KnownNode] = {}
    for node in sorted(nodes, key=lambda one: (one.node_id not in known, one.node_id)):
        pool = next((one for one in pools if one.labels.items() <= node.labels.items()), None)
        if pool is None or not node.alive:
            continue
        name, fault = _name(node)
        stray = bool(fault) or name in placed
        if name in placed:
            fault = f"another node is named {name}, too: give it a label {NODE_LABEL}"
            name = f"{name[:56]}-x{node.node_id[:_ID_CHARS]}"
        has = int(node.resources.get(pool.resource, 0))
        if not fault and has < per_node[pool.name]:
            fault = f"has {has} {pool.resource}, a node of pool {pool.name} {per_node[pool.name]}"
        placed[name] = KnownNode(
            name=name,
            pool=pool.name,
            node_id=node.node_id,
            address=node.address,
            fault=fault,
            seen_at=now,
            stray=stray,
        )
    return tuple(placed[name] for name in sorted(placed))


def merge_nodes(
    before: Mapping[str, KnownNode],
    placed: Iterable[KnownNode],
    held: Collection[str],
    now: float,
) -> dict[str, KnownNode]:
    """Return all nodes to remember: those there are, and those that are away.

    Nodes of `held` have replicas that are not known to be gone.
    """
    merged = {
        name: replace(node, node_id="", fault="Ray does not list it")
        for name, node in before.items()
        if name in held or (now - node.seen_at < FORGET_SECONDS and not node.stray)
    }
    for node in placed:
        known = before.get(node.name)
        same = known is not None and known.address == node.address
        merged[node.name] = replace(node, boot_id=known.boot_id if known and same else "")
    return dict(sorted(merged.items()))


def lost_node(names: Iterable[str], nodes: Mapping[str, KnownNode], now: float) -> str:
    """Return the first of the nodes that has been away for longer than a raylet's start takes."""
    for name in names:
        node = nodes.get(name)
        if node is None or (not node.node_id and now - node.seen_at > GRACE_SECONDS):
            return name
    return ""


def supply_of(
    shapes: Sequence[PoolShape],
    nodes: Mapping[str, KnownNode],
    closed: Mapping[str, str],
    stopped: str,
    now: float,
) -> Supply:
    """Return what the plane has; `closed` says by node why it takes nothing at this moment.

    While Ray is gone (`stopped`) the nodes are reported as last seen: that it is gone says nothing
    of them, and what serves there must not be placed elsewhere.
    """
    per_node = {shape.name: shape.accelerators_per_node for shape in shapes}
    told: list[Node] = []
    for node in nodes.values():
        away = not node.node_id and now - node.seen_at > GRACE_SECONDS
        unfit = bool(node.node_id and node.fault)
        told.append(
            Node(
                name=node.name,
                pool=node.pool,
                accelerators=per_node[node.pool],
                ready=bool(stopped) or not (away or unfit),
                message=stopped or node.fault or closed.get(node.name, ""),
            )
        )
    fit = [node.pool for node in told if node.ready]
    listed = tuple(told) if len(told) <= NODES_REPORTED_MAX else ()
    return Supply(
        shapes=tuple(replace(shape, nodes=fit.count(shape.name)) for shape in shapes),
        nodes=listed,
        closed=frozenset(node.name for node in nodes.values() if node.fault or node.name in closed),
        stopped=stopped,
        discovered=True,
    )


def _name(node: RayNode) -> tuple[str, str]:
    given = node.labels.get(NODE_LABEL)
    if given is None:
        host = _NOT_IN_NAMES.sub("-", node.hostname.lower()).strip("-") or "node"
        return (host if host[0].isalpha() else f"n-{host}")[:63].rstrip("-"), ""
    try:
        return check_part(given, "node"), ""
    except InvalidName as error:
        return f"n-x{node.node_id[:_ID_CHARS]}", f"label {NODE_LABEL}: {error}"
