"""What the picker answers for a request that its API key may not have now.

Errors of OpenAI's shape, with OpenAI's types and codes; over gRPC their text alone, of which the
gateway makes the status.
"""

import json
import math

from workload_plane.picker.http_server import response
from workload_plane.picker.key_tokens import Bound, Refusal, Standing
from workload_plane.picker.wire import LIMIT_HEADER, REMAINING_HEADER, RESET_HEADER

_AT_ONCE = "this API key has as many requests under way here as it may; wait for one to end"
_RATE = "this API key has no more tokens in this minute here; wait, as retry-after says"
_BUDGET = (
    "this API key has used its budget of tokens here; it begins anew after what retry-after says"
)
_STATUS = b"429 Too Many Requests"


def busy(*, is_grpc: bool) -> bytes:
    """Return the answer to one more request at once than a key may have."""
    return _refused(_AT_ONCE, "rate_limit_error", "concurrency_limit_exceeded", 1.0, is_grpc)


def out_of_tokens(refusal: Refusal, standing: Standing | None, *, is_grpc: bool) -> bytes:
    """Return the answer to a request for which a key has no tokens."""
    headers = standing_headers(standing)
    if refusal.bound is Bound.BUDGET:
        code = "insufficient_quota"
        return _refused(_BUDGET, code, code, refusal.seconds, is_grpc, headers)
    return _refused(_RATE, "tokens", "rate_limit_exceeded", refusal.seconds, is_grpc, headers)


def standing_headers(standing: Standing | None) -> tuple[tuple[bytes, bytes], ...]:
    """Return OpenAI's headers of a key's tokens a minute; none where those have no bound."""
    if standing is None:
        return ()
    return (
        (LIMIT_HEADER.encode(), b"%d" % standing.limit),
        (REMAINING_HEADER.encode(), b"%d" % standing.left),
        (RESET_HEADER.encode(), b"%.3fs" % standing.seconds),
    )


def with_standing(answer: bytes, standing: Standing | None) -> bytes:
    """Return an answer without a body that says besides where a key's tokens a minute are."""
    if standing is None:
        return answer
    lines = b"".join(b"%b: %b\r\n" % header for header in standing_headers(standing))
    return answer[:-2] + lines + b"\r\n"


def _refused(
    message: str,
    kind: str,
    code: str,
    seconds: float,
    is_grpc: bool,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    later = (b"retry-after", b"%d" % max(1, math.ceil(seconds)))
    if is_grpc:
        return response(_STATUS, message.encode(), (b"content-type", b"text/plain"), later)
    error = {"message": message, "type": kind, "param": None, "code": code}
    content = (b"content-type", b"application/json")
    return response(_STATUS, json.dumps({"error": error}).encode(), content, later, *headers)
