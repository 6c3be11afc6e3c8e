"""Small pieces of Envoy's JSON that every kind of resource uses: types, durations, sources.

Pure. Names that two files must agree on (header names, secret names, metadata keys) are here.
"""

from typing import Any, TypeAlias

from skerry.wire.continuation.openai_request import PATHS

Json: TypeAlias = dict[str, Any]

TYPE_PREFIX = "type.googleapis.com/"

# Set by a gateway on what it forwards; clients' copies are stripped.
DEPLOYMENT_HEADER = "x-skerry-deployment"
# On every answer: the plane whose replica or gateway gave it.
PLANE_HEADER = "x-skerry-plane"
# On every answer, errors too: the client's own where it gave one, or one made here.
REQUEST_ID_HEADER = "x-request-id"
# On answers from a replica: whose it is, and how long the request waited in the gateway.
TIMING_HEADER = "server-timing"
# On what the gateway answers for a replica that was lost over the request: it may be the cause.
LOST_HEADER = "x-skerry-lost"
# Envoy's flags of that: the host had the request, its connection ended or was reset, not refused.
LOSSES = ("UC", "UR", "LR")
# The relay's, on what it asks again for a stream that broke: a loss is then not retried here.
RESUMED_HEADER = "x-skerry-resumed"
# With it, whom the stream was lost with so far: a picker sends it to another while there is one.
AVOID_HEADER = "x-skerry-avoid"
# The gateway's, on answers to its relay alone: every host that it tried for them.
TRIED_HEADER = "x-skerry-tried"
# The relay's answer to a stream that it cannot carry: the gateway takes the way without it.
DIRECT_HEADER = "x-skerry-direct"
# The header by which a gRPC client may choose a model instead of the message's field.
MODEL_HEADER = "x-model"

# The name of the API key that a request came with; never the key itself.
KEY_HEADER = "x-skerry-key"
# Where the filter that finds a request's key leaves what it may.
KEY_METADATA = "skerry.key"
# Where the filter that reads what answers used leaves it: PROMPT.ANSWER.EVENTS.
USAGE_METADATA = "skerry.usage"

# Where filters leave what they read of a body.
JSON_METADATA = "envoy.filters.http.json_to_metadata"
GRPC_METADATA = "envoy.filters.http.grpc_field_extraction"

IDENTITY_SECRET = "identity"
AUTHORITY_SECRET = "authority"

GENERATE_PATH = "/openengine.v1.Inference/Generate"
TRTLLM_PREFIX = "/trtllm.TrtllmService/"
RESPONSES_PATH = "/v1/responses"
MODELS_PATH = "/v1/models"
# OpenAI's paths below /v1/, and those of them whose streams the relay understands.
CONTINUED = tuple(path.removeprefix("/v1/") for path in PATHS)
OPENAI = (*CONTINUED, "embeddings", "responses")
OPENAI_PATHS = f"/v1/({'|'.join(OPENAI)})"
CONTINUED_PATHS = f"/v1/({'|'.join(CONTINUED)})"
# Engines queue and refuse by themselves, and each stream through the relay is a request too;
# Envoy's 1,024 would refuse long before they do.
REQUESTS_MAX = 65_536
ALIVE_PATH = "/skerry/alive"
HEALTH_PATH = "/health"

# What a client may send: 128k tokens as JSON token ids are 1 MB, as escaped text up to 3 MB, and
# 4 MiB is gRPC's own default, so both protocols accept the same. Bodies are held in memory whole
# to find the model, and again for a retry.
BODY_BYTES_MAX = 4 * 1024 * 1024
# What the gateway answers by itself: Envoy's default of 4 KiB is too small for the list of models.
DIRECT_BODY_BYTES_MAX = 1024 * 1024
# Envoy's default for HTTP/2, said aloud: one client connection may carry this many requests.
STREAMS_PER_CONNECTION_MAX = 1024
# Envoy's advice for edges: what one stream and one connection may have unread in flight.
STREAM_WINDOW_BYTES = 64 * 1024
CONNECTION_WINDOW_BYTES = 1024 * 1024
# A pause inside a stream is a hang only well past the time that the longest prompt needs: so many
# times the deployment's bound on the first token.
STREAM_IDLE_FACTOR = 3
# How late a changed set of endpoints may be seen.
_POLL_SECONDS = 0.5


def typed(type_name: str, **fields: Any) -> Json:
    """Return a message with its type, as an Any in JSON."""
    return {"@type": TYPE_PREFIX + type_name, **fields}


def extension(name: str, type_name: str, **fields: Any) -> Json:
    """Return a named extension with its typed configuration."""
    return {"name": name, "typed_config": typed(type_name, **fields)}


def duration(seconds: float) -> str:
    """Return a protobuf Duration in JSON."""
    return f"{seconds:.3f}s"


def socket_address(host: str, port: int) -> Json:
    """Return an Envoy socket address; `::` stands for all addresses, IPv4 ones too."""
    address: Json = {"address": host, "port_value": port}
    if host == "::":
        address["ipv4_compat"] = True  # or Envoy would keep out every peer: they come by IPv4
    return {"socket_address": address}


def file_source(root: str, path: str) -> Json:
    """Return the source of resources in the file `root/path`.

    The directory is watched, not the file: only a rename into it is noticed, which is how
    `files.py` writes. Waiting for the first content is bounded by Envoy's default of 15 s.
    """
    full_path = f"{root}/{path}"
    return {
        "path_config_source": {
            "path": full_path,
            "watched_directory": {"path": full_path.rpartition("/")[0]},
        },
        "resource_api_version": "V3",
    }


def polled_source(root: str, path: str) -> Json:
    """Return the source of resources in the file `root/path`, looked at again and again.

    Each watched file takes one of the 128 inotify handles that Linux gives a user by default;
    Envoy aborts without one. Whatever there may be many of is polled.
    """
    return {
        "path_config_source": {
            "path": f"{root}/{path}",
            "poll_interval": duration(_POLL_SECONDS),
        },
        "resource_api_version": "V3",
    }


def http2_options() -> Json:
    """Return the HTTP/2 limits that listeners and connections to peers share."""
    return {
        "max_concurrent_streams": STREAMS_PER_CONNECTION_MAX,
        "initial_stream_window_size": STREAM_WINDOW_BYTES,
        "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
    }
