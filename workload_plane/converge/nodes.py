"""On which nodes of a pool replicas are, and where the next one goes: PURE.

`plan` makes one PoolRoom for each pool and turn, and takes from it with every start. A pool whose
nodes the plane does not list is one node without a name, as large as the pool.
"""

from bisect import insort
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from skerry.fleet.deployment import ResourceShape
from skerry.fleet.observation import ReplicaState
from skerry.fleet.packing import nodes_of_replica
from workload_plane.converge.seen import SeenPool, SeenReplica

_NAMELESS = ""
# Above any node's: how a pool without listed nodes spends its host memory is not seen from here.
_MEMORY_ANY = 2**100


@dataclass(slots=True)
class _Node:
    """What is left of one node; below zero when more is there than it has."""

    place: int  # in the pool's order
    name: str
    is_open: bool  # not cordoned
    accelerators: int
    memory: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one replica holds of one node."""

    node: _Node
    accelerators: int
    memory: int


class PoolRoom:
    """What is free on each node of a pool, after all that its replicas hold."""

    def __init__(
        self, pool: SeenPool, replicas: Iterable[SeenReplica], closed: Collection[str] = ()
    ) -> None:
        """Count what the pool's replicas hold; nodes of `closed` take nothing new."""
        self._pool = pool
        self._listed = bool(pool.nodes)
        self._per_node = pool.accelerators_per_node if self._listed else pool.accelerators
        self._memory = pool.host_memory_bytes if self._listed else _MEMORY_ANY
        self._nodes = [
            _Node(place, name, name not in closed, self._per_node, self._memory)
            for place, name in enumerate(pool.nodes or (_NAMELESS,))
        ]
        self._held: dict[str, list[_Piece]] = {}
        # What is being ended holds its accelerators until it is confirmed gone.
        here = [r for r in replicas if r.pool == pool.name and r.state is not ReplicaState.FAILED]
        by_name = {node.name: node for node in self._nodes}
        told = [r for r in here if self._listed and r.nodes and by_name.keys() >= set(r.nodes)]
        for replica in told:
            self._hold(replica, [by_name[name] for name in replica.nodes])
        self._hold_somewhere([replica for replica in here if replica.name not in self._held])
        # Places of open nodes by their free accelerators: thousands of starts on thousands of
        # nodes in one turn take no look at each node for each start.
        self._open: dict[int, list[int]] = {}
        for node in self._nodes:
            if node.is_open:
                self._open.setdefault(node.accelerators, []).append(node.place)

    def take(self, shape: ResourceShape) -> tuple[str, ...] | None:
        """Take room for one replica and return its nodes, none by name in an unlisted pool.

        Of the nodes with room it is the fullest, so that whole ones stay free for large replicas;
        None when no open node has room.
        """
        whole = self._whole(shape.accelerators)
        if whole:
            chosen = [self._nodes[place] for place in self._open.get(self._per_node, ())[:whole]]
            if len(chosen) < whole or shape.host_memory_bytes > whole * self._memory:
                return None
            for node in chosen:
                self._spend(node, self._per_node, self._memory)
        else:
            fullest = self._fullest(shape)
            if fullest is None:
                return None
            chosen = [fullest]
            self._spend(fullest, shape.accelerators, shape.host_memory_bytes)
        return tuple(node.name for node in chosen) if self._listed else ()

    def in_the_way(
        self, shape: ResourceShape, replicas: Sequence[SeenReplica]
    ) -> SeenReplica | None:
        """Return which of the replicas to end first so that a replica of the shape gets room.

        `replicas` are by usefulness, the most useful first; None when ending them all would give
        no open node room: then nobody is to go for nothing.
        """
        whole = self._whole(shape.accelerators)
        if whole and shape.host_memory_bytes > whole * self._memory:
            return None
        there: dict[int, list[tuple[int, _Piece]]] = {}
        for rank, replica in enumerate(replicas):
            for piece in self._held.get(replica.name, ()):
                there.setdefault(piece.node.place, []).append((rank, piece))
        ways = [
            way
            for node in self._nodes
            if node.is_open
            and (way := self._way(node, shape, there.get(node.place, ()))) is not None
        ]
        ways.sort(key=lambda way: (len(way), [-rank for rank in way]))
        needed = ways[: max(1, whole)]
        if len(needed) < max(1, whole):
            return None
        return next((replicas[way[0]] for way in needed if way), None)

    def why_full(self, shape: ResourceShape) -> str:
        """Return why no replica of the shape finds room, for people."""
        wanted = f"{shape.accelerators} accelerator{'s' if shape.accelerators > 1 else ''}"
        if shape.host_memory_bytes and self._listed:
            wanted += f" and {shape.host_memory_bytes} bytes of host memory"
        free = sum(max(0, node.accelerators) for node in self._nodes if node.is_open)
        if not self._listed:
            return f"pool {self._pool.name} has {free} free, a replica takes {wanted}"
        whole = self._whole(shape.accelerators)
        closed = sum(not node.is_open for node in self._nodes)
        cordoned = f"; {closed} of its {len(self._nodes)} nodes are cordoned" if closed else ""
        lacking = f"no {whole} empty nodes" if whole else "no node with room"
        return f"pool {self._pool.name} has {lacking} for {wanted}, {free} free in all{cordoned}"

    def _whole(self, accelerators: int) -> int:
        return nodes_of_replica(accelerators, self._per_node) if self._listed else 0

    def _has_room(self, node: _Node, shape: ResourceShape, accelerators: int, memory: int) -> bool:
        """Say whether the node has room once so much more of it is free."""
        accelerators += node.accelerators
        if self._whole(shape.accelerators):
            return accelerators == self._per_node
        return accelerators >= shape.accelerators and (
            node.memory + memory >= shape.host_memory_bytes
        )

    def _fullest(self, shape: ResourceShape) -> _Node | None:
        """Return the first of the open nodes with the least room that is enough."""
        for free in range(shape.accelerators, self._per_node + 1):
            for place in self._open.get(free, ()):
                if self._nodes[place].memory >= shape.host_memory_bytes:
                    return self._nodes[place]
        return None

    def _spend(self, node: _Node, accelerators: int, memory: int) -> None:
        """Take so much of an open node."""
        self._open[node.accelerators].remove(node.place)
        node.accelerators -= accelerators
        node.memory -= memory
        insort(self._open.setdefault(node.accelerators, []), node.place)

    def _way(
        self, node: _Node, shape: ResourceShape, there: Sequence[tuple[int, _Piece]]
    ) -> list[int] | None:
        """Return the ranks of who leaves the node for the shape, last first; None: in vain."""
        accelerators, memory = 0, 0
        way: list[int] = []
        for rank, piece in reversed(there):
            if self._has_room(node, shape, accelerators, memory):
                break
            way.append(rank)
            accelerators += piece.accelerators
            memory += piece.memory
        return way if self._has_room(node, shape, accelerators, memory) else None

    def _hold(self, replica: SeenReplica, nodes: Sequence[_Node]) -> None:
        if len(nodes) == 1:
            self._put(replica, nodes[0], replica.accelerators, replica.host_memory_bytes)
            return
        for node in nodes:
            self._put(replica, node, self._per_node, self._memory)

    def _put(self, replica: SeenReplica, node: _Node, accelerators: int, memory: int) -> None:
        node.accelerators -= accelerators
        node.memory -= memory
        self._held.setdefault(replica.name, []).append(_Piece(node, accelerators, memory))

    def _hold_somewhere(self, replicas: Sequence[SeenReplica]) -> None:
        """Count replicas that do not tell where they are: the largest first, each where it fits.

        Open nodes first: what is taken for theirs cannot be given to anybody.
        """
        nodes = sorted(self._nodes, key=lambda node: not node.is_open)
        for replica in sorted(replicas, key=lambda one: (-one.accelerators, one.name)):
            whole = self._whole(replica.accelerators)
            least = self._per_node if whole else replica.accelerators
            fit = (node for node in nodes if node.accelerators >= least)
            fitting = list(islice(fit, max(1, whole)))
            if len(fitting) == max(1, whole):
                self._hold(replica, fitting)
            else:
                self._spread(replica, nodes)

    def _spread(self, replica: SeenReplica, nodes: Sequence[_Node]) -> None:
        """Count a replica that fits nowhere in pieces: no accelerator is given twice."""
        left = replica.accelerators
        for node in nodes:
            piece = min(left, max(0, node.accelerators))
            if piece:
                self._put(replica, node, piece, 0)
                left -= piece
        if left:
            self._put(replica, nodes[0], left, 0)


def nodes_held(pool: SeenPool, told: Sequence[str], devices: Sequence[int]) -> tuple[str, ...]:
    """Return a replica's nodes by the devices it holds, or as its record tells; none if unknown.

    Devices come first: nodes may have been renamed or put in another order since it started.
    """
    if not pool.nodes:
        return ()
    numbered = () if pool.numbered_by_node else devices
    per_node, first = pool.accelerators_per_node, pool.first_device
    places = sorted({(device - first) // per_node for device in numbered})
    if places and places[0] >= 0 and places[-1] < len(pool.nodes):
        return tuple(pool.nodes[place] for place in places)
    if told and set(told) <= set(pool.nodes):
        return tuple(told)
    return pool.nodes if len(pool.nodes) == 1 else ()


def devices_of(pool: SeenPool, nodes: Collection[str]) -> tuple[int, ...]:
    """Return the numbers of the nodes' devices: those of the pool, counted node after node."""
    first = pool.first_device
    if not pool.nodes:
        return tuple(range(first, first + pool.accelerators))
    per_node = pool.accelerators_per_node
    if pool.numbered_by_node:
        return tuple(range(per_node * len(nodes)))
    return tuple(
        device
        for place, name in enumerate(pool.nodes)
        if name in nodes
        for device in range(first + place * per_node, first + (place + 1) * per_node)
    )
