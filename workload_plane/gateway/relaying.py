"""The gateway's side of continued streams: the way to the relay, and the relay's own way back in.

Pure; `listeners`, `routes` and `clusters` call it. The relay is the first host of a cluster whose
other hosts are those that the stream would have gone to without it: a dead relay costs the
continuation, never the request. The `inner` listener has the public one's filters and the routes
that do not lead to the relay.
"""

import copy
from collections.abc import Sequence

from workload_plane.gateway.keys import KEY_FILTERS
from workload_plane.gateway.topology import GatewayTopology, ServedModel
from workload_plane.gateway.tracing import CLIENTS_TRACE_REMOVED, as_continued
from workload_plane.gateway.wire import (
    CONTINUED_PATHS,
    DIRECT_HEADER,
    HEALTH_PATH,
    REQUESTS_MAX,
    RESUMED_HEADER,
    Json,
    duration,
    socket_address,
    typed,
)

INNER_LISTENER, INNER_ROUTES = "inner", "inner"
LOOPBACK = "127.0.0.1"
RELAY_HTTP, RELAY_GRPC = "relay-http", "relay-grpc"
RELAYED_HTTP, RELAYED_GRPC = "relayed-http", "relayed-grpc"

# Without a status: the relay's own 503 says that it found nobody, and the gateway would not either;
# one that it could not carry at all has the header.
_RETRY_ON = "connect-failure,refused-stream,reset,retriable-headers"
_DIRECT = [{"name": DIRECT_HEADER, "present_match": True}]
# Of a stream that broke: the first engine died over it, so one that dies too must not cost a third.
# The relay counts the losses and waits between attempts; only what reached nobody is retried here.
_RETRY_RESUMED_ON = "connect-failure,refused-stream,retriable-headers"
# What a relay looks for a replica, twice over, on top of what its own attempts may be silent.
_SEARCH_SECONDS = 120.0
_OWN_REMOVED = {"remove_on_match": {"key_matcher": {"prefix": "x-skerry-"}}}
_CONNECT_SECONDS = 0.25  # loopback
# A relay that hangs is found out within 2.5 s; one that is only busy answers within the timeout.
_HEALTH_SECONDS = 0.5
_HEALTH_TIMEOUT_SECONDS = 0.75
_UNHEALTHY_THRESHOLD = 2
# A kept connection may be closed by a relay that is restarted; the retry finds the next cluster.
_IDLE_SECONDS = 60.0


def is_relayed(topology: GatewayTopology, model: ServedModel) -> bool:
    """Say whether the streams of a model go through the relay."""
    return topology.relay is not None and model.routing.continuation and not model.outside_of


def relayed_matches(
    model: ServedModel, matches: Sequence[tuple[Json, Json]]
) -> list[tuple[Json, Json]]:
    """Return the matches, in front of a model's own, whose streams go to the relay.

    `matches` are pairs of a route's match and its action, the action's cluster `http/NAME` or
    `grpc/NAME`; an answer that comes whole is left alone: it has no middle to break in.
    """
    found: list[tuple[Json, Json]] = []
    for match, action in matches:
        idle = action["retry_policy"].get("per_try_idle_timeout")
        kind = action["cluster"].partition("/")[0]
        if idle is None or match.get("prefix"):
            continue
        if kind == "http":
            match = {**match, "safe_regex": {"regex": CONTINUED_PATHS}}
        found.append((match, _relay_action(action, f"relayed-{kind}/{model.deployment}")))
    return found


def _relay_action(action: Json, cluster: str) -> Json:
    policy = {
        name: value
        for name, value in action["retry_policy"].items()
        if name != "retriable_status_codes"
    }
    idle_seconds = float(policy["per_try_idle_timeout"].removesuffix("s"))
    # The relay may be silent while one attempt hangs, and then while it finds the next.
    patience = 2 * idle_seconds + _SEARCH_SECONDS
    client_seconds = float(action["idle_timeout"].removesuffix("s"))
    return {
        **action,
        "cluster": cluster,
        "idle_timeout": duration(client_seconds + patience),
        "retry_policy": {
            **policy,
            "retry_on": _RETRY_ON,
            "retriable_headers": _DIRECT,
            "per_try_idle_timeout": duration(patience),
        },
    }


def resumed_routes(routes: Sequence[Json]) -> list[Json]:
    """Return the twins, to stand in front, of the streams' routes for what the relay asks again."""
    marked = {"name": RESUMED_HEADER, "present_match": True}
    found: list[Json] = []
    for route in routes:
        policy = route.get("route", {}).get("retry_policy", {})
        if "per_try_idle_timeout" not in policy:
            continue
        match = {**route["match"], "headers": [*route["match"].get("headers", ()), marked]}
        action = {**route["route"], "retry_policy": {**policy, "retry_on": _RETRY_RESUMED_ON}}
        found.append({**route, "match": match, "route": action})
    return found


def relay_clusters(topology: GatewayTopology) -> list[Json]:
    """Return the relay's two clusters, and for each continued deployment the two led by them."""
    relay = topology.relay
    if relay is None:
        return []
    clusters = [
        _relay_cluster(RELAY_HTTP, relay.http_port, relay.http_port, {"http_protocol_options": {}}),
        _relay_cluster(
            RELAY_GRPC, relay.grpc_port, relay.http_port, {"http2_protocol_options": {}}
        ),
    ]
    for model in topology.models:
        if is_relayed(topology, model):
            name = model.deployment
            clusters += [
                _led(f"{RELAYED_HTTP}/{name}", [RELAY_HTTP, f"http/{name}"]),
                _led(f"{RELAYED_GRPC}/{name}", [RELAY_GRPC, f"grpc/{name}"]),
            ]
    return clusters


def _led(name: str, clusters: list[str]) -> Json:
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        connect_timeout=duration(_CONNECT_SECONDS),
        lb_policy="CLUSTER_PROVIDED",
        cluster_type={
            "name": "envoy.clusters.aggregate",
            "typed_config": typed(
                "envoy.extensions.clusters.aggregate.v3.ClusterConfig", clusters=clusters
            ),
        },
        circuit_breakers=_breakers(),
    )


def _relay_cluster(name: str, port: int, health_port: int, protocol: Json) -> Json:
    endpoint = {
        "address": socket_address(LOOPBACK, port),
        "health_check_config": {"port_value": health_port},
    }
    seconds = duration(_HEALTH_SECONDS)
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STATIC",
        connect_timeout=duration(_CONNECT_SECONDS),
        load_assignment={
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        circuit_breakers=_breakers(),
        health_checks=[
            {
                "timeout": duration(_HEALTH_TIMEOUT_SECONDS),
                "interval": seconds,
                # Without traffic Envoy looks only once a minute.
                "no_traffic_interval": seconds,
                "no_traffic_healthy_interval": seconds,
                "unhealthy_threshold": _UNHEALTHY_THRESHOLD,
                "healthy_threshold": 1,
                "http_health_check": {"path": HEALTH_PATH, "host": "gateway"},
            }
        ],
        typed_extension_protocol_options={
            options: typed(
                options,
                explicit_http_config=protocol,
                common_http_protocol_options={"idle_timeout": duration(_IDLE_SECONDS)},
            )
        },
    )


def _breakers() -> Json:
    return {
        "thresholds": [
            {
                "max_connections": REQUESTS_MAX,
                "max_pending_requests": REQUESTS_MAX,
                "max_requests": REQUESTS_MAX,
                # When the relay dies every request that has not begun is retried beside it.
                "max_retries": REQUESTS_MAX,
            }
        ]
    }


def inner_listener(public: Json, topology: GatewayTopology) -> list[Json]:
    """Return the relay's listener: the public one's twin on loopback, with routes of its own."""
    if topology.relay is None:
        return []
    inner = copy.deepcopy(public)
    inner["name"] = INNER_LISTENER
    inner["traffic_direction"] = "OUTBOUND"
    # Only the relay connects here: clients that fill the public port must not shut it out.
    inner["ignore_global_conn_limit"] = True
    for name in [name for name in inner if "listener_filters" in name]:
        del inner[name]
    inner["address"] = socket_address(LOOPBACK, topology.relay.inner_port)
    (chain,) = inner["filter_chains"]
    connection = chain["filters"][0]["typed_config"]
    connection["stat_prefix"] = INNER_LISTENER
    # Whoever comes back from the relay showed its key to the public listener.
    connection["http_filters"] = [
        one for one in connection["http_filters"] if one["name"] not in KEY_FILTERS
    ]
    # A stream that broke is closed at once, not after Envoy's second of waiting for the other side
    # to close: that second was nine tenths of the pause that the client saw.
    connection["delayed_close_timeout"] = duration(0)
    rds = connection["rds"]
    source = rds["config_source"]["path_config_source"]
    folder = source["path"].rpartition("/")[0]
    source["path"] = f"{folder}/{INNER_ROUTES}.json"
    rds["route_config_name"] = INNER_ROUTES
    # The public listener has removed clients' copies already; those that come here are the relay's.
    for early in connection["early_header_mutation_extensions"]:
        mutations = early["typed_config"]["mutations"]
        removed = (_OWN_REMOVED, *CLIENTS_TRACE_REMOVED)
        early["typed_config"]["mutations"] = [m for m in mutations if m not in removed]
    as_continued(connection)
    # The public listener has noted the client's address already; this hop adds none.
    connection["use_remote_address"] = False
    connection["skip_xff_append"] = True
    return [inner]
