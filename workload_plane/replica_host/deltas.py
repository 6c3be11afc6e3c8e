"""What an engine said, whatever its dialect: deltas of text and tokens, endings, counts.

Read by the dialects from the engine's stream, turned into `openengine.v1` by `translate`.
"""

from dataclasses import dataclass

from skerry.api.openengine.v1 import generation_pb2

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
    """The engine gave up an accepted request."""

    message: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Nothing more will come."""


EngineSaid = Delta | Ended | Counted | Failed | Done
