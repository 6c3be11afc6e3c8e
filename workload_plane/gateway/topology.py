"""What the gateway is to route: frozen input of `resources.build_snapshot`.

The agent fills these from its desired state and from what it observed. Peers' hosts are
addresses, never names: the agent resolves and keeps the last answer, so that an empty DNS
cannot empty the gateway.
"""

import ipaddress
from dataclasses import dataclass, field

from skerry.fleet.api_key import ApiKey
from skerry.fleet.names import DEFAULT_PROJECT, check_name
from skerry.fleet.routing import Routing
from skerry.plumbing.trace_target import TraceTarget

_PORT_MAX = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An IP address and a TCP port."""

    host: str
    port: int

    def __post_init__(self) -> None:
        _check_host(self.host)
        _check_port(self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddresses:
    """Where the gateway listens: clients (plaintext), peers (mTLS), and Envoy's admin."""

    public_host: str
    public_port: int
    peer_host: str
    peer_port: int
    admin_port: int

    def __post_init__(self) -> None:
        _check_host(self.public_host)
        _check_host(self.peer_host)
        for port in (self.public_port, self.peer_port, self.admin_port):
            _check_port(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTls:
    """The gateway's certificate, its key and the authority that signs every gateway.

    With `verify_plane_names` a peer must show a certificate whose DNS name is its plane's name.
    """

    certificate_path: str
    key_path: str
    authority_path: str
    verify_plane_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPorts:
    """The relay's ports for HTTP and gRPC, and the gateway's for the relay; all on loopback."""

    http_port: int
    grpc_port: int
    inner_port: int

    def __post_init__(self) -> None:
        for port in (self.http_port, self.grpc_port, self.inner_port):
            _check_port(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another plane's gateway; of those that may serve, the smallest distance rank is first.

    `distance_seconds` is a round trip as last settled, None until it was measured.
    """

    plane: str
    host: str
    peer_port: int
    distance_rank: int
    distance_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_host(self.host)
        _check_port(self.peer_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReplica:
    """One replica of this plane: the engine's HTTP port and skerry-replica's gRPC and health."""

    name: str
    host: str
    http_port: int
    grpc_port: int
    health_port: int
    draining: bool = False

    def __post_init__(self) -> None:
        _check_host(self.host)
        for port in (self.http_port, self.grpc_port, self.health_port):
            _check_port(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One deployment as clients see it, with the replicas here and the planes that may help.

    `peers` are plane names, residency already applied; `untold_peers` those that residency lets
    help where nobody said who serves it, so that `peers` is no instruction. `ttft_bound_seconds`
    is the time to the first token at the deployment's longest context, `total_deadline_seconds`
    bounds an answer that is not streamed. `refuses_tools`: its engine would ignore a request's
    tools; `guarded`: it could hang or end over one that is nested too deep or asks for too much.
    `adapters` are further values of `model` that its engine takes; `lacks` names the paths below
    /v1/ that its engine has not; `serves_trtllm`: its replicas have `trtllm.TrtllmService` and
    nothing else. `listed`: a replica here or at a peer serves it, or this plane may start one.
    `priority` 0 is the most urgent; `concurrent_requests` of one replica's engine, 0 for not known;
    `ttft_objective_seconds` what users are promised, 0 for nothing. `outside_of`: the residency
    zones that its requests are kept to, where this plane lies in none of them; they
    are refused here, and its replicas only end what they have.
    """

    served_name: str
    deployment: str
    ttft_bound_seconds: float
    total_deadline_seconds: float
    replicas: tuple[LocalReplica, ...] = ()
    peers: tuple[str, ...] = ()
    untold_peers: tuple[str, ...] = ()
    refuses_tools: bool = False
    guarded: bool = False
    adapters: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    serves_trtllm: bool = False
    listed: bool = True
    routing: Routing = field(default_factory=Routing)
    priority: int = 1
    concurrent_requests: int = 0
    ttft_objective_seconds: float = 0.0
    outside_of: tuple[str, ...] = ()
    project: str = DEFAULT_PROJECT

    def __post_init__(self) -> None:
        if not self.served_name:
            raise ValueError("a served model needs a served name")
        check_name(self.deployment, "deployment")  # it also names a directory and a host
        if self.ttft_bound_seconds <= 0 or self.total_deadline_seconds <= 0:
            raise ValueError(f"deployment {self.deployment!r}: time bounds must be above zero")
        open_to = (
            self.peers
            or self.untold_peers
            or self.listed
            or any(not r.draining for r in self.replicas)
        )
        if self.outside_of and open_to:
            raise ValueError(f"deployment {self.deployment!r} is kept out of this plane")

    @property
    def names(self) -> tuple[str, ...]:
        """Return every value of `model` that means this deployment, its served name first."""
        return (self.served_name, *self.adapters)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTopology:
    """All a plane's gateway knows: where it listens, what it serves, and who its peers are.

    `picker_directory` is where the picker's sockets are, "" where there can be none; it is asked
    only where it `picks`. `api_keys` are those that let users in, none for nobody; None: whoever
    reaches the port is let in. `revoked` are the planes, by their full names, of whose certificates
    nothing is taken.
    `tracing` is where traces go, None for nowhere.
    """

    plane: str
    project: str
    listen: ListenAddresses
    models: tuple[ServedModel, ...] = ()
    peers: tuple[Peer, ...] = ()
    front: Address | None = None
    tls: PeerTls | None = None
    picker_directory: str = ""
    picks: bool = False
    relay: RelayPorts | None = None
    api_keys: tuple[ApiKey, ...] | None = None
    revoked: tuple[str, ...] = ()
    tracing: TraceTarget | None = None

    @property
    def is_shared(self) -> bool:
        """Say whether keys are asked for, and more than the fleet's own project is here."""
        keys = self.api_keys
        return keys is not None and (
            any(one.project != DEFAULT_PROJECT for of in (self.models, keys) for one in of)
            or any(key.every_of_project for key in keys)
        )

    def __post_init__(self) -> None:
        check_name(self.plane, "plane")
        if self.picks and not self.picker_directory:
            raise ValueError("a picker that is to be asked needs a directory for its sockets")
        _check_unique("served name", [name for model in self.models for name in model.names])
        _check_unique("deployment", [model.deployment for model in self.models])
        _check_unique("API key", [key.name for key in self.api_keys or ()])
        _check_unique("peer", [peer.plane for peer in self.peers])
        if self.peers and self.tls is None:
            raise ValueError("peers need TLS files: gateways speak to one another over mTLS only")
        known = {peer.plane for peer in self.peers}
        for model in self.models:
            _check_unique(f"replica of {model.deployment!r}", [r.name for r in model.replicas])
            missing = [plane for plane in model.peers if plane not in known]
            if missing:
                raise ValueError(f"deployment {model.deployment!r} names unknown peers {missing}")
            if self.plane in model.peers:
                raise ValueError(f"plane {self.plane!r} cannot be its own peer")


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is no IP address; resolve names before routing") from None


def _check_port(port: int) -> None:
    if not 0 < port <= _PORT_MAX:
        raise ValueError(f"port {port} is outside 1..{_PORT_MAX}")


def _check_unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} given twice: {', '.join(twice)}")
