"""What a runtime has to run replicas on: pools and nodes, as it finds them or as it was told."""

from dataclasses import dataclass

from skerry.fleet.node import Node
from skerry.fleet.pool import PoolShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """The pools of a plane and their nodes at one moment.

    `closed` names nodes that take nothing new at this moment, also such as are fit; `stopped` says
    why nothing new starts anywhere. Where nodes come and go (`discovered`) devices are numbered
    within their node, else through the whole pool.
    """

    shapes: tuple[PoolShape, ...]
    nodes: tuple[Node, ...] = ()
    closed: frozenset[str] = frozenset()
    stopped: str = ""
    discovered: bool = False
