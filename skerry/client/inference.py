"""Requests to a fleet through any of its gateways: the asyncio client of the serving API.

A request goes to the next gateway as long as no token has come, and never after: tokens that a
user has seen are not taken back, and a stream that breaks is told as interrupted. Knows nothing
of the control plane.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from skerry.client.gateways import (
    COOL_DOWN_SECONDS,
    ROUNDS_MAX,
    AttemptFailed,
    Gateway,
    Request,
    RequestOutcome,
    Result,
    order_gateways,
)
from skerry.client.transport import NetworkTransport, Pieces, Transport
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput, Unavailable
from skerry.plumbing.ids import IdSource

# Past this without a token the gateway counts as hung; a long prompt on a busy plane takes less.
FIRST_TOKEN_SECONDS_MAX = 10.0
# Of one request with all its attempts: nobody reads on after this.
REQUEST_SECONDS_MAX = 120.0
# Between two rounds over the gateways, so that one that is just starting again is given time.
_ROUND_PAUSE_SECONDS = 0.3


@contextlib.asynccontextmanager
async def connect(
    gateways: Sequence[Gateway], clock: Clock, ids: IdSource
) -> AsyncIterator["InferenceClient"]:
    """Give a client of the gateways for the block; its connections end with it."""
    async with NetworkTransport(ids) as transport:
        yield InferenceClient(gateways, transport, clock)


class Answer:
    """An answer whose first token has come, or that is whole and empty; iterate over its text."""

    def __init__(
        self, gateway: str, attempts: int, first: tuple[str, int] | None, rest: Pieces
    ) -> None:
        """Keep who answered at which attempt, and the pieces."""
        self.gateway = gateway
        self.attempts = attempts
        self.tokens = 0
        self._first = first
        self._rest = rest

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield text as it comes; AttemptFailed when it breaks."""
        if self._first is None:
            return
        text, tokens = self._first
        self.tokens += tokens
        yield text
        async for text, tokens in self._rest:
            self.tokens += tokens
            yield text


class InferenceClient:
    """Sends requests to several gateways; `connect` makes one."""

    def __init__(self, gateways: Sequence[Gateway], transport: Transport, clock: Clock) -> None:
        """Know the gateways; nothing is sent before it is asked for."""
        if not gateways:
            raise InvalidInput("no gateway is known; name one with --gateway HOST:PORT")
        self._gateways = tuple(gateways)
        self._transport = transport
        self._clock = clock
        self._cooling_until: dict[str, float] = {}

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """Return the gateways that the client knows."""
        return self._gateways

    @contextlib.asynccontextmanager
    async def ask(self, request: Request, preferred: int = 0) -> AsyncIterator[Answer]:
        """Yield the answer once its first token is there; Unavailable when no gateway gives one.

        `preferred` is the index of the gateway to begin with. InvalidInput when the request
        itself is refused.
        """
        attempts = 0
        failure = AttemptFailed("no gateway was tried")
        for round_number in range(ROUNDS_MAX):
            if round_number:
                await self._clock.sleep(_ROUND_PAUSE_SECONDS)
            now = self._clock.monotonic()
            for gateway in order_gateways(self._gateways, preferred, self._cooling_until, now):
                attempts += 1
                async with contextlib.aclosing(self._transport.attempt(gateway, request)) as pieces:
                    try:
                        first = await self._first_piece(pieces)
                    except AttemptFailed as error:
                        failure = error
                        self._note(gateway, error)
                    else:
                        self._cooling_until.pop(gateway.name, None)
                        yield Answer(gateway.name, attempts, first, pieces)
                        return
                if not failure.elsewhere:
                    raise InvalidInput(
                        failure.message, hints={"attempts": str(attempts), "gateway": gateway.name}
                    )
        names = ", ".join(gateway.name for gateway in self._gateways)
        raise Unavailable(
            f"no gateway gave an answer ({names}): {failure.message}",
            hints={"attempts": str(attempts), "gateway": self._gateways[-1].name},
        )

    async def send(
        self, request: Request, preferred: int = 0, begun: asyncio.Event | None = None
    ) -> RequestOutcome:
        """Send a request, read its answer to the end, and return what became of it.

        `begun` is set when the first token is there.
        """
        started = self._clock.monotonic()
        answer: Answer | None = None
        ttft: float | None = None
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                async with self.ask(request, preferred) as answer:
                    ttft = self._clock.monotonic() - started
                    if begun is not None:
                        begun.set()
                    async for _ in answer:
                        pass
        except (Unavailable, InvalidInput) as error:
            return RequestOutcome(
                result=Result.FAILED,
                gateway=error.hints.get("gateway", ""),
                attempts=int(error.hints.get("attempts", "0")),
                error=error.message,
            )
        except (AttemptFailed, TimeoutError) as error:
            return RequestOutcome(
                result=Result.FAILED if answer is None else Result.INTERRUPTED,
                gateway=answer.gateway if answer else "",
                attempts=answer.attempts if answer else 0,
                ttft_seconds=ttft,
                tokens=answer.tokens if answer else 0,
                error=str(error) or f"not done after {REQUEST_SECONDS_MAX:.0f} s",
            )
        return RequestOutcome(
            result=Result.OK,
            gateway=answer.gateway,
            attempts=answer.attempts,
            ttft_seconds=ttft,
            tokens=answer.tokens,
        )

    async def _first_piece(self, pieces: Pieces) -> tuple[str, int] | None:
        try:
            async with asyncio.timeout(FIRST_TOKEN_SECONDS_MAX):
                return await anext(pieces, None)
        except TimeoutError:
            raise AttemptFailed(f"no token within {FIRST_TOKEN_SECONDS_MAX:.0f} s") from None

    def _note(self, gateway: Gateway, error: AttemptFailed) -> None:
        if error.cool_down and error.elsewhere:
            self._cooling_until[gateway.name] = self._clock.monotonic() + COOL_DOWN_SECONDS
