"""What an engine said, whatever its dialect: deltas of text and tokens, endings, counts.

Read by the dialects from the engine's stream, turned into `openengine.v1` by `translate`.
"""

from dataclasses import dataclass

from skerry.api.openengine.v1 import error_pb2, generation_pb2

FinishReason = generation_pb2.FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPiece:
    """One token: its id, its text where the engine tells, and what was asked for about it."""

    id: int
    text: str = ""
    logprob: float | None = None
    candidates: tuple["TokenPiece", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What was generated since the last one for one output; never cumulative.

    `tokens_missing` of its tokens have no id, because the engine did not tell them.
    """

    output_index: int
    text: str
    tokens: tuple[TokenPiece, ...] = ()
    tokens_missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One output came to its end; `stop_text` or `stop_token` is what it met, if it did."""

    output_index: int
    reason: FinishReason
    stop_text: str = ""
    stop_token: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Tokens as the engine counted them, over all outputs."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The engine gave up an accepted request; `code` says whose fault it was."""

    message: str
    retryable: bool
    code: error_pb2.ErrorCode = error_pb2.ERROR_CODE_INTERNAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Nothing more will come."""


EngineSaid = Delta | Ended | Counted | Failed | Done

_BAD_REQUEST, _TOO_MANY, _SERVER_FAULT, _UNAVAILABLE = 400, 429, 500, 503


def failed_with(status: int | None, message: str, *, unknown_retryable: bool = True) -> Failed:
    """Return the failure that an engine tells by an HTTP status inside a stream.

    What it finds wrong with a request another replica would find, too. Without a status,
    `unknown_retryable` says whether another is worth a try.
    """
    if status is None:
        return Failed(message=message, retryable=unknown_retryable)
    if status in (_TOO_MANY, _UNAVAILABLE):
        return Failed(message=message, retryable=True, code=error_pb2.ERROR_CODE_OVERLOADED)
    if _BAD_REQUEST <= status < _SERVER_FAULT:
        code = error_pb2.ERROR_CODE_INVALID_ARGUMENT
        return Failed(message=message, retryable=False, code=code)
    return Failed(message=message, retryable=True)
