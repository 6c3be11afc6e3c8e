"""Envoy's route tables: which request goes where, and what is answered by the gateway itself.

Pure; `resources.build_snapshot` calls it. The public table routes by the model that the filters
of `listeners.py` found in the body; the peers' table routes by the header that the forwarding
gateway set, and only to replicas of this plane. First match wins.
"""

import json
from collections.abc import Sequence
from urllib.parse import quote

from workload_plane.gateway.clusters import FRONT, GRPC, HTTP, LOCAL_GRPC, LOCAL_HTTP, cluster_name
from workload_plane.gateway.refusals import refuse_tools
from workload_plane.gateway.topology import GatewayTopology, ServedModel
from workload_plane.gateway.wire import (
    ALIVE_PATH,
    DEPLOYMENT_HEADER,
    GENERATE_PATH,
    HEALTH_PATH,
    MODEL_HEADER,
    OPENAI_PATHS,
    PLANE_HEADER,
    Json,
    duration,
    typed,
)

PUBLIC_ROUTES = "public"
PEER_ROUTES = "peer"

JSON_METADATA = "envoy.filters.http.json_to_metadata"
GRPC_METADATA = "envoy.filters.http.grpc_field_extraction"
FAULT_KEY = "fault"
FAULT_JSON = "json"

# A pause inside a stream is a hang only well past the time that the longest prompt needs.
_STREAM_IDLE_FACTOR = 3
# A reset may mean that the engine had begun, and that this very request killed it: one more
# replica is put at risk, no third. It goes to the next priority, so a plane whose replicas all
# died at once still answers through a peer.
_RETRIES = 1
_RETRY_ON = "connect-failure,refused-stream,reset,retriable-status-codes"
# gRPC's own "not accepted", which skerry-replica says while its engine is away.
_RETRY_ON_GRPC = f"{_RETRY_ON},unavailable"
# What Envoy bounds the choice of a host not yet tried by; past it a tried one is used again. A dead
# host has nothing active and least-request prefers it: with 5 picks a retry often met it again
# (2 of 4 runs failed after a kill -9 of one of two replicas), with 50 none of 6 did.
_HOST_SELECTION_ATTEMPTS = 50
# A stream that moves nothing for this long beyond both attempts is a client that went away.
_CLIENT_IDLE_SLACK_SECONDS = 30.0
# 1,000 models with long names; Envoy's default of 4 KiB is too small for the list of models.
_DIRECT_BODY_BYTES_MAX = 1024 * 1024
# As much of a wrong model's name as an error message repeats.
_ECHO_CHARACTERS_MAX = 64
# Named in the error for an unknown model; the whole list is at /v1/models.
_LISTED_MODELS_MAX = 50


def build_routes(topology: GatewayTopology) -> tuple[Json, ...]:
    """Return the public and, with TLS, the peers' route table."""
    public = _table(
        PUBLIC_ROUTES,
        [
            *(route for model in topology.models for route in _model_routes(model)),
            *_grpc_fallback(topology),
            *_request_faults(topology.models),
            *_model_list(topology),
            _answer({"path": HEALTH_PATH}, 200, {"status": "ok", "plane": topology.plane}),
            _fault(
                {"prefix": "/"},
                404,
                "no such path; POST /v1/chat/completions, /v1/completions or /v1/embeddings,"
                " or GET /v1/models",
                code="unknown_path",
            ),
        ],
        topology.plane,
    )
    # The attempt count reaches the peer, which adds none of its own.
    public["virtual_hosts"][0]["include_request_attempt_count"] = True
    if topology.tls is None:
        return (public,)
    peer = _table(
        PEER_ROUTES,
        [
            _answer({"path": ALIVE_PATH}, 200, {"plane": topology.plane}),
            *(route for model in topology.models for route in _forwarded_routes(model)),
            _fault(
                {"prefix": "/"},
                404,
                "this plane does not serve that deployment",
                code="deployment_not_found",
            ),
        ],
        topology.plane,
    )
    return (public, peer)


def _table(name: str, routes: list[Json], plane: str) -> Json:
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=name,
        # After a restart routes may be read before clusters; refusing them then lost the
        # listener until the next change. A missing cluster is a 503 until it is there.
        validate_clusters=False,
        max_direct_response_body_size_bytes=_DIRECT_BODY_BYTES_MAX,
        virtual_hosts=[
            {
                "name": name,
                "domains": ["*"],
                "routes": routes,
                # The plane that answered first stays; the forwarding gateway does not overwrite.
                "response_headers_to_add": [_header(PLANE_HEADER, plane, "ADD_IF_ABSENT")],
            }
        ],
    )


def _model_routes(model: ServedModel) -> list[Json]:
    stream_idle_seconds = _STREAM_IDLE_FACTOR * model.ttft_bound_seconds
    post = [{"name": ":method", "string_match": {"exact": "POST"}}]
    body_model = _metadata(JSON_METADATA, "model", {"string_match": {"exact": model.served_name}})
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
    forwarded = _header(DEPLOYMENT_HEADER, model.deployment, "OVERWRITE_IF_EXISTS_OR_ADD")
    routes: list[Json] = [
        {"match": match, "route": action, "request_headers_to_add": [forwarded]}
        for match, action in matches
    ]
    if model.refuses_tools:
        for route in routes[:2]:  # those of OpenAI's paths
            route["typed_per_filter_config"] = refuse_tools(_no_tools(model))
    return routes


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
        "idle_timeout": duration((_RETRIES + 1) * idle_seconds + _CLIENT_IDLE_SLACK_SECONDS),
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
    return {
        "retry_on": retry_on,
        "num_retries": _RETRIES,
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


def _forwarded_routes(model: ServedModel) -> list[Json]:
    """Return the peers' routes: to replicas here, never retried; the sender's bounds hold."""
    named = {"name": DEPLOYMENT_HEADER, "string_match": {"exact": model.deployment}}
    matches: list[tuple[Json, str]] = [
        ({"path": GENERATE_PATH, "grpc": {}, "headers": [named]}, LOCAL_GRPC),
        ({"safe_regex": {"regex": OPENAI_PATHS}, "headers": [named]}, LOCAL_HTTP),
    ]
    return [
        {
            "match": match,
            "route": {
                "cluster": cluster_name(kind, model.deployment),
                "timeout": duration(0),
                "idle_timeout": duration(0),
            },
        }
        for match, kind in matches
    ]


def _grpc_fallback(topology: GatewayTopology) -> list[Json]:
    """Return the route of all other gRPC: Control, health, reflection, unknown models."""
    if topology.front is None:
        return []
    action: Json = {
        "cluster": FRONT,
        "timeout": duration(0),
        # Watches are silent for as long as nothing happens.
        "idle_timeout": duration(0),
        "max_stream_duration": {"grpc_timeout_header_max": duration(0)},
    }
    return [{"match": {"prefix": "/", "grpc": {}}, "route": action}]


def _request_faults(models: Sequence[ServedModel]) -> list[Json]:
    """Return the answers to requests for completions that name no model served here."""
    openai: Json = {"safe_regex": {"regex": OPENAI_PATHS}}
    post: Json = {**openai, "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]}
    is_text = {"string_match": {"safe_regex": {"regex": "(?s).+"}}}
    broken = _metadata(JSON_METADATA, FAULT_KEY, {"string_match": {"exact": FAULT_JSON}})
    return [
        _fault(
            {**post, "dynamic_metadata": [_metadata(JSON_METADATA, "model", is_text)]},
            404,
            f"the model `%DYNAMIC_METADATA({JSON_METADATA}:model):{_ECHO_CHARACTERS_MAX}%`"
            f" is not served here; {_escaped(_served(models))}",
            param="model",
            code="model_not_found",
        ),
        _fault(
            {**post, "dynamic_metadata": [broken]},
            400,
            "the body is not valid JSON, or not sent as Content-Type: application/json",
            code="invalid_json",
        ),
        _fault(
            post,
            400,
            f"the body must be a JSON object with a string `model`; {_escaped(_served(models))}",
            param="model",
            code="missing_model",
        ),
        _fault(openai, 405, "this path takes POST only", code="method_not_allowed"),
    ]


def _model_list(topology: GatewayTopology) -> list[Json]:
    entries = {model.served_name: _model_entry(model, topology) for model in topology.models}
    routes = [
        _answer({"path": "/v1/models"}, 200, {"object": "list", "data": list(entries.values())})
    ]
    for name, entry in entries.items():
        for path in dict.fromkeys((name, quote(name, safe=""), quote(name))):
            routes.append(_answer({"path": f"/v1/models/{path}"}, 200, entry))
    routes.append(
        _fault(
            {"prefix": "/v1/models/"},
            404,
            f"no such model; {_escaped(_served(topology.models))}",
            param="model",
            code="model_not_found",
        )
    )
    return routes


def _model_entry(model: ServedModel, topology: GatewayTopology) -> Json:
    return {
        "id": model.served_name,
        "object": "model",
        "created": 0,  # a deployment's time of creation is not the plane's to know
        "owned_by": topology.project,
    }


def _served(models: Sequence[ServedModel]) -> str:
    if not models:
        return "no model is served here yet"
    names = sorted(model.served_name for model in models)
    more = ", …" if len(names) > _LISTED_MODELS_MAX else ""
    return f"served: {', '.join(names[:_LISTED_MODELS_MAX])}{more}"


def _metadata(namespace: str, key: str, value: Json) -> Json:
    return {"filter": namespace, "path": [{"key": key}], "value": value}


def _header(name: str, value: str, action: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": action}


def _answer(match: Json, status: int, body: Json) -> Json:
    """Return a route that the gateway answers itself."""
    text = json.dumps(body, separators=(",", ":"))
    content = _header("content-type", "application/json", "OVERWRITE_IF_EXISTS_OR_ADD")
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "response_headers_to_add": [content],
    }


def _fault(match: Json, status: int, message: str, *, code: str, param: str | None = None) -> Json:
    """Return a route answered with an error of OpenAI's shape; the message is a format."""
    return {
        "match": match,
        "direct_response": {
            "status": status,
            "body_format": {"json_format": openai_error(message, code=code, param=param)},
        },
    }


def openai_error(
    message: str, *, code: str, kind: str = "invalid_request_error", param: str | None = None
) -> Json:
    """Return an error body as OpenAI's clients understand it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _escaped(text: str) -> str:
    """Return text that a format string shows as it is."""
    return text.replace("%", "%%")
