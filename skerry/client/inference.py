"""Requests to a fleet through any of its gateways: the asyncio client of the serving API.

The nearest gateway that lives answers. Before the first token a request goes to the next one;
after it, tokens that a user has seen are never taken back: another gateway goes on with them
where the deployment allows it, else the break is told. Knows nothing of the control plane.
`inference_sync` is the same for programs without an event loop.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence

from skerry.client.delivery import Delivery, Means
from skerry.client.gateways import (
    Cause,
    End,
    Gateway,
    Head,
    Piece,
    Request,
    RequestOutcome,
    Result,
)
from skerry.client.standing import Standing
from skerry.client.transport import NetworkTransport, Transport
from skerry.client.vigil import Vigil
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import IdSource
from skerry.plumbing.tasks import beside

# Of one request with all its attempts: 2,000 tokens of 80 ms and a queue before them.
REQUEST_SECONDS_MAX = 600.0
# How long the first measurement may hold up a client that has just been made.
_MEASURE_SECONDS_MAX = 0.5


@contextlib.asynccontextmanager
async def connect(
    gateways: Sequence[Gateway], clock: Clock, ids: IdSource, *, api_key: str = ""
) -> AsyncIterator["InferenceClient"]:
    """Give a client of the gateways for the block; its connections end with it."""
    async with NetworkTransport(clock, api_key) as transport:
        client = InferenceClient(gateways, transport, clock, ids)
        async with beside(client.keep_watch(), client.keep_measuring()):
            await client.measured()
            yield client


class Answer:
    """An answer whose first token has come, or that is whole and empty; iterate over its text.

    Iterating raises `delivery.Interrupted` when it breaks and nobody can go on with it.
    """

    def __init__(self, delivery: Delivery) -> None:
        """Read from a delivery that has begun."""
        self._delivery = delivery

    @property
    def gateway(self) -> str:
        """Return the gateway that answers now."""
        return self._delivery.gateway

    @property
    def attempts(self) -> int:
        """Return how many attempts there were, those that went on with it too."""
        return self._delivery.attempts

    @property
    def continued(self) -> int:
        """Return how often another gateway went on with the answer."""
        return self._delivery.continued

    @property
    def tokens(self) -> int:
        """Return how many tokens were read."""
        return self._delivery.tokens

    @property
    def request_id(self) -> str:
        """Return the id under which gateways and engines log the request."""
        return self._delivery.request_id

    @property
    def head(self) -> Head:
        """Return who answers, as the gateway says."""
        return self._delivery.head

    @property
    def end(self) -> End | None:
        """Return how the answer ended, None before it has."""
        return self._delivery.end

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield pieces as they come."""
        while (piece := await self._delivery.next()) is not None:
            yield piece

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield text as it comes."""
        while (piece := await self._delivery.next()) is not None:
            yield piece.text


class InferenceClient:
    """Sends requests to several gateways; `connect` makes one."""

    def __init__(
        self, gateways: Sequence[Gateway], transport: Transport, clock: Clock, ids: IdSource
    ) -> None:
        """Know the gateways; nothing is sent before it is asked for."""
        self._standing = Standing(gateways, transport, clock)
        vigil = Vigil(clock, transport.probe)
        self._means = Means(standing=self._standing, transport=transport, vigil=vigil, clock=clock)
        self._clock = clock
        self._ids = ids

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """Return the gateways that the client knows."""
        return self._standing.gateways

    @property
    def nearest(self) -> Gateway:
        """Return the gateway that the next request begins at."""
        return self._standing.order(None)[0]

    async def keep_watch(self) -> None:
        """Find the gateways that died while requests wait for them; for ever."""
        await self._means.vigil.keep()

    async def keep_measuring(self) -> None:
        """Measure how far the gateways are; for ever, or not at all with one of them."""
        await self._standing.keep_measuring()

    async def measured(self) -> None:
        """Return once `keep_measuring` has measured all, or after half a second."""
        if len(self.gateways) == 1:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MEASURE_SECONDS_MAX):
                await self._standing.measured.wait()

    @contextlib.asynccontextmanager
    async def ask(
        self,
        request: Request,
        preferred: int | None = None,
        *,
        deadline_seconds: float = REQUEST_SECONDS_MAX,
        first_token_seconds_max: float | None = None,
        request_id: str = "",
    ) -> AsyncIterator[Answer]:
        """Yield the answer once its first token is there; leaving the block cancels the rest.

        Begins at the nearest gateway, or at the one with index `preferred`. A SkerryError when
        none answers: InvalidInput, Unauthenticated, Denied and NotFound are the request's own,
        Exhausted says when to come back, Unavailable and DeadlineExceeded are the fleet's state.
        """
        delivery = Delivery(
            self._means,
            request,
            request_id or self._ids.new_id(),
            preferred=preferred,
            deadline=self._clock.monotonic() + deadline_seconds,
            first_token_seconds_max=first_token_seconds_max,
        )
        try:
            await delivery.begin()
            yield Answer(delivery)
        finally:
            await delivery.aclose()

    async def send(
        self,
        request: Request,
        preferred: int | None = None,
        begun: asyncio.Event | None = None,
        *,
        deadline_seconds: float = REQUEST_SECONDS_MAX,
    ) -> RequestOutcome:
        """Send a request, read its answer to the end, and return what became of it.

        `begun` is set when the first token is there.
        """
        request_id = self._ids.new_id()
        reading = _Reading(self._clock)
        asked = self.ask(
            request, preferred, deadline_seconds=deadline_seconds, request_id=request_id
        )
        try:
            async with asked as answer:
                reading.begin(answer)
                if begun is not None:
                    begun.set()
                async for _ in answer.pieces():
                    reading.note()
        except SkerryError as error:
            return reading.failed(error, request_id)
        return reading.ended(Result.OK, answer)


class _Reading:
    """The times at which the pieces of one answer came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self._answer: Answer | None = None
        self._moments: list[float] = []
        self._ttft: float | None = None

    def begin(self, answer: Answer) -> None:
        self._answer = answer
        self._ttft = self._clock.monotonic() - self._started

    def note(self) -> None:
        self._moments.append(self._clock.monotonic())

    def failed(self, error: SkerryError, request_id: str) -> RequestOutcome:
        cause = Cause(error.hints.get("cause", Cause.UNAVAILABLE))
        if self._answer is not None:
            return self.ended(Result.INTERRUPTED, self._answer, cause, error.message)
        return RequestOutcome(
            result=Result.FAILED,
            gateway=error.hints.get("gateway", ""),
            attempts=int(error.hints.get("attempts", "0")),
            error=error.message,
            cause=cause,
            request_id=request_id,
        )

    def ended(
        self, result: Result, answer: Answer, cause: Cause | None = None, error: str = ""
    ) -> RequestOutcome:
        moments = self._moments
        return RequestOutcome(
            result=result,
            gateway=answer.gateway,
            attempts=answer.attempts,
            ttft_seconds=self._ttft,
            tokens=answer.tokens,
            error=error,
            cause=cause,
            request_id=answer.request_id,
            head=answer.head,
            end=answer.end or End(),
            continued=answer.continued,
            itl_seconds=tuple(b - a for a, b in itertools.pairwise(moments)),
        )
