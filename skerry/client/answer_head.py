"""What an answer's headers, or a call's metadata, say of who gave it; pure.

`openai_http` and `generate_grpc` read them the same way. A gateway tells plane, replica and the
time in its queue as Server-Timing (docs/operating/client.md); one that is not ours tells nothing.
"""

import re
from collections.abc import Mapping

from skerry.client.gateways import Head
from skerry.wire.continuation.dialects import CONTINUATION_HEADER

REQUEST_ID_HEADER = "x-request-id"
_TIMING_HEADER = "server-timing"
_RETRY_AFTER_HEADER = "retry-after"
# plane;desc="eu-1", replica;desc="chat-1", queue;dur=12.5
_METRIC = re.compile(
    r'([a-z0-9_-]+)((?:\s*;\s*[a-z]+\s*=\s*(?:"[^"]*"|[^",;]*))*)\s*(?:,|$)', re.IGNORECASE
)
_PARAMETER = re.compile(r';\s*([a-z]+)\s*=\s*(?:"([^"]*)"|([^",;]*))', re.IGNORECASE)
_TIMING_CHARS_MAX = 1024
# Beyond, "come back" means "not today": the caller is told instead of kept waiting.
RETRY_AFTER_SECONDS_MAX = 3_600.0


def read_head(headers: Mapping[str, str], request_id: str) -> Head:
    """Return who answers; `headers` by lowercase name, or a mapping that does not mind case."""
    timing = read_timing(headers.get(_TIMING_HEADER, ""))
    queue = timing.get("queue", {}).get("dur", "")
    return Head(
        plane=timing.get("plane", {}).get("desc", "") or headers.get("x-skerry-plane", ""),
        replica=timing.get("replica", {}).get("desc", "") or headers.get("x-skerry-replica", ""),
        queue_seconds=_number(queue, 0.001),
        request_id=headers.get(REQUEST_ID_HEADER, "") or request_id,
        continuation=headers.get(CONTINUATION_HEADER, ""),
    )


def read_timing(text: str) -> dict[str, dict[str, str]]:
    """Return a Server-Timing header's parameters by metric; what is malformed is left out."""
    found: dict[str, dict[str, str]] = {}
    for name, rest in _METRIC.findall(text[:_TIMING_CHARS_MAX]):
        found[name.lower()] = {
            key.lower(): quoted or bare.strip() for key, quoted, bare in _PARAMETER.findall(rest)
        }
    return found


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the other side wants to be left alone, None if it does not say."""
    seconds = _number(headers.get(_RETRY_AFTER_HEADER, ""), 1.0)
    return None if seconds is None else min(seconds, RETRY_AFTER_SECONDS_MAX)


def _number(text: str, unit: float) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value * unit if 0 <= value < float("inf") else None
