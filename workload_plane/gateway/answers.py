"""What the gateway answers by itself: errors of OpenAI's shape, direct answers, telling headers.

Pure; `routes`, `models_list` and `listeners` call it. Every answer has a request id, the plane that
gave it and, once a host was asked, which replica and how long the request waited here. gRPC
clients get the same errors as a status, whose message Envoy takes from the body's text.
"""

import json
from enum import IntEnum

from workload_plane.gateway.grpc_filters import TRAILER_FILTER, off
from workload_plane.gateway.topology import ServedModel
from workload_plane.gateway.wire import (
    BODY_BYTES_MAX,
    DEPLOYMENT_HEADER,
    JSON_METADATA,
    KEY_METADATA,
    LOSSES,
    LOST_HEADER,
    PLANE_HEADER,
    REQUEST_ID_HEADER,
    TIMING_HEADER,
    Json,
    extension,
)


class GrpcCode(IntEnum):
    """The gRPC statuses that the gateway gives by itself, by their numbers on the wire."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12


# After how long a client without a ready replica is told to come again.
_RETRY_AFTER_SECONDS = 1
# Envoy's word for why, where it refuses before it looks at anything of a request.
_MEMORY_DETAILS = "overload"
# Its words of the filters that look at a request's API key.
_ASKED_DETAILS = "ext_authz_denied"
_RATED_DETAILS, _DENIED_DETAILS = "local_rate_limited", "rbac_access_denied"
_PATH_DETAILS = "path_normalization_failed"
_IS_GRPC: Json = {
    "header_filter": {
        "header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    }
}
# The rule that finds a key of another project than the route's model; `keys` writes it.
FOREIGN_POLICY = "foreign"
_FOREIGN_DETAILS = f"{_DENIED_DETAILS}_matched_policy[{FOREIGN_POLICY}]"
# As much of a wrong model's name as an error message repeats.
_ECHO_CHARACTERS_MAX = 64
_ASKED_MODEL = f"%DYNAMIC_METADATA({JSON_METADATA}:model):{_ECHO_CHARACTERS_MAX}%"
UNSERVED_GRPC = "no model of that name is served here"
# Of a request that got as far as a host: who had it, and from its last byte here to the host.
_REPLICA = "%UPSTREAM_HOST_NAME%"
_QUEUE_MS = "%COMMON_DURATION(DS_RX_END:US_TX_BEG:ms)%"


def header(name: str, value: str, action: str) -> Json:
    """Return an Envoy header to add; `value` is a format."""
    return {"header": {"key": name, "value": value}, "append_action": action}


def naming_header(model: ServedModel) -> Json:
    """Return the header by which peers, and the waiting room, know whose a request is."""
    return header(DEPLOYMENT_HEADER, model.deployment, "OVERWRITE_IF_EXISTS_OR_ADD")


def answer(match: Json, status: int, body: Json) -> Json:
    """Return a route that the gateway answers itself."""
    text = json.dumps(body, separators=(",", ":"))
    content = header("content-type", "application/json", "OVERWRITE_IF_EXISTS_OR_ADD")
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "response_headers_to_add": [content],
    }


def fault(
    match: Json,
    status: int,
    message: str,
    *,
    code: str,
    kind: str = "invalid_request_error",
    param: str | None = None,
) -> Json:
    """Return a route answered with an error of OpenAI's shape; the message is a format."""
    return {
        "match": match,
        "direct_response": {
            "status": status,
            "body_format": {
                "json_format": openai_error(message, code=code, kind=kind, param=param)
            },
        },
    }


def grpc_fault(match: Json, code: GrpcCode, message: str) -> Json:
    """Return a route answered with a gRPC status; the message is a format."""
    text = {"text_format_source": {"inline_string": message}}
    told = header("grpc-status", str(code.value), "OVERWRITE_IF_EXISTS_OR_ADD")
    return {
        "match": match,
        # Envoy would derive a gRPC status of its own from this one.
        "direct_response": {"status": 404, "body_format": text},
        "response_headers_to_add": [told],
    }


def openai_error(
    message: str, *, code: str, kind: str = "invalid_request_error", param: str | None = None
) -> Json:
    """Return an error body as OpenAI's clients understand it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def escaped(text: str) -> str:
    """Return text that a format string shows as it is."""
    return text.replace("%", "%%")


def telling_headers(plane: str) -> list[Json]:
    """Return the headers of an answer from a host: which replica of which plane, how long queued.

    What a peer said of its own replica stays: the forwarding gateway adds nothing to it.
    """
    return [header(TIMING_HEADER, _timing(plane), "ADD_IF_ABSENT")]


def as_from_here(route: Json, plane: str) -> Json:
    """Return the answer with the headers of a model's own route.

    A refusal of a model that another project has comes from that one's route: without them here
    anybody could tell it from one that nobody has.
    """
    told = [*route.get("response_headers_to_add", []), *telling_headers(plane)]
    return {**route, "response_headers_to_add": told}


def telling_trailers(plane: str) -> Json:
    """Return the filter that says the same in trailers; gRPC's routes turn it on (`for_grpc`)."""
    mutations = {
        "response_trailers_mutations": [
            {"append": header(name, value, "ADD_IF_ABSENT")}
            for name, value in (
                (REQUEST_ID_HEADER, "%REQ(X-REQUEST-ID)%"),
                (PLANE_HEADER, plane),
                (TIMING_HEADER, _timing(plane)),
            )
        ]
    }
    filter_type = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    return off(extension(TRAILER_FILTER, filter_type, mutations=mutations))


def _timing(plane: str) -> str:
    return f'plane;desc="{plane}", replica;desc="{_REPLICA}", queue;dur={_QUEUE_MS}'


def local_replies() -> Json:
    """Return the shape of the errors that Envoy makes itself; gRPC has its own."""
    limit_mib = BODY_BYTES_MAX // (1024 * 1024)
    retry_after = header("retry-after", str(_RETRY_AFTER_SECONDS), "OVERWRITE_IF_EXISTS_OR_ADD")
    none_ready = openai_error(
        "no replica of this model is ready in any plane; try again",
        code="no_ready_replica",
        kind="server_error",
    )
    late = openai_error(
        "the model did not answer in time", code="deadline_exceeded", kind="server_error"
    )
    lost = openai_error(
        "the replica was lost before it answered; try again",
        code="replica_lost",
        kind="server_error",
    )
    overloaded = openai_error(
        "this gateway is at its limits; try again, or another plane's gateway",
        code="gateway_overloaded",
        kind="server_error",
    )
    told_lost = header(LOST_HEADER, "1", "OVERWRITE_IF_EXISTS_OR_ADD")
    bad_http = openai_error("the request is no valid HTTP", code="bad_request")
    faults = {
        408: openai_error("the request did not arrive in time", code="request_timeout"),
        413: openai_error(f"the body is larger than {limit_mib} MiB", code="body_too_large"),
        431: openai_error(
            "the request's headers are too large or too many", code="headers_too_large"
        ),
    }
    return {
        "mappers": [
            _reply(_unread(), bad_http),
            *(_reply(_status_is(status), body) for status, body in faults.items()),
            _reply(_flagged("OM", "DO"), overloaded, retry_after),
            _reply(_out_of_memory(), overloaded, retry_after),
            _reply(_flagged("UH", "NC"), none_ready, retry_after),
            _reply(_flagged("UT", "SI"), late),
            _reply(_flagged(*LOSSES), lost, retry_after, told_lost),
            _reply(_flagged("UF", "URX", "UPE", "UO"), lost, retry_after),
            _bad_grpc(),
            # gRPC keeps Envoy's own message.
            {"filter": _flagged(*LOSSES), "headers_to_add": [told_lost]},
        ]
    }


def key_replies(plane: str) -> list[Json]:
    """Return the shapes of what is refused for the API key that a request came with."""
    too_many = "this API key has no more requests in this minute here; wait, as retry-after says"
    not_for_it = "this API key is not for that; GET /v1/models lists what it is for"
    told = header(PLANE_HEADER, escaped(plane), "OVERWRITE_IF_EXISTS_OR_ADD")
    later = header(
        "retry-after", f"%DYNAMIC_METADATA({KEY_METADATA}:retry)%", "OVERWRITE_IF_EXISTS_OR_ADD"
    )
    rated = openai_error(too_many, code="rate_limit_exceeded", kind="rate_limit_error")
    denied = openai_error(not_for_it, code="model_not_allowed", kind="permission_error")
    exhausted = header(
        "grpc-status", str(GrpcCode.RESOURCE_EXHAUSTED.value), "OVERWRITE_IF_EXISTS_OR_ADD"
    )
    is_rated = _detailed(f" == '{_RATED_DETAILS}'")
    is_denied = _detailed(f".startsWith('{_DENIED_DETAILS}')")
    return [
        _reply(is_rated, rated, later, told),
        *_not_there(told),
        _reply(is_denied, denied, told),
        # What is left of them is gRPC.
        _text_reply(is_rated, too_many, later, told),
        _text_reply(is_denied, not_for_it, told),
        # The picker's own words.
        {"filter": _refused_grpc(), "headers_to_add": [exhausted]},
    ]


def _bad_grpc() -> Json:
    """Return the answer to a gRPC call whose path is none; Envoy alone makes it INTERNAL."""
    invalid = header(
        "grpc-status", str(GrpcCode.INVALID_ARGUMENT.value), "OVERWRITE_IF_EXISTS_OR_ADD"
    )
    condition = {"and_filter": {"filters": [_IS_GRPC, _detailed(f" == '{_PATH_DETAILS}'")]}}
    return _text_reply(condition, "the call's path is no valid one", invalid)


def unserved(served: str) -> str:
    """Return what is said where the model of a request is not there, as a format."""
    return f"the model `{_ASKED_MODEL}` is not served here; {served}"


def unlisted(served: str) -> str:
    """Return what is said where a model that is looked at is not there, as a format."""
    return f"no such model; {served}"


def _not_there(told: Json) -> list[Json]:
    """Return the shapes of what is refused to a key of another project: as if it were not there."""
    is_foreign = _detailed(f" == '{_FOREIGN_DETAILS}'")
    is_read: Json = {
        "header_filter": {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
    }
    is_look = {"and_filter": {"filters": [is_foreign, is_read]}}
    served = f"%DYNAMIC_METADATA({KEY_METADATA}:served)%"
    missing = header("grpc-status", str(GrpcCode.NOT_FOUND.value), "OVERWRITE_IF_EXISTS_OR_ADD")
    looked, asked = (
        openai_error(message, param="model", code="model_not_found")
        for message in (unlisted(served), unserved(served))
    )
    replies = [
        _reply(is_look, looked, told),
        _reply(is_foreign, asked, told),
        _text_reply(is_foreign, UNSERVED_GRPC, missing, told),
    ]
    return [{**reply, "status_code": 404} for reply in replies]


def _refused_grpc() -> Json:
    """Return what holds of a gRPC request that the picker refused for its API key."""
    filters = [
        _IS_GRPC,
        _status_is(429),
        _detailed(f" == '{_ASKED_DETAILS}'"),
    ]
    return {"and_filter": {"filters": filters}}


def _text_reply(condition: Json, message: str, *headers: Json) -> Json:
    text = {"text_format_source": {"inline_string": escaped(message)}}
    return {"filter": condition, "body_format_override": text, "headers_to_add": list(headers)}


def _reply(condition: Json, body: Json, *headers: Json) -> Json:
    not_grpc = {
        "header_filter": {
            "header": {
                "name": "content-type",
                "string_match": {"prefix": "application/grpc"},
                # What the codec refused has no headers at all, and is no gRPC either.
                "treat_missing_header_as_empty": True,
                "invert_match": True,
            }
        }
    }
    return {
        "filter": {"and_filter": {"filters": [not_grpc, condition]}},
        "body_format_override": {"json_format": body},
        "headers_to_add": list(headers),
    }


def _flagged(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _out_of_memory() -> Json:
    """Return what holds of a request refused at the limit of memory; no flag marks it."""
    return _detailed(f" == '{_MEMORY_DETAILS}'")


def _detailed(test: str) -> Json:
    """Return what holds of a local reply whose reason passes a test."""
    expression = f"response.code_details{test}"
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=expression,
        )
    }


def _unread() -> Json:
    """Return what holds where the codec refused a request before anything could be read of it."""
    method = {"name": ":method", "present_match": True, "invert_match": True}
    return {"and_filter": {"filters": [_status_is(400), {"header_filter": {"header": method}}]}}


def _status_is(status: int) -> Json:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": "skerry.none"}}
    return {"status_code_filter": {"comparison": comparison}}
