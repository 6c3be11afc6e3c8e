"""The settings of one workload plane, read once from its settings.json into frozen values.

The agent and the front read them at start; whatever is wrong is reported in one go, by field.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from skerry.fleet.engine import EngineName
from skerry.fleet.names import DEFAULT_PROJECT, check_name
from skerry.fleet.node import Node
from skerry.fleet.pool import PlaneIdentity, PoolShape
from skerry.fleet.spanning import ONE_HOST_RUNTIME, RUNTIME_LABEL
from skerry.plumbing.errors import FieldViolation, InvalidInput, NotFound
from skerry.plumbing.rpc import TlsFiles
from skerry.plumbing.secret_references import source_of
from skerry.plumbing.trace_target import TraceTarget
from workload_plane.advertised import advertised_host, machine_name
from workload_plane.autoscale_settings import AutoscaleSettings, read_autoscale
from workload_plane.engine_user import EngineUser, read_engine_user
from workload_plane.models.limits import SCHEMES, CacheSettings
from workload_plane.models.uris import REMOTE_SCHEMES
from workload_plane.node_names import NamedPool, name_nodes
from workload_plane.picker.wire import socket_directory
from workload_plane.ray_settings import read_ray
from workload_plane.relay_settings import RelaySettings, read_relay
from workload_plane.replicas.ray.settings import RaySettings
from workload_plane.trace_settings import read_tracing

SETTINGS_BYTES_MAX = 1024 * 1024  # a plane of a thousand pools is far below; a wrong file is not
PORT_MAX = 65_535
# Only the control plane's certificate carries this name; the link accepts no other server.
CONTROL_PLANE_SERVER_NAME = "control-plane.skerry.internal"

Value = TypeVar("Value")

REQUIRED = ("plane", "cloud", "region", "pools", "data_dir", "gateway", "front_port")
OPTIONAL = (
    "project",
    "zone",
    "residency_zones",
    "labels",
    "control_planes",
    "control_plane_server_name",
    "join_addresses",
    "tls",
    "model_dirs",
    "engine_override",
    "model_cache",
    "runtime",
    "ray",
    "relay",
    "device_locks_dir",
    "prefix_disk_dir",
    "autoscale",
    "agent_port",
    "engine_user",
    "engine_environment",
    "tracing",
)
# One for all planes of a host: what they share is its accelerators. In the first nobody can hold a
# lock who does not run planes here; the second is for hosts on which nobody made the first.
DEVICE_LOCKS_DIR = Path("/run/skerry/devices")
SHARED_DEVICE_LOCKS_DIR = Path("/tmp/skerry-devices")
RELAY_FILE = "relay.json"
NODE_NAMES = "node_names"  # of a pool; optional, beside the fields of its shape


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Where the plane's gateway listens: users, peer planes (mTLS), and its admin page.

    `advertised_host` is what users, peers and the control plane are told instead of `host`. With
    `picker` off the gateway balances by itself; `picker_port` is where its metrics are, 0 for
    nowhere. Without `peer_reachable` other planes are told no address: no firewall lets them in.
    With `require_keys` users must show an API key; without, as planes of a release that knew none
    go on, whoever reaches the public port is let in.
    """

    host: str
    advertised_host: str
    public_port: int
    peer_port: int
    admin_port: int
    picker: bool = True
    picker_port: int = 0
    peer_reachable: bool = True
    require_keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneSettings:
    """All that the processes of one plane must be told; everything else they find out.

    `nodes` of all pools, in the order of their devices; none when they are too many to list.
    With `ray`, nodes are what Ray finds: neither they nor their numbers are told here.
    """

    project: str
    identity: PlaneIdentity
    pools: tuple[PoolShape, ...]
    control_planes: tuple[str, ...]
    data_dir: Path
    gateway: GatewaySettings
    front_port: int
    tls: TlsFiles | None
    model_dirs: tuple[Path, ...]
    engine_override: EngineName | None
    model_cache: CacheSettings
    control_plane_server_name: str = CONTROL_PLANE_SERVER_NAME
    nodes: tuple[Node, ...] = ()
    ray: RaySettings | None = None
    relay: RelaySettings | None = None
    device_locks_dir: Path = field(default_factory=lambda: default_locks_dir(os.geteuid()))
    prefix_disk_dir: Path | None = None  # `prefixes` in data_dir where none is told
    autoscale: AutoscaleSettings = field(default_factory=AutoscaleSettings)
    agent_port: int = 0  # of the agent's metrics, 0 for nowhere
    # Join ports of the control planes: the agent renews its certificate itself. None: others do.
    join_addresses: tuple[str, ...] = ()
    engine_user: EngineUser | None = None  # None: engines run as the agent
    engine_environment: tuple[str, ...] = ()  # what engines are given beside what all are
    tracing: TraceTarget | None = None  # None: nothing is traced

    @property
    def plane(self) -> str:
        """Return the plane's name."""
        return self.identity.name

    @property
    def replicas_dir(self) -> Path:
        """Return where the records of the plane's replicas are."""
        return self.data_dir / "replicas"

    @property
    def desired_path(self) -> Path:
        """Return the file of the last acknowledged desired state."""
        return self.data_dir / "desired" / "desired.skerry"

    @property
    def gateway_dir(self) -> Path:
        """Return where the gateway's files are."""
        return self.data_dir / "gateway"

    @property
    def residency_dir(self) -> Path:
        """Return where the ledger of where requests went is kept."""
        return self.data_dir / "residency"

    @property
    def logs_dir(self) -> Path:
        """Return where the logs of the plane's processes are."""
        return self.data_dir / "logs"

    @property
    def endpoints_path(self) -> Path:
        """Return the file that tells the front which replicas serve."""
        return self.data_dir / "endpoints.json"

    @property
    def relay_path(self) -> Path:
        """Return the file that tells the relay which engines serve the continued deployments."""
        return self.data_dir / RELAY_FILE

    @property
    def picker_dir(self) -> Path:
        """Return where the picker's sockets are."""
        return socket_directory(self.data_dir / "picker", Path(tempfile.gettempdir()), os.geteuid())

    @property
    def ports(self) -> frozenset[int]:
        """Return the ports of this plane's own processes, of those too that are down now."""
        gateway, relay = self.gateway, self.relay
        told = {gateway.public_port, gateway.peer_port, gateway.admin_port, gateway.picker_port}
        if relay is not None:
            told |= {relay.http_port, relay.grpc_port, relay.inner_port}
        return frozenset({*told, self.front_port, self.agent_port} - {0})

    @property
    def picker_path(self) -> Path:
        """Return the file that tells the picker what the plane serves."""
        return self.data_dir / "picker.json"

    @property
    def demand_path(self) -> Path:
        """Return the file in which the picker tells what is asked for."""
        return self.data_dir / "demand.json"

    @property
    def spent_path(self) -> Path:
        """Return the file in which the picker keeps what API keys used of their tokens."""
        return self.data_dir / "spent.json"

    @property
    def agent_path(self) -> Path:
        """Return the agent's status file, for people and the supervisor."""
        return self.data_dir / "agent.json"


def default_locks_dir(uid: int, made: Path = DEVICE_LOCKS_DIR) -> Path:
    """Return where accelerators are locked: below /run for root, and where root has made it."""
    return made if uid == 0 or os.path.isdir(made) else SHARED_DEVICE_LOCKS_DIR


def read_settings(path: Path) -> PlaneSettings:
    """Return the settings in the file.

    Raises NotFound when there is none, InvalidInput with a violation for each fault in it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; `skerry up` writes it") from None
    if len(data) > SETTINGS_BYTES_MAX:
        raise InvalidInput(f"{path} is larger than {SETTINGS_BYTES_MAX} bytes")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from None
    return parse_settings(values, str(path))


def parse_settings(values: object, source: str = "settings") -> PlaneSettings:
    """Return the settings in decoded JSON; raises InvalidInput with every fault found."""
    if not isinstance(values, dict):
        raise InvalidInput(f"{source} must be a JSON object")
    reader = _Reader(values)
    for key in values:
        if key not in (*REQUIRED, *OPTIONAL):
            reader.fault(str(key), "is not a setting of a plane")
    settings = _read_all(reader)
    if reader.faults or settings is None:
        told = "; ".join(f"{fault.path}: {fault.message}" for fault in reader.faults)
        raise InvalidInput(f"{source}: {told}", violations=tuple(reader.faults))
    return settings


def _read_all(reader: "_Reader") -> PlaneSettings | None:
    identity = _identity(reader)
    pools = _pools(reader)
    gateway = _gateway(reader)
    project = reader.take("project", str, DEFAULT_PROJECT)
    reader.attempt("project", lambda: check_name(project, "project"))
    override = (
        reader.take("engine_override", str, "") if reader.values.get("engine_override") else ""
    )
    engine = reader.attempt("engine_override", lambda: EngineName(override) if override else None)
    front_port = reader.port("front_port")
    data_dir = reader.take("data_dir", str, "")
    if "data_dir" in reader.values and not Path(data_dir).is_absolute():
        reader.fault("data_dir", f"must be an absolute path, not {data_dir!r}")
    control_planes = reader.addresses("control_planes")
    join_addresses = reader.addresses("join_addresses")
    locks_dir = reader.take("device_locks_dir", str, str(default_locks_dir(os.geteuid())))
    if not Path(locks_dir).is_absolute():
        reader.fault("device_locks_dir", f"must be an absolute path, not {locks_dir!r}")
    prefixes_dir = reader.take("prefix_disk_dir", str, str(Path(data_dir) / "prefixes"))
    if "prefix_disk_dir" in reader.values and not Path(prefixes_dir).is_absolute():
        reader.fault("prefix_disk_dir", f"must be an absolute path, not {prefixes_dir!r}")
    server_name = reader.take("control_plane_server_name", str, CONTROL_PLANE_SERVER_NAME)
    if not server_name:
        reader.fault("control_plane_server_name", "must not be empty: any server would do")
    tls = _tls(reader)
    if control_planes and tls is None and not reader.has_fault("tls"):
        reader.fault("tls", "is needed with control_planes: the link is mTLS only")
    if join_addresses and not control_planes:
        reader.fault("join_addresses", "is of no use without control_planes: nobody is called")
    nodes = name_nodes(identity.name, pools, reader.fault) if identity is not None else ()
    model_cache = _model_cache(reader, Path(data_dir))
    ray = read_ray(reader, tuple(pool.shape for pool in pools), Path(data_dir))
    relay = read_relay(reader)
    autoscale = read_autoscale(reader)
    engine_user = read_engine_user(reader, Path(data_dir))
    agent_port = reader.port("agent_port") if "agent_port" in reader.values else 0
    if identity is None or gateway is None:
        return None
    return PlaneSettings(
        project=project,
        identity=identity,
        pools=tuple(pool.shape for pool in pools),
        nodes=() if ray is not None else nodes,
        ray=ray,
        relay=relay,
        control_planes=control_planes,
        data_dir=Path(data_dir),
        gateway=gateway,
        front_port=front_port,
        tls=tls,
        model_dirs=tuple(Path(entry) for entry in reader.strings("model_dirs")),
        engine_override=engine,
        control_plane_server_name=server_name,
        model_cache=model_cache,
        device_locks_dir=Path(locks_dir),
        prefix_disk_dir=Path(prefixes_dir),
        autoscale=autoscale,
        agent_port=agent_port,
        join_addresses=join_addresses,
        engine_user=engine_user,
        engine_environment=reader.strings("engine_environment"),
        tracing=read_tracing(reader),
    )


class _Reader:
    """Takes values out of decoded JSON and collects what is wrong instead of stopping at it."""

    def __init__(
        self,
        values: Mapping[str, object],
        prefix: str = "",
        faults: list[FieldViolation] | None = None,
    ) -> None:
        self.values = values
        self.prefix = prefix
        self.faults: list[FieldViolation] = [] if faults is None else faults

    def fault(self, key: str, message: str) -> None:
        self.faults.append(FieldViolation(path=f"{self.prefix}{key}", message=message))

    def has_fault(self, key: str) -> bool:
        return any(fault.path.startswith(f"{self.prefix}{key}") for fault in self.faults)

    def take(self, key: str, kind: type[Value], default: Value) -> Value:
        if key not in self.values:
            if not self.prefix and key in REQUIRED:
                self.fault(key, "is missing")
            return default
        value = self.values[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            name = getattr(kind, "__name__", str(kind))
            self.fault(key, f"must be of type {name}, not {json.dumps(value)[:80]}")
            return default
        return value

    def port(self, key: str) -> int:
        value = self.take(key, int, 1)
        if not 0 < value <= PORT_MAX:
            self.fault(key, f"must be a port, 1..{PORT_MAX}, not {value}")
        return value

    def count(self, key: str, default: int, *, least: int = 0) -> int:
        value = self.take(key, int, default)
        if value < least:
            self.fault(key, f"must be at least {least}, not {value}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        values = self.take(key, list, [])
        if not all(isinstance(value, str) for value in values):
            self.fault(key, "must be a list of strings")
            return ()
        return tuple(values)

    def addresses(self, key: str) -> tuple[str, ...]:
        told = self.strings(key)
        for index, address in enumerate(told):
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) <= PORT_MAX:
                self.fault(f"{key}[{index}]", f"must be host:port, not {address!r}")
        return told

    def inner(self, key: str) -> "_Reader | None":
        if self.values.get(key) is None:
            if not self.prefix and key in REQUIRED:
                self.fault(key, "is missing")
            return None
        values = self.take(key, dict, {})
        return None if self.has_fault(key) else _Reader(values, f"{self.prefix}{key}.", self.faults)

    def attempt(self, key: str, make: Callable[[], Value]) -> Value | None:
        try:
            return make()
        except (TypeError, ValueError) as error:
            if not self.has_fault(key):
                self.fault(key, str(error))
            return None


def _identity(reader: _Reader) -> PlaneIdentity | None:
    name = reader.take("plane", str, "")
    cloud = reader.take("cloud", str, "")
    region = reader.take("region", str, "")
    zone = reader.take("zone", str, "")
    residency_zones = reader.strings("residency_zones")
    labels = reader.take("labels", dict, {})
    if not all(isinstance(value, str) for value in labels.values()):
        reader.fault("labels", "must map strings to strings")
        labels = {}
    runtime = str(reader.values.get("runtime", ONE_HOST_RUNTIME))  # checked with the section `ray`
    return reader.attempt(
        "plane",
        lambda: PlaneIdentity(
            name=name,
            cloud=cloud,
            region=region,
            zone=zone,
            residency_zones=residency_zones,
            labels=tuple(sorted({**labels, RUNTIME_LABEL: runtime}.items())),
        ),
    )


def _pools(reader: _Reader) -> tuple[NamedPool, ...]:
    known = {field.name: field.type for field in fields(PoolShape)}
    pools = []
    for index, values in enumerate(reader.take("pools", list, [])):
        where = f"pools[{index}]"
        if not isinstance(values, dict) or not set(values) <= {*known, NODE_NAMES}:
            allowed = ", ".join((*known, NODE_NAMES))
            reader.fault(where, f"must be an object with the fields {allowed}")
            continue
        given = {key: value for key, value in values.items() if key != NODE_NAMES}
        wrong = [key for key, value in given.items() if not _fits(known[key], value)]
        for key in wrong:
            reader.fault(f"{where}.{key}", f"is {values[key]!r}, of the wrong type")
        shape = reader.attempt(where, lambda given=given: PoolShape(**given))  # type: ignore[misc]
        names = _node_names(reader, where, values)
        if shape is not None and not reader.has_fault(where):
            pools.append(NamedPool(path=where, shape=shape, node_names=names))
    told = [pool.shape.name for pool in pools]
    if len(set(told)) != len(told):
        reader.fault("pools", f"a pool's name appears twice: {told}")
        return ()
    return tuple(pools)


def _node_names(
    reader: _Reader, where: str, values: Mapping[str, object]
) -> tuple[str, ...] | None:
    names = values.get(NODE_NAMES)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        reader.fault(f"{where}.{NODE_NAMES}", "must be a list of strings")
        return None
    return tuple(names)


def _fits(kind: object, value: object) -> bool:
    return type(value) is kind  # exact: a bool is no count


def _gateway(reader: _Reader) -> GatewaySettings | None:
    inner = reader.inner("gateway")
    if inner is None:
        return None
    ports = {}
    for key in ("public_port", "peer_port", "admin_port"):
        if key not in inner.values:
            inner.fault(key, "is missing")
        else:
            ports[key] = inner.port(key)
    for key in inner.values:
        if key not in (known := [field.name for field in fields(GatewaySettings)]):
            inner.fault(str(key), f"is not a setting of the gateway: {', '.join(known)}")
    host = inner.take("host", str, "127.0.0.1")
    told = inner.take("advertised_host", str, "")
    advertised = inner.attempt("advertised_host", lambda: advertised_host(told, host, machine_name))
    picker_port = inner.port("picker_port") if "picker_port" in inner.values else 0
    if len(ports) < 3 or advertised is None:
        return None
    return GatewaySettings(
        host=host,
        advertised_host=advertised,
        picker=inner.take("picker", bool, True),
        picker_port=picker_port,
        peer_reachable=inner.take("peer_reachable", bool, True),
        require_keys=inner.take("require_keys", bool, False),
        **ports,
    )


def _model_cache(reader: _Reader, data_dir: Path) -> CacheSettings:
    inner = reader.inner("model_cache") or _Reader({}, "model_cache.", reader.faults)
    known = [field.name for field in fields(CacheSettings)]
    for key in inner.values:
        if key not in known:
            inner.fault(str(key), f"is not a setting of the model cache: {', '.join(known)}")
    defaults = CacheSettings(directory=data_dir / "models")
    paths = {}
    for key, default in (("directory", defaults.directory), ("hub_token_file", None)):
        text = inner.take(key, str, "")
        if text and not Path(text).is_absolute():
            inner.fault(key, f"must be an absolute path, not {text!r}")
        paths[key] = Path(text) if text else default
    schemes = inner.strings("schemes") if "schemes" in inner.values else SCHEMES
    for scheme in schemes:
        if scheme not in REMOTE_SCHEMES:
            inner.fault("schemes", f"{scheme!r} is none of {', '.join(REMOTE_SCHEMES)}")
    endpoint = inner.take("hub_endpoint", str, defaults.hub_endpoint)
    if not endpoint.startswith(("https://", "http://")):
        inner.fault("hub_endpoint", f"must be https://HOST, not {endpoint!r}")
    return CacheSettings(
        directory=paths["directory"] or defaults.directory,
        bytes_max=inner.count("bytes_max", 1, least=1) if "bytes_max" in inner.values else None,
        free_bytes_min=inner.count("free_bytes_min", defaults.free_bytes_min),
        model_bytes_max=inner.count("model_bytes_max", defaults.model_bytes_max, least=1),
        downloads_max=inner.count("downloads_max", defaults.downloads_max, least=1),
        schemes=schemes,
        allow_private_addresses=inner.take("allow_private_addresses", bool, False),
        allow_pickle=inner.take("allow_pickle", bool, False),
        hub_endpoint=endpoint,
        hub_token_file=paths["hub_token_file"],
        hub_token=_hub_token(inner),
    )


def _hub_token(reader: _Reader) -> str | None:
    key = "hub_token"
    text = reader.take(key, str, "")
    if not text:
        return None
    try:
        source_of(text, {})
    except InvalidInput as fault:
        # Not shown: it may be the token.
        reader.fault(key, f"says where the token is: {fault.message}")
    if "hub_token_file" in reader.values:
        reader.fault(key, "and hub_token_file name two tokens; leave one of them out")
    return text


def _tls(reader: _Reader) -> TlsFiles | None:
    inner = reader.inner("tls")
    if inner is None:
        return None
    paths = {}
    for key in ("ca", "certificate", "key"):
        if key not in inner.values:
            inner.fault(key, "is missing")
        paths[key] = Path(inner.take(key, str, ""))
    return TlsFiles(ca=paths["ca"], cert=paths["certificate"], key=paths["key"])
