"""What the agent and its bridge to Ray tell one another: frozen values, no Ray in them."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from skerry.plumbing import errors
from skerry.plumbing.errors import SkerryError
from workload_plane.engine_user import EngineUser
from workload_plane.replicas.local import HostCommand, host_command
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.ray.settings import CPU

GROUP_PREFIX = "skerry/"  # of the names of our placement groups: `skerry/PLANE/REPLICA`
CREATED = "CREATED"  # Ray's word for a placement group that has what it asked for
ORPHANED = "ORPHANED"  # ours: it holds nothing of what is there now


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    """A node as Ray lists it; `node_id` is new at each start of its raylet."""

    node_id: str
    alive: bool
    address: str
    hostname: str
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWord:
    """What the launcher of a node said: which boot it is, which software, what runs there."""

    boot_id: str
    software: str
    replicas: tuple[LiveReplica, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RayLook:
    """One look at the cluster: its nodes, and the state of our placement groups by name."""

    nodes: tuple[RayNode, ...]
    groups: Mapping[str, str] = field(default_factory=dict)


def group_state(state: str, lies_on: Iterable[str], alive: Container[str]) -> str:
    """Return what Ray says of a group, but `ORPHANED` where it lies on a node that is not alive.

    For a moment after a raylet's end Ray tells its groups as before, while the next raylet of the
    same machine offers the same accelerators to anybody.
    """
    return state if all(node in alive for node in lies_on) else ORPHANED


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a placement group holds of one node, by Ray's names of resources."""

    node_id: str
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """A process of Ray's that works in a placement group: on which node, and its pid there."""

    node_id: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlace:
    """What a launcher must know of its node: plane, folders, and where replicas listen."""

    plane: str
    node: str
    node_id: str
    replicas_dir: str
    logs_dir: str
    host: str
    head_address: str = ""
    command: HostCommand = host_command
    device_locks_dir: str = ""  # empty: nobody locks the accelerators
    prefix_disk_dir: str = ""  # empty: no prefixes on disk
    engine_user: EngineUser | None = None
    engine_environment: tuple[str, ...] = ()
    trace_endpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error as it crosses process borders: its kind's name and what it says."""

    kind: str
    message: str

    @staticmethod
    def of(error: BaseException) -> "Fault":
        """Return the fault of an error; what is none of ours is Unavailable."""
        if isinstance(error, SkerryError):
            return Fault(kind=type(error).__name__, message=error.message)
        return Fault(kind="Unavailable", message=f"{type(error).__name__}: {error}"[:500])

    def error(self) -> SkerryError:
        """Return the error to raise."""
        kind = getattr(errors, self.kind, SkerryError)
        is_ours = isinstance(kind, type) and issubclass(kind, SkerryError)
        return kind(self.message) if is_ours else SkerryError(self.message)


def bundles_of(node_ids: Sequence[str], resource: str, each: int) -> tuple[Bundle, ...]:
    """Return what holds `each` accelerators on every node, node after node.

    On one node it is one bundle. Over several every accelerator is one of its own: engines put a
    rank into each, vLLM takes no larger ones, TensorRT-LLM none twice. A rank counts as a CPU, too,
    which is what Ray asks of an actor that names an accelerator.
    """
    if len(node_ids) == 1:
        return (Bundle(node_id=node_ids[0], resources={resource: float(each)}),)
    one = {CPU: 1.0, resource: 1.0}
    return tuple(
        Bundle(node_id=node_id, resources=one) for node_id in node_ids for _ in range(each)
    )


def group_name(plane: str, replica: str) -> str:
    """Return the name of the placement group that holds a replica's accelerators."""
    return f"{GROUP_PREFIX}{plane}/{replica}"
