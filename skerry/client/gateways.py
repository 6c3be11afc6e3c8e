"""What a request to a gateway is, and what became of it: values, no behaviour.

`skerry.client.inference` acts on them; the load ledger records them.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from skerry.plumbing.errors import InvalidInput

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A plane's gateway as users reach it; addresses as `host:port`."""

    name: str
    http: str
    grpc: str


def parse_gateway(text: str) -> Gateway:
    """Return the gateway of HOST:PORT or NAME=HOST:PORT; raises InvalidInput."""
    name, _, address = text.rpartition("=")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise InvalidInput(f"gateway {text!r} must be HOST:PORT or NAME=HOST:PORT")
    return Gateway(name=name or address, http=address, grpc=address)


class RequestKind(StrEnum):
    """How a request is made."""

    CHAT_STREAM = "chat-stream"  # OpenAI chat completions, streamed
    CHAT = "chat"  # OpenAI chat completions, in one piece
    COMPLETION_STREAM = "completion-stream"  # OpenAI completions, streamed
    COMPLETION = "completion"  # OpenAI completions, in one piece
    GENERATE = "generate"  # openengine.v1 Generate

    @property
    def is_chat(self) -> bool:
        """Say whether the request is made of messages."""
        return self in (RequestKind.CHAT_STREAM, RequestKind.CHAT)

    @property
    def is_stream(self) -> bool:
        """Say whether tokens come as they are made."""
        return self not in (RequestKind.CHAT, RequestKind.COMPLETION)


class Result(StrEnum):
    """How a request ended."""

    OK = "ok"
    FAILED = "failed"  # no token came, from no gateway
    INTERRUPTED = "interrupted"  # tokens had come when it broke, and nobody went on with it
    SHED = "shed"  # the load generator did not send it: too many were in flight


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a base model by its served name.

    `messages` are for chat, else the prompt is the only one. `fields` go into an OpenAI body as
    they are, `headers` with every attempt; both are for what has no field of its own here.
    """

    kind: RequestKind
    model: str
    prompt: str = ""
    messages: tuple[Message, ...] = ()
    max_tokens: int = 64
    temperature: float = 0.7
    ignore_eos: bool = False
    fields: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what only some kinds of request can carry."""
        if self.messages and not self.kind.is_chat:
            raise ValueError(f"a {self.kind} request has a prompt, no messages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Who answers, as the gateway says; empty where it does not.

    `continuation` is the dialect in which a broken stream may be gone on with elsewhere.
    """

    plane: str = ""
    replica: str = ""
    queue_seconds: float | None = None
    request_id: str = ""
    continuation: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more of the answer; `token_ids` only where the API tells them."""

    text: str
    tokens: int = 1
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Parts of an answer that nobody is given here, yet stand against going on elsewhere."""

    has_reasoning: bool = False
    has_tool_calls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The answer is whole; counts are the engine's, None where it did not tell."""

    finish_reason: str = ""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    head: Head | None = None  # what only the trailers say


# What an attempt yields: a head as soon as the gateway answers, pieces, and an end.
Item = Head | Piece | Begun | End
Items = AsyncGenerator[Item, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """What a user has seen of an answer that broke, and the dialect to go on in."""

    dialect: str
    text: str = ""
    tokens: int = 0
    token_ids: tuple[int, ...] = ()
    has_reasoning: bool = False
    has_tool_calls: bool = False


class Cause(StrEnum):
    """Why an attempt came to nothing; short, for ledgers and metrics."""

    CONNECT = "connect"  # nobody at the address
    RESET = "reset"  # the connection broke before the answer was whole
    HUNG = "hung"  # the gateway itself does not answer any more
    FIRST_TOKEN = "first_token"  # none within the time the caller allows
    DEADLINE = "deadline"  # the request's whole time is over
    NO_END = "no_end"  # the stream ended without saying so
    REFUSED = "refused"  # the request itself is wrong
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    NOT_FOUND = "not_found"  # the model is not served there
    RESIDENCY = "residency"  # the model's requests may not enter that plane
    EXHAUSTED = "exhausted"  # 429: a queue or a limit is full
    UNAVAILABLE = "unavailable"  # 502, 503, 504 and their like
    ENGINE = "engine"  # the engine told an error
    PROTOCOL = "protocol"  # bytes that are no answer
    CONTINUATION = "continuation"  # nobody could go on with the broken stream
    SHED = "shed"  # never sent


class AttemptFailed(Exception):
    """One attempt at one gateway came to nothing, or broke after it had begun."""

    def __init__(
        self,
        message: str,
        cause: Cause = Cause.UNAVAILABLE,
        *,
        elsewhere: bool = True,
        cool_down: bool = True,
        retry_after_seconds: float | None = None,
    ) -> None:
        """Say whether another gateway may do better, and whether to pass this one over."""
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.elsewhere = elsewhere
        self.cool_down = cool_down
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """What became of a request; `gateway` is the last one tried, times count from its start.

    `itl_seconds` are the pauses between pieces; `cause` is empty when all went well.
    """

    result: Result
    gateway: str
    attempts: int
    ttft_seconds: float | None = None
    tokens: int = 0
    error: str = ""
    cause: Cause | None = None
    request_id: str = ""
    head: Head = Head()
    end: End = End()
    continued: int = 0
    itl_seconds: tuple[float, ...] = ()
