"""Envoy's side of the endpoint picker: the question before a request, the log after it.

Pure; `listeners`, `routes` and `clusters` call it. Everything here fails open: without an answer
within TIMEOUT_SECONDS, and without a picker at once, least-request decides as it would alone.
"""

from pathlib import Path

from skerry.fleet.routing import RoutingPolicy
from workload_plane.gateway.topology import ServedModel
from workload_plane.gateway.wire import (
    DEPLOYMENT_HEADER,
    HEALTH_PATH,
    KEY_HEADER,
    LOSSES,
    Json,
    duration,
    extension,
    typed,
)
from workload_plane.picker.wire import (
    ACCOUNT_SECONDS,
    AGAIN_HEADER,
    ATTEMPT_HEADER,
    AVOID_HEADER,
    BODY_BYTES_HEADER,
    ENDPOINT_HEADER,
    FORWARDED_PREFIX,
    LOAD_PATH,
    LOG_FLUSH_SECONDS,
    LOG_LINE,
    PICK_PREFIX,
    PRIORITY_HEADER,
    RESUMED_HEADER,
    RETRIES_HEADER,
    RETRIES_WITH_ROOM,
    SEEN_BYTES_MAX,
    SESSION_HEADER,
    STANDING,
    TICKET_HEADER,
    TIMEOUT_SECONDS,
    WAITING_ROOM,
    authz_socket,
    log_socket,
    room_grpc_socket,
    room_socket,
)

PICKER, PICKER_LOG = "picker", "picker-log"
PICKER_LOGGER = "envoy.access_loggers.fluentd"

_ASK = "envoy.filters.http.ext_authz"
_FILTERS = "envoy.extensions.filters.http"
_POLICIES = "envoy.extensions.load_balancing_policies"
_CONNECT_SECONDS = 0.05  # a socket of this host
# A stopped picker would cost each request the timeout; after two misses it is not asked at all.
_HEALTH_SECONDS = 1.0
_UNHEALTHY_THRESHOLD = 2
# Questions open at once; each takes a connection. Beyond, the gateway decides by itself.
_QUESTIONS_MAX = 4096
_NAMED = {"key": DEPLOYMENT_HEADER, "value": "%ROUTE_NAME%"}
# No request is tried more often: its first attempt, the way out of the waiting room, a retry.
_ATTEMPTS_MAX = 1 + RETRIES_WITH_ROOM
_LOG_BYTES_MAX = 64 * 1024  # of lines not handed over yet: some 400


def asking_filter(*, forwarded: bool, keyed: bool = False) -> Json:
    """Return the filter that asks the picker; on the peers' listener requests are `forwarded`.

    Those name their deployment in a header; others go by a model's route, which has its name. Where
    requests are `keyed` the picker is told by which API key.
    """
    named = {} if forwarded else {"authorization_request": {"headers_to_add": [_NAMED]}}
    return extension(
        _ASK,
        f"{_FILTERS}.ext_authz.v3.ExtAuthz",
        http_service={
            "server_uri": {
                "uri": f"http://{PICKER}",
                "cluster": PICKER,
                "timeout": duration(TIMEOUT_SECONDS),
            },
            "path_prefix": FORWARDED_PREFIX if forwarded else PICK_PREFIX,
            **named,
            "authorization_response": {
                "allowed_upstream_headers": _exactly(
                    ENDPOINT_HEADER, TICKET_HEADER, RETRIES_HEADER
                ),
                **({"allowed_client_headers_on_success": _exactly(*STANDING)} if keyed else {}),
            },
        },
        allowed_headers=_exactly(
            DEPLOYMENT_HEADER,
            SESSION_HEADER,
            BODY_BYTES_HEADER,
            AVOID_HEADER,
            PRIORITY_HEADER,
            *((KEY_HEADER, RESUMED_HEADER) if keyed else ()),
        ),
        failure_mode_allow=True,
        with_request_body={"max_request_bytes": SEEN_BYTES_MAX, "allow_partial_message": True},
    )


def asked(model: ServedModel) -> Json:
    """Return what makes the picker be asked on a route of a table where it is not by default.

    Least-request reads nothing of a body, so none is sent.
    """
    is_blind = model.routing.policy is RoutingPolicy.LEAST_REQUEST
    settings = {"disable_request_body_buffering": True} if is_blind else {}
    return {_ASK: typed(f"{_FILTERS}.ext_authz.v3.ExtAuthzPerRoute", check_settings=settings)}


def is_askable(match: Json) -> bool:
    """Say whether the requests of a route have a body that ends before the answer begins.

    A service that is passed through as a whole may have methods that stream both ways: the question
    would wait for the end of the body, and the engine for the question.
    """
    return "prefix" not in match


def not_asked() -> Json:
    """Return the default of a route table: no question."""
    return {_ASK: typed(f"{_FILTERS}.ext_authz.v3.ExtAuthzPerRoute", disabled=True)}


def access_log() -> Json:
    """Return the fields of a connection manager that tell the picker what became of requests."""
    return {
        "access_log": [
            {
                **extension(
                    PICKER_LOGGER,
                    "envoy.extensions.access_loggers.fluentd.v3.FluentdAccessLogConfig",
                    cluster=PICKER_LOG,
                    tag="skerry",
                    stat_prefix=PICKER,
                    buffer_flush_interval=duration(LOG_FLUSH_SECONDS),
                    buffer_size_bytes=_LOG_BYTES_MAX,
                    record={"line": LOG_LINE},
                ),
                "filter": {
                    "header_filter": {"header": {"name": TICKET_HEADER, "present_match": True}}
                },
            }
        ],
        "access_log_options": {"access_log_flush_interval": duration(ACCOUNT_SECONDS)},
    }


def attempt_log() -> Json:
    """Return the fields of a router that tell the picker of attempts: begun again, or lost.

    The request's own line says how the last one ended, not whether one before reached its host,
    and comes up to ACCOUNT_SECONDS after one that waited had found its replica.
    """
    (log,) = access_log()["access_log"]
    lost = {"response_flag_filter": {"flags": list(LOSSES)}}
    again = {"name": ATTEMPT_HEADER, "range_match": {"start": 2, "end": _ATTEMPTS_MAX + 1}}
    begun = [
        {"log_type_filter": {"types": ["UpstreamPoolReady"]}},
        {"header_filter": {"header": again}},
    ]
    told = {"or_filter": {"filters": [lost, {"and_filter": {"filters": begun}}]}}
    asked = {"and_filter": {"filters": [log["filter"], told]}}
    return {
        "upstream_log": [{**log, "filter": asked}],
        "upstream_log_options": {"flush_upstream_log_on_upstream_stream": True},
    }


def told_length() -> Json:
    """Return the early mutation that tells the picker how long the whole body is."""
    value = {"key": BODY_BYTES_HEADER, "value": "%REQ(CONTENT-LENGTH)%"}
    return {"append": {"header": value, **_OVERWRITE}}


def forgotten_choice() -> list[Json]:
    """Return the early mutations that drop another gateway's choice from what it forwards."""
    return [{"remove": name} for name in (ENDPOINT_HEADER, TICKET_HEADER)]


def steered(cluster: Json) -> Json:
    """Return the cluster with the picker's choice first and its own least-request behind it."""
    policy = {key: value for key, value in cluster.items() if key != "lb_policy"}
    fallback = extension(
        "envoy.load_balancing_policies.least_request", f"{_POLICIES}.least_request.v3.LeastRequest"
    )
    chosen = extension(
        "envoy.load_balancing_policies.override_host",
        f"{_POLICIES}.override_host.v3.OverrideHost",
        override_host_sources=[{"header": ENDPOINT_HEADER}],
        fallback_policy={"policies": [{"typed_extension_config": fallback}]},
    )
    policy["load_balancing_policy"] = {"policies": [{"typed_extension_config": chosen}]}
    return policy


def picker_cluster(directory: str) -> Json:
    """Return the cluster of the socket where the picker is asked."""
    return {
        **_socket_cluster(PICKER, authz_socket(Path(directory))),
        "health_checks": [
            {
                "timeout": duration(_HEALTH_SECONDS),
                "interval": duration(_HEALTH_SECONDS),
                "no_traffic_interval": duration(_HEALTH_SECONDS),
                "no_traffic_healthy_interval": duration(_HEALTH_SECONDS),
                "unhealthy_threshold": _UNHEALTHY_THRESHOLD,
                "healthy_threshold": 1,
                "http_health_check": {"path": HEALTH_PATH, "host": PICKER},
            }
        ],
    }


def log_cluster(directory: str) -> Json:
    """Return the cluster of the access log; a part of the bootstrap, Envoy takes no other."""
    cluster = _socket_cluster(PICKER_LOG, log_socket(Path(directory)))
    return {key: value for key, value in cluster.items() if key != "@type"}


def waiting_room(directory: str, *, is_grpc: bool) -> Json:
    """Return the locality of the waiting room, without its priority: after all who may serve.

    Its health is looked at where requests over HTTP wait: both doors are of one process.
    """
    door = room_grpc_socket(Path(directory)) if is_grpc else room_socket(Path(directory))
    health = {"address": {"pipe": {"path": str(room_socket(Path(directory)))}}}
    endpoint = {
        "address": {"pipe": {"path": str(door)}},
        "hostname": WAITING_ROOM,
        "health_check_config": health,
    }
    return {"locality": {"region": WAITING_ROOM}, "lb_endpoints": [{"endpoint": endpoint}]}


def sent_on() -> list[Json]:
    """Return the headers by which the waiting room says that a replica is there now."""
    return [{"name": AGAIN_HEADER, "present_match": True}]


def load_route() -> Json:
    """Return the peers' route to what the picker says of this plane's load."""
    return {
        "match": {"path": LOAD_PATH},
        "route": {"cluster": PICKER, "timeout": duration(_HEALTH_SECONDS)},
    }


_OVERWRITE: Json = {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _socket_cluster(name: str, socket: Path) -> Json:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STATIC",
        connect_timeout=duration(_CONNECT_SECONDS),
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        circuit_breakers={
            "thresholds": [
                {
                    "max_connections": _QUESTIONS_MAX,
                    "max_pending_requests": _QUESTIONS_MAX,
                    "max_requests": _QUESTIONS_MAX,
                }
            ]
        },
    )


def _exactly(*names: str) -> Json:
    return {"patterns": [{"exact": name} for name in names]}
