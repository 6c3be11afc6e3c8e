"""Envoy's route tables: which request goes where, and what is answered by the gateway itself.

Pure; `resources.build_snapshot` calls it. The public table routes by the model that the filters
of `listeners.py` found in the body; the peers' table routes by the header that the forwarding
gateway set, and only to replicas of this plane. First match wins.
"""

from collections.abc import Callable, Sequence

from workload_plane.gateway.answers import (
    UNSERVED_GRPC,
    GrpcCode,
    answer,
    as_from_here,
    escaped,
    fault,
    grpc_fault,
    header,
    naming_header,
    openai_error,
    telling_headers,
    unserved,
)
from workload_plane.gateway.clusters import FRONT, GRPC, HTTP, LOCAL_GRPC, LOCAL_HTTP, cluster_name
from workload_plane.gateway.fields import field_fault, field_faults
from workload_plane.gateway.grpc_filters import for_grpc
from workload_plane.gateway.keys import allowed, allowed_all, asking, keyed, open_to_all
from workload_plane.gateway.models_list import every_model, model_list, told_names
from workload_plane.gateway.picking import (
    asked,
    is_askable,
    load_route,
    not_asked,
    sent_on,
)
from workload_plane.gateway.refusals import refuse
from workload_plane.gateway.relaying import (
    INNER_ROUTES,
    is_relayed,
    relayed_matches,
    resumed_routes,
)
from workload_plane.gateway.residency import residency_routes
from workload_plane.gateway.route_tree import Faults, peer_tree, public_tree
from workload_plane.gateway.topology import GatewayTopology, ServedModel
from workload_plane.gateway.trtllm_routes import trtllm_routes, unserved_trtllm
from workload_plane.gateway.usage import counted
from workload_plane.gateway.wire import (
    ALIVE_PATH,
    DEPLOYMENT_HEADER,
    DIRECT_BODY_BYTES_MAX,
    GENERATE_PATH,
    GRPC_METADATA,
    HEALTH_PATH,
    JSON_METADATA,
    MODEL_HEADER,
    OPENAI_PATHS,
    PLANE_HEADER,
    STREAM_IDLE_FACTOR,
    TRIED_HEADER,
    TRTLLM_PREFIX,
    Json,
    duration,
    typed,
)
from workload_plane.picker.wire import HELD_HEADER, RETRIES

PUBLIC_ROUTES = "public"
PEER_ROUTES = "peer"

FAULT_KEY = "fault"
FAULT_JSON = "json"

_RETRY_ON = "connect-failure,refused-stream,reset,retriable-status-codes"
# gRPC's own "not accepted", which skerry-replica says while its engine is away.
_RETRY_ON_GRPC = f"{_RETRY_ON},unavailable"
# What Envoy bounds the choice of a host not yet tried by; past it a tried one is used again. A dead
# host has nothing active and least-request prefers it: with 5 picks a retry often met it again
# (2 of 4 runs failed after a kill -9 of one of two replicas), with 50 none of 6 did.
_HOST_SELECTION_ATTEMPTS = 50
# A stream that moves nothing for this long beyond both attempts is a client that went away.
_CLIENT_IDLE_SLACK_SECONDS = 30.0
# What the front answers in one piece: its replicas have 2 s, the rest is for a busy machine.
FRONT_SECONDS_MAX = 10.0
_NAMED: Json = {"name": DEPLOYMENT_HEADER, "present_match": True}
# Of the front, answered at once.
_GRPC_HEALTH, _CONTROL = "/grpc.health.v1.Health/Check", "/openengine.v1.Control/"
_GENERATE: Json = {"path": GENERATE_PATH, "grpc": {}}


def build_routes(topology: GatewayTopology) -> tuple[Json, ...]:
    """Return the public and, with TLS, the peers' route table."""
    is_for = allowed(topology)
    public = _table(
        PUBLIC_ROUTES,
        [
            *(
                asking(route, is_for(model))
                for model in topology.models
                for route in _model_routes(model, topology)
            ),
            *unserved_trtllm(topology),
            *_grpc_fallback(topology),
            *_request_faults(topology),
            *_listing_routes(topology, is_for),
            asking(
                answer({"path": HEALTH_PATH}, 200, {"status": "ok", "plane": topology.plane}),
                open_to_all(topology),
            ),
            fault(
                {"prefix": "/"},
                404,
                "no such path; POST /v1/chat/completions, /v1/completions, /v1/embeddings or"
                " /v1/responses, or GET /v1/models",
                code="unknown_path",
            ),
        ],
        topology,
    )
    public["virtual_hosts"][0]["typed_per_filter_config"] |= {
        **keyed(topology),
        **counted(topology),
    }
    # The attempt count reaches the peer, which adds none of its own.
    public["virtual_hosts"][0]["include_request_attempt_count"] = True
    inner = _inner(topology)
    if topology.tls is None:
        return (public, *inner)
    peer = _table(
        PEER_ROUTES,
        [
            answer({"path": ALIVE_PATH}, 200, {"plane": topology.plane}),
            *([load_route()] if topology.picks else ()),
            *(route for model in topology.models for route in _forwarded_routes(model, topology)),
            # Its gateway will hear of it in a moment; until then it is to ask another plane: a
            # 503, UNAVAILABLE over gRPC, is tried again, a 404 was the client's answer.
            fault(
                {"prefix": "/", "headers": [_NAMED]},
                503,
                "this plane does not serve that deployment; another one may",
                code="deployment_not_found",
                kind="server_error",
            ),
            fault({"prefix": "/"}, 404, "no such path between gateways", code="unknown_path"),
        ],
        topology,
    )
    return (public, *inner, peer)


def _listing_routes(topology: GatewayTopology, is_for: Callable[[ServedModel], Json]) -> list[Json]:
    """Return the routes of `/v1/models`: who may not use all of them gets a list of its own."""
    return [
        asking(every_model(topology), allowed_all(topology)),
        *(
            asking(route, {} if model is None else is_for(model))
            for route, model in model_list(topology)
        ),
    ]


def _inner(topology: GatewayTopology) -> list[Json]:
    """Return the relay's own table: the models' routes, none of which leads to the relay."""
    if topology.relay is None:
        return []
    routes = [
        route
        for model in topology.models
        for route in _model_routes(model, topology, to_relay=False)
    ]
    gone = fault(
        {"prefix": "/"}, 404, "this model is not served here any more", code="model_not_found"
    )
    table = _table(
        INNER_ROUTES, [*resumed_routes(routes), *routes, _unread(topology.plane), gone], topology
    )
    (host,) = table["virtual_hosts"]
    host["typed_per_filter_config"] |= counted(topology)
    host["include_request_attempt_count"] = True
    # With whom a stream was lost the relay avoids.
    host["response_headers_to_add"].append(
        header(TRIED_HEADER, "%UPSTREAM_HOST_NAMES_ATTEMPTED%", "OVERWRITE_IF_EXISTS_OR_ADD")
    )
    return [table]


def _table(name: str, routes: list[Json], topology: GatewayTopology) -> Json:
    plane, picks = topology.plane, topology.picks
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=name,
        # After a restart routes may be read before clusters; refusing them then lost the
        # listener until the next change. A missing cluster is a 503 until it is there.
        validate_clusters=False,
        max_direct_response_body_size_bytes=DIRECT_BODY_BYTES_MAX,
        virtual_hosts=[
            {
                "name": name,
                "domains": ["*"],
                **_tree(name, [for_grpc(route) for route in routes]),
                "typed_per_filter_config": not_asked() if picks else {},
                # The plane that answered first stays; the forwarding gateway does not overwrite.
                "response_headers_to_add": [header(PLANE_HEADER, plane, "ADD_IF_ABSENT")],
                **({"response_headers_to_remove": [HELD_HEADER]} if picks else {}),
            }
        ],
    )


def _tree(name: str, routes: list[Json]) -> Json:
    if name == PEER_ROUTES:
        return peer_tree(routes)
    # What the relay asks with came through the public table before.
    if name != PUBLIC_ROUTES:
        return public_tree(routes)
    return public_tree(routes, Faults(any_holds=field_fault(), answers=field_faults()))


def _model_routes(
    model: ServedModel, topology: GatewayTopology, *, to_relay: bool = True
) -> list[Json]:
    stream_idle_seconds = STREAM_IDLE_FACTOR * model.ttft_bound_seconds
    post = [{"name": ":method", "string_match": {"exact": "POST"}}]
    body_model = _metadata(JSON_METADATA, "model", _one_of(model.names))
    streams = _metadata(JSON_METADATA, "stream", {"bool_match": True})
    openai: Json = {"safe_regex": {"regex": OPENAI_PATHS}, "headers": post}
    streamed = _stream_action(cluster_name(HTTP, model.deployment), stream_idle_seconds, _RETRY_ON)
    whole = _whole_action(model)
    generate = _stream_action(
        cluster_name(GRPC, model.deployment), stream_idle_seconds, _RETRY_ON_GRPC
    )
    message_model = _metadata(
        GRPC_METADATA,
        "model",
        {"list_match": {"one_of": {"string_match": {"exact": model.served_name}}}},
    )
    header_model = {"name": MODEL_HEADER, "string_match": {"exact": model.served_name}}
    matches: list[tuple[Json, Json]] = [
        ({**openai, "dynamic_metadata": [body_model, streams]}, streamed),
        ({**openai, "dynamic_metadata": [body_model]}, whole),
        ({"path": GENERATE_PATH, "grpc": {}, "dynamic_metadata": [message_model]}, generate),
        ({"path": GENERATE_PATH, "grpc": {}, "headers": [header_model]}, generate),
    ]
    if model.outside_of:
        return residency_routes(model, [match for match, _ in matches])
    if model.serves_trtllm:
        return trtllm_routes(model, topology.plane, generate, [match for match, _ in matches])
    relayed = relayed_matches(model, matches) if to_relay and is_relayed(topology, model) else []
    matches[:0] = relayed
    routes: list[Json] = [
        {
            "match": match,
            "route": action,
            "request_headers_to_add": [naming_header(model)],
            "response_headers_to_add": telling_headers(topology.plane),
            # Who comes back from the relay is asked for by the inner listener.
            "name": model.deployment,  # the picker is asked with it
            "typed_per_filter_config": asked(model)
            if topology.picks and number >= len(relayed) and is_askable(match)
            else {},
        }
        for number, (match, action) in enumerate(matches)
    ]
    # What the relay asks with came through the public table, and was looked at there.
    if to_relay and (model.refuses_tools or model.guarded):
        tools = _no_tools(model) if model.refuses_tools else None
        for route in (route for route in routes if "safe_regex" in route["match"]):
            route["typed_per_filter_config"] |= refuse(tools, guards=model.guarded)
    return [*_lacking(model, body_model, post), *routes]


def _lacking(model: ServedModel, body_model: Json, post: list[Json]) -> list[Json]:
    """Return the answers for paths that the model's engine has not."""
    return [
        fault(
            {"path": f"/v1/{path}", "headers": post, "dynamic_metadata": [body_model]},
            400,
            f"the model `{escaped(model.served_name)}` has no /v1/{path}: its engine does not"
            " serve it; use /v1/chat/completions, or another model",
            code="unsupported_path",
            param="model",
        )
        for path in model.lacks
    ]


def _no_tools(model: ServedModel) -> Json:
    return openai_error(
        f"the model `{model.served_name}` takes no tools: its engine would ignore them; leave"
        " `tools` out, or use a model whose deployment names a tool parser",
        code="unsupported_feature",
        param="tools",
    )


def _stream_action(cluster: str, idle_seconds: float, retry_on: str) -> Json:
    """Return the action for an answer that comes piece by piece: bounded by its pauses."""
    return {
        "cluster": cluster,
        "timeout": duration(0),
        "idle_timeout": duration((RETRIES + 1) * idle_seconds + _CLIENT_IDLE_SLACK_SECONDS),
        # A gRPC client's own deadline is kept to, whatever its length.
        "max_stream_duration": {"grpc_timeout_header_max": duration(0)},
        "retry_policy": {**_retry_policy(retry_on), "per_try_idle_timeout": duration(idle_seconds)},
    }


def _whole_action(model: ServedModel) -> Json:
    """Return the action for an answer that comes whole: its first byte is its last."""
    return {
        "cluster": cluster_name(HTTP, model.deployment),
        "timeout": duration(model.total_deadline_seconds),
        "idle_timeout": duration(model.total_deadline_seconds + _CLIENT_IDLE_SLACK_SECONDS),
        "retry_policy": _retry_policy(_RETRY_ON),
    }


def _retry_policy(retry_on: str) -> Json:
    # The one retry goes to the next priority, so a plane whose replicas all died at once still
    # answers through a peer.
    return {
        "retry_on": f"{retry_on},retriable-headers",
        "num_retries": RETRIES,
        "retriable_headers": sent_on(),
        # An engine that still loads, or a peer whose last replica just went.
        "retriable_status_codes": [503],
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed(
                    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                ),
            }
        ],
        "host_selection_retry_max_attempts": _HOST_SELECTION_ATTEMPTS,
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": typed(
                "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                update_frequency=1,
            ),
        },
    }


def _forwarded_routes(model: ServedModel, topology: GatewayTopology) -> list[Json]:
    """Return the peers' routes: to replicas here, never retried; the sender's bounds hold."""
    if model.outside_of:
        return []
    named = {"name": DEPLOYMENT_HEADER, "string_match": {"exact": model.deployment}}
    matches: list[tuple[Json, str]] = [
        ({"path": GENERATE_PATH, "grpc": {}, "headers": [named]}, LOCAL_GRPC),
        ({"safe_regex": {"regex": OPENAI_PATHS}, "headers": [named]}, LOCAL_HTTP),
    ]
    if model.serves_trtllm:
        matches.append(({"prefix": TRTLLM_PREFIX, "grpc": {}, "headers": [named]}, LOCAL_GRPC))
    return [
        {
            "match": match,
            "route": {
                "cluster": cluster_name(kind, model.deployment),
                "timeout": duration(0),
                "idle_timeout": duration(0),
            },
            "response_headers_to_add": telling_headers(topology.plane),
            "typed_per_filter_config": asked(model) if topology.picks and is_askable(match) else {},
        }
        for match, kind in matches
    ]


def _grpc_fallback(topology: GatewayTopology) -> list[Json]:
    """Return the routes of all other gRPC: Control, health, reflection, unknown models."""
    if topology.front is None:
        return [_unread(topology.plane)]
    everything, anybody = allowed_all(topology), open_to_all(topology)
    watch: Json = {
        "cluster": FRONT,
        "timeout": duration(0),
        # Watches are silent for as long as nothing happens.
        "idle_timeout": duration(0),
        "max_stream_duration": {"grpc_timeout_header_max": duration(0)},
    }
    # `timeout` is nothing beside `max_stream_duration`; a caller's own, shorter deadline holds.
    most = duration(FRONT_SECONDS_MAX)
    bounds = {"max_stream_duration": most, "grpc_timeout_header_max": most}
    asked = {**watch, "max_stream_duration": bounds}
    # Every Generate has this route until its model is read. A bound on streams would be written
    # into its deadline header there, and stay with it: all were cut after ten seconds.
    unknown = {"cluster": FRONT, "timeout": most, "idle_timeout": duration(0)}
    return [
        # The front would name every model to whoever asks for one that there is not.
        _unread(topology.plane) if everything else {"match": {**_GENERATE}, "route": unknown},
        asking({"match": {"path": _GRPC_HEALTH, "grpc": {}}, "route": asked}, anybody),
        # It speaks for all replicas: whose key is for some deployments would end others' requests.
        asking({"match": {"prefix": _CONTROL, "grpc": {}}, "route": asked}, everything),
        asking({"match": {"prefix": "/", "grpc": {}}, "route": watch}, everything),
    ]


def _unread(plane: str) -> Json:
    """Return the route of a Generate whose model is not read yet, or is not served here.

    The filter that reads it from the message is turned on by the route before: without this one
    in a table no message's model is found there.
    """
    return as_from_here(grpc_fault({**_GENERATE}, GrpcCode.NOT_FOUND, UNSERVED_GRPC), plane)


def _request_faults(topology: GatewayTopology) -> list[Json]:
    """Return the answers to requests for completions that name no model served here."""
    openai: Json = {"safe_regex": {"regex": OPENAI_PATHS}}
    post: Json = {**openai, "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]}
    is_text = {"string_match": {"safe_regex": {"regex": "(?s).+"}}}
    broken = _metadata(JSON_METADATA, FAULT_KEY, {"string_match": {"exact": FAULT_JSON}})
    return [
        as_from_here(
            fault(
                {**post, "dynamic_metadata": [_metadata(JSON_METADATA, "model", is_text)]},
                404,
                unserved(told_names(topology)),
                param="model",
                code="model_not_found",
            ),
            topology.plane,
        ),
        fault(
            {**post, "dynamic_metadata": [broken]},
            400,
            "the body is not valid JSON, or not sent as Content-Type: application/json",
            code="invalid_json",
        ),
        fault(
            post,
            400,
            f"the body must be a JSON object with a string `model`; {told_names(topology)}",
            param="model",
            code="missing_model",
        ),
        fault(openai, 405, "this path takes POST only", code="method_not_allowed"),
    ]


def _one_of(names: Sequence[str]) -> Json:
    exact: list[Json] = [{"string_match": {"exact": name}} for name in names]
    return exact[0] if len(exact) == 1 else {"or_match": {"value_matchers": exact}}


def _metadata(namespace: str, key: str, value: Json) -> Json:
    return {"filter": namespace, "path": [{"key": key}], "value": value}
