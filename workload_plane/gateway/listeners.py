"""Envoy's listeners: the public one (clients, plaintext) and the peers' (gateways, mTLS).

Pure; `resources.build_snapshot` calls it. The public listener holds nothing that depends on
what is served, so deployments come and go without a new listener and without draining clients.
"""

import base64

from workload_plane.gateway.answers import header, key_replies, local_replies, telling_trailers
from workload_plane.gateway.clusters import LOCAL_HTTP, cluster_name
from workload_plane.gateway.fields import field_rules, field_state
from workload_plane.gateway.grpc_filters import off
from workload_plane.gateway.keys import allow_filters, key_filters
from workload_plane.gateway.picking import (
    access_log,
    asking_filter,
    attempt_log,
    forgotten_choice,
    told_length,
)
from workload_plane.gateway.refusals import refusing_filter
from workload_plane.gateway.relaying import inner_listener
from workload_plane.gateway.route_tree import MODEL_STATE
from workload_plane.gateway.routes import (
    FAULT_JSON,
    FAULT_KEY,
    PEER_ROUTES,
    PUBLIC_ROUTES,
)
from workload_plane.gateway.served_log import not_started, sent_log, taken_log
from workload_plane.gateway.tls import common_tls_context, refuse_revoked
from workload_plane.gateway.topology import GatewayTopology, PeerTls
from workload_plane.gateway.tracing import CLIENTS_TRACE_REMOVED, request_ids, traced
from workload_plane.gateway.usage import usage_filters
from workload_plane.gateway.wire import (
    BODY_BYTES_MAX,
    GENERATE_PATH,
    GRPC_METADATA,
    HEALTH_PATH,
    JSON_METADATA,
    REQUEST_ID_HEADER,
    Json,
    duration,
    extension,
    file_source,
    http2_options,
    socket_address,
    typed,
)

PUBLIC_LISTENER = "public"
PEER_LISTENER = "peer"

_FILTERS = "envoy.extensions.filters.http"
_GENERATE_METHOD = GENERATE_PATH.removeprefix("/").replace("/", ".")
# Slow senders of headers and bodies must not hold a connection: 4 MiB in a minute is 70 kB/s.
_HEADERS_SECONDS = 10.0
_REQUEST_SECONDS = 60.0
# Clients that open connections before they need them open another one.
_FIRST_WORD_SECONDS = 10.0
# Streams without a route of their own; every model's route has its own bound.
_STREAM_IDLE_SECONDS = 300.0
# Below the 350 s after which cloud load balancers forget a connection without telling.
_CLIENT_IDLE_SECONDS = 340.0
# One READY replica is worth a forwarded request. Envoy cuts this to whole per cents, so beyond
# 100 replicas of a deployment in one plane it takes one in a hundred.
_READY_PERCENT_MIN = 1
# Headers beyond either are answered 431: engines take less, and each stream may hold as much.
_HEADERS_KIB_MAX = 32
_HEADERS_MAX = 100
# Longer request ids of clients are cut: they go into every log line.
_REQUEST_ID_CHARACTERS_MAX = 128


def build_listeners(
    topology: GatewayTopology, files_root: str, descriptor_set: bytes
) -> tuple[Json, ...]:
    """Return the public and, with TLS, the peers' listener."""
    public = _public(topology, files_root, descriptor_set)
    inner = inner_listener(public, topology)
    if topology.tls is None:
        return (public, *inner)
    return (public, *inner, _peer(topology, topology.tls, files_root))


def _public(topology: GatewayTopology, files_root: str, descriptor_set: bytes) -> Json:
    connection = _connection(PUBLIC_LISTENER, PUBLIC_ROUTES, files_root)
    connection.update(
        use_remote_address=True,
        early_header_mutation_extensions=[_own_headers(topology)],
        stream_idle_timeout=duration(_STREAM_IDLE_SECONDS),
        request_timeout=duration(_REQUEST_SECONDS),
        request_headers_timeout=duration(_HEADERS_SECONDS),
        http_filters=[
            _turned_away(),
            *key_filters(topology),
            _json_fields(),
            _message_fields(descriptor_set),
            _route_again(),
            *allow_filters(topology),
            refusing_filter(),
            *usage_filters(topology),
            *_questions(topology),
            telling_trailers(topology.plane),
            _router(topology, sent_log(files_root)),
        ],
        **(access_log() if topology.picks else {}),
        **traced(topology, begins=True),
    )
    if topology.api_keys is not None:
        connection["local_reply_config"]["mappers"][:0] = key_replies(topology.plane)
    listener = _listener(
        PUBLIC_LISTENER,
        socket_address(topology.listen.public_host, topology.listen.public_port),
        {"filters": [_network_filter(connection)]},
    )
    return {**listener, **_first_word()}


def _questions(topology: GatewayTopology) -> list[Json]:
    if not topology.picks:
        return []
    return [asking_filter(forwarded=False, keyed=topology.api_keys is not None)]


def _peer(topology: GatewayTopology, tls: PeerTls, files_root: str) -> Json:
    connection = _connection(PEER_LISTENER, PEER_ROUTES, files_root)
    connection.update(
        # The forwarding gateway's headers are trusted: it showed a certificate of our authority.
        use_remote_address=False,
        skip_xff_append=True,
        early_header_mutation_extensions=[_forwarded_headers()],
        # The forwarding gateway bounds streams; a second bound would only race with it.
        stream_idle_timeout=duration(0),
        request_headers_timeout=duration(_HEADERS_SECONDS),
        http_filters=[
            *refuse_revoked(topology.revoked),
            *(_ready_answer(model.deployment) for model in topology.models if not model.outside_of),
            *([asking_filter(forwarded=True)] if topology.picks else ()),
            telling_trailers(topology.plane),
            _router(topology),
        ],
        **_forwarded_log(topology, files_root),
        **traced(topology, begins=False),
    )
    context = typed(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            **common_tls_context(files_root),
            # HTTP/2 for forwarded gRPC, HTTP/1.1 for the rest and for health checks.
            "alpn_protocols": ["h2", "http/1.1"],
        },
        require_client_certificate=True,
    )
    listener = _listener(
        PEER_LISTENER,
        socket_address(topology.listen.peer_host, topology.listen.peer_port),
        {
            "filters": [_network_filter(connection)],
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
            # Who shows no certificate must not hold a connection that nothing else bounds.
            "transport_socket_connect_timeout": duration(_HEADERS_SECONDS),
        },
    )
    # Clients that fill the public port must not shut out peers, and their health checks.
    return {**listener, "ignore_global_conn_limit": True}


def _listener(name: str, address: Json, chain: Json) -> Json:
    return typed(
        "envoy.config.listener.v3.Listener",
        name=name,
        address=address,
        filter_chains=[chain],
        # It is also the limit of a body that a filter holds: beyond, the client gets a 413.
        per_connection_buffer_limit_bytes=BODY_BYTES_MAX,
        # A second Envoy on the same port must fail, not take half of the connections.
        enable_reuse_port=False,
        # What a drain closes; the relay's way back in stays.
        traffic_direction="INBOUND",
    )


def _first_word() -> Json:
    """Return what closes a connection of which no request's beginning came within its time.

    The connection manager's own bounds begin with a request's first byte, or are those of an idle
    connection.
    """
    inspector = extension(
        "envoy.filters.listener.http_inspector",
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    )
    return {
        "listener_filters": [inspector],
        "listener_filters_timeout": duration(_FIRST_WORD_SECONDS),
        "continue_on_listener_filters_timeout": False,
    }


def _connection(stat_prefix: str, routes: str, files_root: str) -> Json:
    return typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=stat_prefix,
        # HTTP/1.1 and h2c are told apart by the first bytes: OpenAI and gRPC share the port.
        codec_type="AUTO",
        rds={
            "route_config_name": routes,
            "config_source": file_source(files_root, f"routes/{routes}.json"),
        },
        http2_protocol_options=http2_options(),
        common_http_protocol_options={
            "idle_timeout": duration(_CLIENT_IDLE_SECONDS),
            "max_headers_count": _HEADERS_MAX,
        },
        max_request_headers_kb=_HEADERS_KIB_MAX,
        # A client's id is kept as it is, so that its logs, ours and the engine's agree.
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_id_extension=request_ids(is_traced=False),
        # `%2F` in a model's name is a part of the name.
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        server_name="skerry",
        local_reply_config=local_replies(),
    )


def _network_filter(connection: Json) -> Json:
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}


def _own_headers(topology: GatewayTopology) -> Json:
    """Return what removes clients' copies of headers that gateways trust, and cuts long ids."""
    request_id = f"%REQ(X-REQUEST-ID):{_REQUEST_ID_CHARACTERS_MAX}%"
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            *(
                {"remove_on_match": {"key_matcher": {"prefix": prefix}}}
                for prefix in ("x-skerry-", "x-envoy-")
            ),
            {"append": header(REQUEST_ID_HEADER, request_id, "OVERWRITE_IF_EXISTS")},
            told_length(),
            *(CLIENTS_TRACE_REMOVED if topology.tracing is not None else ()),
        ],
    )


def _forwarded_headers() -> Json:
    """Return what drops the choices that the forwarding gateway made for itself."""
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=forgotten_choice(),
    )


def _json_fields() -> Json:
    """Return the filter that reads `model`, `stream` and what is refused from a JSON body."""
    model: Json = {
        "selectors": [{"key": "model"}],
        "on_present": {"metadata_namespace": JSON_METADATA, "key": "model"},
        "on_missing": {
            "metadata_namespace": JSON_METADATA,
            "key": FAULT_KEY,
            "value": "missing",
        },
        "on_error": {
            "metadata_namespace": JSON_METADATA,
            "key": FAULT_KEY,
            "value": FAULT_JSON,
        },
    }
    stream: Json = {
        "selectors": [{"key": "stream"}],
        "on_present": {"metadata_namespace": JSON_METADATA, "key": "stream"},
    }
    return extension(
        JSON_METADATA,
        f"{_FILTERS}.json_to_metadata.v3.JsonToMetadata",
        request_rules={
            "rules": [model, stream, *field_rules()],
            "allow_content_types_regex": {"regex": "(?i)application/json.*"},
            "allow_empty_content_type": True,
        },
    )


def _message_fields(descriptor_set: bytes) -> Json:
    """Return the filter that reads `model` from a Generate message."""
    reader = extension(
        GRPC_METADATA,
        f"{_FILTERS}.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
        descriptor_set={"inline_bytes": base64.b64encode(descriptor_set).decode()},
        extractions_by_method={
            _GENERATE_METHOD: {"request_field_extractions": {"model": {}}},
        },
    )
    return off(reader)


def _route_again() -> Json:
    """Return the filter that names the model for the route tables, and has the route chosen again.

    The JSON filter does the latter by itself, the gRPC one does not; this one runs after both. No
    request has both kinds of body.
    """
    model = f"%DYNAMIC_METADATA({JSON_METADATA}:model)%%DYNAMIC_METADATA({GRPC_METADATA}:model)%"
    return extension(
        "envoy.filters.http.set_filter_state",
        f"{_FILTERS}.set_filter_state.v3.Config",
        on_request_headers=[
            {
                "object_key": MODEL_STATE,
                "factory_key": "envoy.string",
                "format_string": {
                    "omit_empty_values": True,
                    "text_format_source": {"inline_string": model},
                },
                "skip_if_empty": True,
            },
            field_state(),
        ],
        clear_route_cache=True,
    )


def _ready_answer(deployment: str) -> Json:
    """Return the filter that tells peers whether a replica of the deployment is READY here."""
    return extension(
        f"envoy.filters.http.health_check.{deployment}",
        f"{_FILTERS}.health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[
            {"name": ":path", "string_match": {"exact": HEALTH_PATH}},
            {"name": ":authority", "string_match": {"exact": deployment}},
        ],
        cluster_min_healthy_percentages={
            cluster_name(LOCAL_HTTP, deployment): {"value": _READY_PERCENT_MIN}
        },
    )


def _turned_away() -> Json:
    """Return the filter that answers /health with 503 once the gateway is being drained."""
    return extension(
        "envoy.filters.http.health_check",
        f"{_FILTERS}.health_check.v3.HealthCheck",
        pass_through_mode=True,  # to the route's own answer, while all is well
        headers=[{"name": ":path", "string_match": {"exact": HEALTH_PATH}}],
    )


def _forwarded_log(topology: GatewayTopology, files_root: str) -> Json:
    """Return the logs of the peers' listener: what came, and what became of it for the picker."""
    told = access_log() if topology.picks else {}
    logs = [
        {**log, "filter": {"and_filter": {"filters": [log["filter"], not_started()]}}}
        for log in told.get("access_log", ())
    ]
    options = {**told.get("access_log_options", {}), "flush_access_log_on_new_request": True}
    return {"access_log": [*logs, taken_log(files_root)], "access_log_options": options}


def _router(topology: GatewayTopology, *logs: Json) -> Json:
    told = attempt_log() if topology.picks else {}
    if logs:
        told = {
            "upstream_log": [*told.get("upstream_log", ()), *logs],
            "upstream_log_options": {"flush_upstream_log_on_upstream_stream": True},
        }
    return extension("envoy.filters.http.router", f"{_FILTERS}.router.v3.Router", **told)
