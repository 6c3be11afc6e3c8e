"""Names on which the picker and the gateway's configuration agree: headers, paths, sockets.

Pure; `workload_plane.gateway.picking` builds Envoy's side of it.
"""

import hashlib
from pathlib import Path

from workload_plane.gateway.wire import (
    AVOID_HEADER,
    DEPLOYMENT_HEADER,
    GENERATE_PATH,
    HEALTH_PATH,
    KEY_HEADER,
    LOSSES,
    LOST_HEADER,
    RESUMED_HEADER,
    USAGE_METADATA,
)

__all__ = [
    "AVOID_HEADER",
    "DEPLOYMENT_HEADER",
    "GENERATE_PATH",
    "HEALTH_PATH",
    "KEY_HEADER",
    "LOSSES",
    "RESUMED_HEADER",
]

# What Envoy is told: hosts in the order to try, and the number by which the access log is joined.
ENDPOINT_HEADER = "x-skerry-endpoint"
TICKET_HEADER = "x-skerry-ticket"
# How long the whole body is: the picker sees its beginning only.
BODY_BYTES_HEADER = "x-skerry-body-bytes"
# What a client may send: the same key, the same replica.
SESSION_HEADER = "x-session-id"
PRIORITY_HEADER = "openengine-priority"
# Envoy's own: how many retries this request may take.
RETRIES_HEADER = "x-envoy-max-retries"
ATTEMPT_HEADER = "x-envoy-attempt-count"
# A reset may mean that the engine had begun, and that this very request killed it: one more replica
# is put at risk, no third. Of a request that may come to the waiting room another retry is the way
# out of it.
RETRIES, RETRIES_WITH_ROOM = 1, 2
# The waiting room's word that a replica is there now.
AGAIN_HEADER = "x-skerry-again"
# And on what it refuses: nobody took the request in time, which is no failure of the room's.
HELD_HEADER = "x-skerry-held"

PICK_PREFIX = "/pick"
FORWARDED_PREFIX = "/forwarded"
LOAD_PATH = "/skerry/load"
# What the agent asks on the picker's own socket; no route of the gateway leads there.
COUNTERS_PATH = "/skerry/counters"

# Of a body the picker sees this much: 64k tokens of text. More would cost each question its time
# and change few choices.
SEEN_BYTES_MAX = 256 * 1024
# Beyond, the gateway goes on by itself. The picker takes a tenth of a millisecond, but Envoy counts
# from when it began to read the body's JSON: with 50 ms a megabyte on a busy machine lost 7 of 20.
TIMEOUT_SECONDS = 0.1
# The waiting room among hosts; no replica and no plane can have that name.
WAITING_ROOM = "_waiting-room"
# How often Envoy hands over what it logged, and how often it tells of a request under way.
LOG_FLUSH_SECONDS = 0.02
ACCOUNT_SECONDS = 2.0

# The access log's line in Envoy's format; nothing in it is the client's to choose.
# What an answer used stands in front: a picker of an earlier release finds its line as ever.
LOG_LINE = (
    f"[%DYNAMIC_METADATA({USAGE_METADATA}:told)%]"
    "<%REQ(X-SKERRY-TICKET)%|%UPSTREAM_HOST%|%RESPONSE_CODE%|%RESPONSE_FLAGS%|%RESPONSE_DURATION%"
    "|%DURATION%|%BYTES_RECEIVED%|%BYTES_SENT%|%UPSTREAM_REQUEST_ATTEMPT_COUNT%|%ACCESS_LOG_TYPE%"
    f"|%GRPC_STATUS_NUMBER%|%RESP({LOST_HEADER})%>"
)

# picker.json, which the agent writes.
PLANE_FILE_FORMAT = 1
# OpenAI's headers of a key's tokens a minute.
LIMIT_HEADER = "x-ratelimit-limit-tokens"
REMAINING_HEADER = "x-ratelimit-remaining-tokens"
RESET_HEADER = "x-ratelimit-reset-tokens"
STANDING = (LIMIT_HEADER, REMAINING_HEADER, RESET_HEADER)


# What a Unix socket's path may be long; Envoy refuses a configuration with a longer one whole.
SOCKET_PATH_BYTES_MAX = 107


def has_short_paths(directory: Path) -> bool:
    """Say whether the sockets of a picker in the directory can have addresses."""
    return len(str(room_grpc_socket(directory)).encode()) <= SOCKET_PATH_BYTES_MAX


def socket_directory(wanted: Path, temporary: Path, user: int) -> Path:
    """Return where the picker's sockets are: as wanted, or in `temporary` where that is too long.

    The name below `temporary` is that of the wanted directory alone: the agent, the picker and
    Envoy's configuration come to the same one without asking each other.
    """
    if has_short_paths(wanted):
        return wanted
    digest = hashlib.sha256(str(wanted.absolute()).encode()).hexdigest()
    return temporary / f"skerry-{user}-{digest[:16]}"


def authz_socket(directory: Path) -> Path:
    """Return where Envoy asks."""
    return directory / "authz.sock"


def log_socket(directory: Path) -> Path:
    """Return where Envoy's access log is read."""
    return directory / "log.sock"


def room_socket(directory: Path) -> Path:
    """Return where requests over HTTP wait."""
    return directory / "room.sock"


def room_grpc_socket(directory: Path) -> Path:
    """Return where requests over gRPC wait."""
    return directory / "room-grpc.sock"
