"""Envoy's clusters and endpoints: where requests for a deployment may go, and how health is seen.

Pure; `resources.build_snapshot` calls it. Per deployment `http/NAME` and `grpc/NAME` (replicas
here first, then peers by distance) and `local-http/NAME`, `local-grpc/NAME` (only here: what
the peers' listener uses, so that a forwarded request is never forwarded again). `peer/PLANE`
carries no traffic: its health check is this plane's witness.
"""

import socket
from collections.abc import Sequence

from workload_plane.gateway.outliers import counted_unless, outlier_detection
from workload_plane.gateway.picking import picker_cluster, steered, waiting_room
from workload_plane.gateway.relaying import relay_clusters
from workload_plane.gateway.tls import peer_tls
from workload_plane.gateway.topology import (
    Address,
    GatewayTopology,
    LocalReplica,
    Peer,
    PeerTls,
    ServedModel,
)
from workload_plane.gateway.tracing import collector_cluster
from workload_plane.gateway.wire import (
    ALIVE_PATH,
    HEALTH_PATH,
    REQUESTS_MAX,
    Json,
    duration,
    http2_options,
    polled_source,
    socket_address,
    typed,
)
from workload_plane.picker.wire import HELD_HEADER

FRONT = "front"
HTTP, GRPC, LOCAL_HTTP, LOCAL_GRPC, PEER = "http", "grpc", "local-http", "local-grpc", "peer"
KINDS = (HTTP, GRPC, LOCAL_HTTP, LOCAL_GRPC)

# Loopback answers in microseconds; a peer 300 ms away needs three round trips for TCP and TLS.
_CONNECT_SECONDS = 2.0
# An engine that hangs is told by its replica host, 1.35 s after it fell silent at the latest; with
# the next looks here and of the picker it gets nothing new after 2 s. A host that hangs itself
# misses two answers, 3 s: one miss alone would let a busy two-core machine look dead, and a peer
# that is 300 ms away needs 900 ms for its first answer.
_HEALTH_INTERVAL_SECONDS = 0.5
_HEALTH_TIMEOUT_SECONDS = 1.0
_UNHEALTHY_THRESHOLD = 2
# Engines close idle connections after 5-10 s; ours must go first, or a request meets the close.
_HTTP_IDLE_SECONDS = 4.0
# A host that lost its power or its network sends no reset: probes find it after 5 + 3 × 2 s where
# all that was sent had arrived. What had not is sent again for 15 minutes unless the kernel is told
# a bound: it ends that after 8 s, the other after 9, and what waited is retried. A host that takes
# in nothing for 8 s, while more than its socket holds waits for it, hangs by that bound too.
# (`close_connections_on_host_health_failure` does nothing for HTTP: what waits for a stopped
# process is freed when skerry-replica kills it, or at the deadline.)
_KEEPALIVE = {"keepalive_time": 5, "keepalive_interval": 2, "keepalive_probes": 3}
_UNANSWERED = {
    "description": "TCP_USER_TIMEOUT",
    "level": socket.IPPROTO_TCP,
    "name": 18,  # Linux's; Python has the name on Linux alone, and files are made anywhere
    "int_value": 8_000,  # ms
    "state": "STATE_PREBIND",
}
# skerry-replica keeps idle connections; a minute saves handshakes with peers.
_GRPC_IDLE_SECONDS = 60.0
# Envoy's default of 3 failed 19 of 19,682 requests when one of two engines was killed. A request
# is retried once at most, and when all local replicas die at once every request needs that one. The
# share alone does not give it: what was reset is not under way any more when its retry is counted,
# and with 256 beside it 400 waiting requests did not all get theirs. An answer that is not streamed
# holds its slot until it is whole.
_RETRY_BUDGET_PERCENT = 100.0
_RETRIES_MIN = 4_096
# Losing up to 29 % of the local replicas moves nothing to peers; beyond, peers take the share
# that is missing (Envoy's own factor, in per cent).
_OVERPROVISIONING_PERCENT = 140
_PEER_HOP = {"hop": "peer"}
_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster_name(kind: str, deployment: str) -> str:
    """Return e.g. `local-http/chat`."""
    return f"{kind}/{deployment}"


def split_cluster_name(name: str) -> tuple[str, str] | None:
    """Return (kind, deployment or plane), None for a name that is not of that form."""
    kind, slash, rest = name.partition("/")
    return (kind, rest) if slash else None


def endpoints_file(cluster: str) -> str:
    """Return the file of one cluster's endpoints, relative to the gateway's folder.

    A folder per deployment, so that a change to one is not read again by all the others'
    subscriptions.
    """
    kind, _, deployment = cluster.partition("/")
    return f"endpoints/{deployment}/{kind}.json"


def build_clusters(topology: GatewayTopology, files_root: str) -> tuple[Json, ...]:
    """Return every cluster of the gateway."""
    clusters = [
        _deployment_cluster(topology, model, kind, files_root)
        for model in topology.models
        for kind in KINDS
    ]
    if topology.tls is not None:
        clusters += [_witness(peer, topology.tls, files_root) for peer in topology.peers]
    if topology.front is not None:
        clusters.append(_front(topology.front))
    clusters += relay_clusters(topology)
    if topology.picks:
        clusters.append(picker_cluster(topology.picker_directory))
    if topology.tracing is not None:
        clusters.append(collector_cluster(topology.tracing))
    return tuple(clusters)


def build_endpoints(topology: GatewayTopology) -> tuple[Json, ...]:
    """Return the endpoints of every deployment's four clusters."""
    nearest_first = sorted(topology.peers, key=lambda peer: (peer.distance_rank, peer.plane))
    return tuple(
        _endpoints(topology, model, kind, [p for p in nearest_first if p.plane in model.peers])
        for model in topology.models
        for kind in KINDS
    )


def _deployment_cluster(
    topology: GatewayTopology, model: ServedModel, kind: str, files_root: str
) -> Json:
    name = cluster_name(kind, model.deployment)
    is_grpc = kind in (GRPC, LOCAL_GRPC)
    cluster = typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="EDS",
        eds_cluster_config={
            "service_name": name,
            "eds_config": polled_source(files_root, endpoints_file(name)),
        },
        lb_policy="LEAST_REQUEST",
        # Without it a host taken out of the endpoints kept getting a third of the requests.
        ignore_health_on_host_removal=True,
        health_checks=[_health_check(HEALTH_PATH)],
        outlier_detection=outlier_detection(),
        **_connection_settings(is_grpc),
    )
    if kind == HTTP and topology.picks:
        protocol = cluster["typed_extension_protocol_options"][_PROTOCOL_OPTIONS]
        protocol["outlier_detection"] = counted_unless(HELD_HEADER)
    if kind in (HTTP, GRPC) and topology.tls is not None:
        cluster["transport_socket_matches"] = [
            {
                "name": "peer",
                "match": _PEER_HOP,
                "transport_socket": peer_tls(topology.tls, files_root),
            }
        ]
    return steered(cluster) if topology.picks else cluster


def _witness(peer: Peer, tls: PeerTls, files_root: str) -> Json:
    name = cluster_name(PEER, peer.plane)
    endpoint = {"address": socket_address(peer.host, peer.peer_port), "hostname": peer.plane}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STATIC",
        load_assignment={
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        transport_socket=peer_tls(tls, files_root),
        health_checks=[_health_check(ALIVE_PATH)],
        **_connection_settings(is_grpc=False),
    )


def _front(address: Address) -> Json:
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=FRONT,
        type="STATIC",
        load_assignment={
            "cluster_name": FRONT,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": socket_address(address.host, address.port)}}
                    ]
                }
            ],
        },
        health_checks=[{**_health_timing(), "grpc_health_check": {}}],
        **_connection_settings(is_grpc=True),
    )


def _connection_settings(is_grpc: bool) -> Json:
    protocol: Json = (
        {"http2_protocol_options": http2_options()} if is_grpc else {"http_protocol_options": {}}
    )
    idle_seconds = _GRPC_IDLE_SECONDS if is_grpc else _HTTP_IDLE_SECONDS
    return {
        "connect_timeout": duration(_CONNECT_SECONDS),
        "upstream_connection_options": {"tcp_keepalive": _KEEPALIVE},
        "upstream_bind_config": {"socket_options": [_UNANSWERED]},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": REQUESTS_MAX,
                    "max_pending_requests": REQUESTS_MAX,
                    "max_requests": REQUESTS_MAX,
                    "retry_budget": {
                        "budget_percent": {"value": _RETRY_BUDGET_PERCENT},
                        "min_retry_concurrency": _RETRIES_MIN,
                    },
                }
            ]
        },
        "common_lb_config": {
            # No panic: with nothing healthy here the peers are next, then an honest 503.
            "healthy_panic_threshold": {"value": 0},
            # Merged updates made a fresh replica invisible for a second (0 of 20 held requests).
            "update_merge_window": duration(0),
        },
        "typed_extension_protocol_options": {
            _PROTOCOL_OPTIONS: typed(
                _PROTOCOL_OPTIONS,
                # Said, not negotiated: plaintext and TLS hosts share a cluster.
                explicit_http_config=protocol,
                common_http_protocol_options={"idle_timeout": duration(idle_seconds)},
            )
        },
    }


def _health_check(path: str) -> Json:
    return {
        **_health_timing(),
        # Over HTTP/1.1 also where requests use HTTP/2: with ALPN h2 the check timed out.
        "tls_options": {"alpn_protocols": ["http/1.1"]},
        "http_health_check": {"path": path, "host": "gateway"},
    }


def _health_timing() -> Json:
    interval = duration(_HEALTH_INTERVAL_SECONDS)
    return {
        "timeout": duration(_HEALTH_TIMEOUT_SECONDS),
        "interval": interval,
        # Without traffic Envoy looks only once a minute.
        "no_traffic_interval": interval,
        "no_traffic_healthy_interval": interval,
        "unhealthy_threshold": _UNHEALTHY_THRESHOLD,
        "healthy_threshold": 1,
    }


def _endpoints(
    topology: GatewayTopology, model: ServedModel, kind: str, peers: Sequence[Peer]
) -> Json:
    with_peers = kind in (HTTP, GRPC)
    localities = [_local_locality(model.replicas, is_grpc=kind in (GRPC, LOCAL_GRPC))]
    if with_peers:
        localities += [
            _peer_locality(peer, priority, model.deployment)
            for priority, peer in enumerate(peers, start=1)
        ]
    if with_peers and topology.picks and _may_wait(model):
        room = waiting_room(topology.picker_directory, is_grpc=kind == GRPC)
        localities.append({**room, "priority": len(localities)})
    return typed(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        cluster_name=cluster_name(kind, model.deployment),
        # Priority 0 stays also when empty: priorities must start there.
        endpoints=localities,
        policy={"overprovisioning_factor": _overprovisioning_percent(model.replicas)},
    )


def _may_wait(model: ServedModel) -> bool:
    return bool(model.routing.queue_requests_max) and not model.outside_of


def _overprovisioning_percent(replicas: Sequence[LocalReplica]) -> int:
    """Return the factor under which draining replicas do not count as lost ones."""
    staying = sum(not replica.draining for replica in replicas)
    if staying == 0:
        return _OVERPROVISIONING_PERCENT
    return _OVERPROVISIONING_PERCENT * len(replicas) // staying


def _local_locality(replicas: Sequence[LocalReplica], is_grpc: bool) -> Json:
    return {
        "locality": {"region": "local"},
        "priority": 0,
        "lb_endpoints": [_local_host(replica, is_grpc) for replica in replicas],
    }


def _local_host(replica: LocalReplica, is_grpc: bool) -> Json:
    port = replica.grpc_port if is_grpc else replica.http_port
    host: Json = {
        "endpoint": {
            "address": socket_address(replica.host, port),
            "hostname": replica.name,
            "health_check_config": {"port_value": replica.health_port},
        }
    }
    if replica.draining:
        host["health_status"] = "DRAINING"
    return host


def _peer_locality(peer: Peer, priority: int, deployment: str) -> Json:
    return {
        "locality": {"region": peer.plane},
        "priority": priority,
        "lb_endpoints": [
            {
                "endpoint": {
                    "address": socket_address(peer.host, peer.peer_port),
                    "hostname": peer.plane,
                    # The peer's listener answers per deployment, told by the host name.
                    "health_check_config": {"hostname": deployment},
                },
                "metadata": {"filter_metadata": {"envoy.transport_socket_match": _PEER_HOP}},
            }
        ],
    }
