"""Reads the setting `runtime` and the section `ray` of a plane's settings, with every fault.

`settings` calls it with the reader that collects the faults of the whole file.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from skerry.fleet.pool import PoolShape
from workload_plane.replicas.ray.settings import (
    CPU,
    GPU,
    LABEL,
    LOOPBACK,
    OBJECT_STORE_BYTES_MIN,
    OWN_NODES_MAX,
    PORT_DEFAULT,
    TEMP_DIR_CHARS_MAX,
    OwnNode,
    RayPool,
    RaySettings,
)

RUNTIMES = ("local", "ray")
RAY_KEYS = (
    "address",
    "host",
    "port",
    "token_file",
    "temp_dir",
    "object_store_memory_bytes",
    "dashboard",
    "pools",
    "nodes",
)
_POOL_KEYS = {"labels", "resource"}
_CPU_POOL = "cpu"

Value = TypeVar("Value")


class Reader(Protocol):
    """What takes values out of decoded settings and collects what is wrong with them."""

    values: Mapping[str, object]

    def fault(self, key: str, message: str) -> None:
        """Note what is wrong with a setting."""
        ...

    def take(self, key: str, kind: type[Value], default: Value) -> Value:
        """Return a setting of the kind, the default without one or with a fault."""
        ...

    def inner(self, key: str) -> "Reader | None":
        """Return the reader of a section, None without one."""
        ...


def read_ray(reader: Reader, pools: Sequence[PoolShape], data_dir: Path) -> RaySettings | None:
    """Return how the plane uses Ray, None for the runtime `local`."""
    runtime = reader.take("runtime", str, "local")
    if runtime not in RUNTIMES:
        reader.fault("runtime", f"must be {' or '.join(RUNTIMES)}, not {runtime!r}")
    inner = reader.inner("ray")
    if runtime != "ray":
        if inner is not None:
            reader.fault("ray", 'is of no use without "runtime": "ray"')
        return None
    for index, pool in enumerate(pools):
        if pool.nodes:
            reader.fault(
                f"pools[{index}].nodes", "must be 0 with the runtime ray, which counts nodes itself"
            )
    if inner is None:
        inner = _Nothing(reader)
    for key in inner.values:
        if key not in RAY_KEYS:
            inner.fault(str(key), f"is not a setting of ray: {', '.join(RAY_KEYS)}")
    return _read(inner, pools, data_dir)


class _Nothing:
    """The section of a plane that says nothing about it: defaults throughout."""

    def __init__(self, outer: Reader) -> None:
        self.values: Mapping[str, object] = {}
        self._outer = outer

    def fault(self, key: str, message: str) -> None:
        self._outer.fault(f"ray.{key}", message)

    def take(self, key: str, kind: type[Value], default: Value) -> Value:
        del key, kind
        return default

    def inner(self, key: str) -> Reader | None:
        del key
        return None


def _read(inner: Reader, pools: Sequence[PoolShape], data_dir: Path) -> RaySettings:
    address = inner.take("address", str, "")
    if address and (":" not in address or not address.rpartition(":")[2].isdigit()):
        inner.fault("address", f"must be host:port of Ray's head, not {address!r}")
    port = inner.take("port", int, PORT_DEFAULT)
    if not 0 < port <= 65_535:
        inner.fault("port", f"must be a port, not {port}")
    memory = inner.take("object_store_memory_bytes", int, OBJECT_STORE_BYTES_MIN)
    if memory < OBJECT_STORE_BYTES_MIN:
        inner.fault("object_store_memory_bytes", f"must be at least {OBJECT_STORE_BYTES_MIN}")
    token = inner.take("token_file", str, "")
    if address and not token:
        inner.fault("token_file", "is needed with an address: clusters without a token are refused")
    temp = inner.take("temp_dir", str, "")
    temp_dir = Path(temp) if temp else default_temp_dir(data_dir)
    if len(str(temp_dir)) > TEMP_DIR_CHARS_MAX:
        inner.fault("temp_dir", f"must have at most {TEMP_DIR_CHARS_MAX} characters")
    for key, text in (("token_file", token), ("temp_dir", temp)):
        if text and not Path(text).is_absolute():
            inner.fault(key, f"must be an absolute path, not {text!r}")
    home = data_dir / "ray"
    return RaySettings(
        address=address,
        host=inner.take("host", str, LOOPBACK),
        port=port,
        token_file=Path(token) if token else home / "token",
        temp_dir=temp_dir,
        data_dir=home,
        object_store_memory_bytes=memory,
        dashboard=inner.take("dashboard", bool, False),
        pools=_pools(inner, pools),
        nodes=_own_nodes(inner, pools, address),
    )


def default_temp_dir(data_dir: Path) -> Path:
    """Return a short folder for Ray's sockets and logs, another one for each plane."""
    digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"skerry-ray-{digest}"


def _pools(inner: Reader, pools: Sequence[PoolShape]) -> tuple[RayPool, ...]:
    told = inner.take("pools", dict, {})
    names = [pool.name for pool in pools]
    for name, values in told.items():
        where = f"pools.{name}"
        if name not in names:
            inner.fault(where, f"is no pool of this plane: {', '.join(names)}")
        elif not isinstance(values, dict) or not set(values) <= _POOL_KEYS:
            inner.fault(where, f"must be an object with the fields {', '.join(sorted(_POOL_KEYS))}")
    return tuple(_pool(inner, pool, told.get(pool.name)) for pool in pools)


def _pool(inner: Reader, pool: PoolShape, told: object) -> RayPool:
    values = told if isinstance(told, dict) else {}
    labels = values.get("labels", {LABEL: pool.name})
    resource = values.get("resource", CPU if pool.accelerator == _CPU_POOL else GPU)
    if not isinstance(labels, dict) or not all(
        isinstance(text, str) for pair in labels.items() for text in pair
    ):
        inner.fault(f"pools.{pool.name}.labels", "must map strings to strings")
        labels = {}
    if not isinstance(resource, str) or not resource:
        inner.fault(f"pools.{pool.name}.resource", f"must name a resource of Ray, not {resource!r}")
        resource = GPU
    return RayPool(name=pool.name, labels=dict(labels), resource=resource)


def _own_nodes(inner: Reader, pools: Sequence[PoolShape], address: str) -> tuple[OwnNode, ...]:
    told = inner.take("nodes", list, [])
    names = [pool.name for pool in pools]
    if address and told:
        inner.fault("nodes", "are the agent's own only where it starts the head: no address then")
    if len(told) > OWN_NODES_MAX:
        inner.fault("nodes", f"must be at most {OWN_NODES_MAX} on one host")
        return ()
    if not told and not address and names:
        told = [{"name": f"{names[0]}-1", "pool": names[0]}]
    nodes: list[OwnNode] = []
    for index, values in enumerate(told):
        where = f"nodes[{index}]"
        if not isinstance(values, dict) or set(values) != {"name", "pool"}:
            inner.fault(where, "must be an object with name and pool")
        elif values["pool"] not in names:
            inner.fault(f"{where}.pool", f"is no pool of this plane: {', '.join(names)}")
        elif values["name"] in [node.name for node in nodes]:
            inner.fault(f"{where}.name", "appears twice")
        else:
            try:
                nodes.append(OwnNode(name=values["name"], pool=values["pool"]))
            except (TypeError, ValueError) as error:
                inner.fault(where, str(error))
    return tuple(nodes)
