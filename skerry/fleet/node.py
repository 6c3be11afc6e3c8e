"""Nodes: the machines of a pool by the names that their plane gives them, and cordons of them."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from skerry.fleet.names import check_part, pool_name

# Of one plane's report. A plane with more reports none: its pools' counts say enough to place by.
NODES_REPORTED_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine as its plane reports it; `name` and `pool` are the plane's own.

    Without `ready` it is not fit for work, and `message` says why.
    """

    name: str
    pool: str
    accelerators: int
    ready: bool = True
    message: str = ""

    def __post_init__(self) -> None:
        check_part(self.name, "node")
        check_part(self.pool, "pool")
        if self.accelerators < 1:
            raise ValueError(f"node {self.name!r} has {self.accelerators} accelerators; at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCordon:
    """A node, by its plane's own name, that takes nothing new; draining, it is to be emptied."""

    node: str
    draining: bool = False


# Every plane's report is compared once a second; with fewer places than planes none would be found.
@lru_cache(maxsize=16_384)
def digest_of_nodes(nodes: tuple[Node, ...]) -> str:
    """Return a digest of a plane's nodes, whatever their order."""
    told = (f"{n.name}\0{n.pool}\0{n.accelerators}\0{n.ready}\0{n.message}" for n in nodes)
    return hashlib.sha256("\0\0".join(sorted(told)).encode()).hexdigest()


def node_name(plane: str, node: str) -> str:
    """Return the fleet-wide id of a plane's node, e.g. `onprem-fra--rack-7`."""
    return pool_name(plane, node)
