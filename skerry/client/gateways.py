"""Which gateway a request tries next, and what became of a request: values and pure choices.

`skerry.client.inference` acts on them; the load ledger records them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

# A gateway that failed is passed over this long: a supervisor has it back in about a second, and
# one request in a while has to find out that it is.
COOL_DOWN_SECONDS = 2.0
# Two visits of each of the gateways: in the second round one that was restarting is back.
ROUNDS_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A plane's gateway as users reach it; addresses as `host:port`."""

    name: str
    http: str
    grpc: str


class RequestKind(StrEnum):
    """How a request is made."""

    CHAT_STREAM = "chat-stream"  # OpenAI chat completions, streamed
    CHAT = "chat"  # OpenAI chat completions, in one piece
    GENERATE = "generate"  # openengine.v1 Generate


class Result(StrEnum):
    """How a request ended."""

    OK = "ok"
    FAILED = "failed"  # no token came, from no gateway
    INTERRUPTED = "interrupted"  # tokens had come when it broke; never sent again


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a base model by its served name."""

    kind: RequestKind
    model: str
    prompt: str
    max_tokens: int = 64
    temperature: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """What became of a request; `gateway` is the last one tried, times count from its start."""

    result: Result
    gateway: str
    attempts: int
    ttft_seconds: float | None = None
    tokens: int = 0
    error: str = ""


class AttemptFailed(Exception):
    """One attempt at one gateway came to nothing, or broke after it had begun."""

    def __init__(self, message: str, *, elsewhere: bool = True, cool_down: bool = True) -> None:
        """Say whether another gateway may do better, and whether to pass this one over."""
        super().__init__(message)
        self.message = message
        self.elsewhere = elsewhere
        self.cool_down = cool_down


def order_gateways(
    gateways: Sequence[Gateway], preferred: int, cooling_until: Mapping[str, float], now: float
) -> tuple[Gateway, ...]:
    """Return the order of attempts: from the preferred one round, those that failed lately last.

    A cooling gateway is still tried when every other has failed: it may be all there is.
    """
    start = preferred % len(gateways)
    ring = (*gateways[start:], *gateways[:start])
    fit = [g for g in ring if cooling_until.get(g.name, now) <= now]
    cooling = [g for g in ring if cooling_until.get(g.name, now) > now]
    return (*fit, *cooling)
