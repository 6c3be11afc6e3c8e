"""How a plane uses Ray: whose cluster, which of its nodes make which pool, and what a head takes.

Part of the plane's settings; read by `workload_plane.settings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skerry.fleet.names import check_part

LOOPBACK = "127.0.0.1"
PORT_DEFAULT = 6379
# Ray's least. Nothing of ours goes through the object store: requests go straight to replicas.
OBJECT_STORE_BYTES_MIN = 78_643_200
LABEL = "skerry.io/pool"  # of a Ray node: the pool it belongs to, unless the settings say otherwise
NODE_LABEL = "skerry.io/node"  # of a Ray node: its name in the plane
CPU, GPU = "CPU", "GPU"
TEMP_DIR_CHARS_MAX = 40  # Ray puts sockets below it, and their paths may have 107 characters
OWN_NODES_MAX = 8  # of raylets on one host; more than one serves tests and demonstrations only


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPool:
    """Which Ray nodes make up a pool: those with all the labels, counted by the resource."""

    name: str
    labels: Mapping[str, str]
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNode:
    """A Ray node that the agent itself starts on its host; the first one is the head."""

    name: str
    pool: str

    def __post_init__(self) -> None:
        check_part(self.name, "node")
        check_part(self.pool, "pool")


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """One plane's use of Ray; without an `address` the agent starts and keeps the head itself.

    `host` is the address of the agent's own node, `token_file` holds the cluster's token.
    """

    pools: tuple[RayPool, ...]
    token_file: Path
    temp_dir: Path
    data_dir: Path
    address: str = ""
    host: str = LOOPBACK
    port: int = PORT_DEFAULT
    object_store_memory_bytes: int = OBJECT_STORE_BYTES_MIN
    dashboard: bool = False
    nodes: tuple[OwnNode, ...] = field(default_factory=tuple)

    @property
    def head_address(self) -> str:
        """Return where Ray's head answers."""
        return self.address or f"{self.host}:{self.port}"

    @property
    def starts_head(self) -> bool:
        """Return whether the head is the agent's to start and to end."""
        return not self.address

    @property
    def processes_path(self) -> Path:
        """Return the file of the Ray processes that an agent started here."""
        return self.data_dir / "processes.json"

    @property
    def nodes_path(self) -> Path:
        """Return the file of the nodes as they were last seen."""
        return self.data_dir / "nodes.json"

    @property
    def fenced_path(self) -> Path:
        """Return the file of the replicas that were given up with their nodes."""
        return self.data_dir / "fenced.json"


def pool_of_own(node: OwnNode, settings: RaySettings) -> RayPool:
    """Return how Ray is told of the pool of a node that the agent starts."""
    return next(pool for pool in settings.pools if pool.name == node.pool)
