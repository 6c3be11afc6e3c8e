"""The few fields of `trtllm.TrtllmService` that the host reads, by their numbers. PURE.

Messages pass as they are, so no schema of them is needed here: field numbers never change, and the
rest may. Written from smg-grpc-proto 0.4.28, which TensorRT-LLM serves.
"""

from dataclasses import dataclass

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

SERVICE = "trtllm.TrtllmService"
PREFIX = f"/{SERVICE}/"
GENERATE = f"{PREFIX}Generate"
HEALTH_CHECK = f"{PREFIX}HealthCheck"

HEALTHY = b"OK"
CANCELLED = b"cancelled"

# The first field of requests, responses and of what HealthCheck tells is a string.
_REQUEST_ID = _STATUS = 1
# Of GenerateResponse.
_CHUNK, _COMPLETE = 2, 3
# Of GenerateStreamChunk (those since the one before) and of GenerateComplete (all).
_TOKEN_IDS = 1
# Of GenerateComplete.
_SEQUENCE, _FINISH_REASON, _PROMPT, _COMPLETION, _CACHED = 2, 3, 5, 6, 7

Value = int | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The end of one sequence of an answer, and what the engine counted for it."""

    sequence: int
    finish_reason: bytes
    token_ids: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


def request_id(message: bytes) -> str:
    """Return the id of a GenerateRequest or AbortRequest, empty without one that can be read."""
    return _text(_fields(message), _REQUEST_ID).decode(errors="replace")


def is_healthy(message: bytes) -> bool:
    """Return whether a HealthCheckResponse says that the engine serves."""
    return _text(_fields(message), _STATUS) == HEALTHY


def chunk_tokens(message: bytes) -> int:
    """Return how many new tokens a GenerateResponse has; none where it ends a sequence."""
    return sum(_token_count(_fields(one)) for one in _messages(message, _CHUNK))


def complete_of(message: bytes) -> Complete | None:
    """Return the end that a GenerateResponse tells, None where it tells none."""
    for one in _messages(message, _COMPLETE):
        fields = _fields(one)
        return Complete(
            sequence=_number(fields, _SEQUENCE),
            finish_reason=_text(fields, _FINISH_REASON),
            token_ids=_token_count(fields),
            prompt_tokens=_number(fields, _PROMPT),
            completion_tokens=_number(fields, _COMPLETION),
            cached_tokens=_number(fields, _CACHED),
        )
    return None


def _fields(message: bytes) -> list[tuple[int, Value]]:
    """Return a message's fields in their order, none where it cannot be read."""
    try:
        known = UnknownFieldSet(Empty.FromString(message))
    except DecodeError:
        return []
    every = (known[index] for index in range(len(known)))
    return [(one.field_number, one.data) for one in every if isinstance(one.data, Value)]


def _messages(message: bytes, number: int) -> list[bytes]:
    return [value for at, value in _fields(message) if at == number and not isinstance(value, int)]


def _text(fields: list[tuple[int, Value]], number: int) -> bytes:
    # Of a field that comes twice the last counts.
    for at, value in reversed(fields):
        if at == number and isinstance(value, bytes):
            return value
    return b""


def _number(fields: list[tuple[int, Value]], number: int) -> int:
    for at, value in reversed(fields):
        if at == number and isinstance(value, int):
            return value
    return 0


def _token_count(fields: list[tuple[int, Value]]) -> int:
    """Return how many ids the field has: packed varints, each of which ends in a byte below 128."""
    return sum(
        1 if isinstance(value, int) else sum(byte < 0x80 for byte in value)
        for at, value in fields
        if at == _TOKEN_IDS
    )
