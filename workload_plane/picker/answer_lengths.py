"""What a request's answer costs: told by the engine, counted, or estimated by its bytes. PURE.

`usage` is what the gateway's filter read of an answer that came to its end: the engine's own
counts where the answer has them, and how many events a stream had, which is one for each token and
one or two more. Of an answer that was cut there are only its bytes, and how many of them a token
had in others of the deployment.
"""

from typing import NamedTuple

# Before anything is known of a deployment: a short answer, an OpenAI event with one token in it, a
# message of Generate's, and text of an answer that comes whole.
ANSWER_TOKENS = 256.0
_STREAM_BYTES, _MESSAGE_BYTES, _TEXT_BYTES = 220.0, 40.0, 4.0
# A whole answer's fields beside its text.
_ENVELOPE_BYTES = 300.0
# Each answer moves what is known by so much of the difference.
_WEIGHT = 0.05
# What one key asks for beside its tokens must not make everybody's cut streams cheap.
_FACTOR_MAX = 4.0
# Events that are no token: the first says who speaks or the last why it ended, then `[DONE]`.
_STREAM_OTHER, _MESSAGE_OTHER = 2, 1


class Usage(NamedTuple):
    """What the gateway read of an answer; None where it has no count of it."""

    prompt: int | None
    answer: int | None
    events: int


class Sent(NamedTuple):
    """How an answer went out."""

    bytes_sent: int
    is_grpc: bool
    is_streamed: bool


class AnswerLengths:
    """What answers of one deployment cost lately."""

    __slots__ = ("_message_bytes", "_stream_bytes", "tokens")

    def __init__(self) -> None:
        """Begin with what is common."""
        self.tokens = ANSWER_TOKENS
        self._stream_bytes, self._message_bytes = _STREAM_BYTES, _MESSAGE_BYTES

    def tokens_of(self, usage: Usage | None, sent: Sent) -> float:
        """Return how many tokens an answer is taken to have had."""
        if usage is not None and usage.answer is not None:
            return float(usage.answer)
        if usage is not None and usage.prompt is not None:
            return 0.0  # embeddings: the engine says what it read, and wrote nothing
        if usage is not None and usage.events:
            other = _MESSAGE_OTHER if sent.is_grpc else _STREAM_OTHER
            return float(max(0, usage.events - other))
        if sent.is_grpc:
            return sent.bytes_sent / self._message_bytes
        if sent.is_streamed:
            return sent.bytes_sent / self._stream_bytes
        return max(0.0, sent.bytes_sent - _ENVELOPE_BYTES) / _TEXT_BYTES

    def learn(self, tokens: float, usage: Usage | None, sent: Sent) -> None:
        """Take in an answer that came to its end."""
        self.tokens += _WEIGHT * (tokens - self.tokens)
        if tokens < 1 or usage is None or not usage.events:
            return
        bytes_each = sent.bytes_sent / tokens
        if sent.is_grpc:
            bytes_each = _near(bytes_each, _MESSAGE_BYTES)
            self._message_bytes += _WEIGHT * (bytes_each - self._message_bytes)
        else:
            bytes_each = _near(bytes_each, _STREAM_BYTES)
            self._stream_bytes += _WEIGHT * (bytes_each - self._stream_bytes)


def _near(bytes_each: float, common: float) -> float:
    return min(max(bytes_each, common / _FACTOR_MAX), common * _FACTOR_MAX)
