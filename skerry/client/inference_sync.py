"""The client of the serving API for programs without an event loop: the same, blocking.

An event loop of its own runs in one thread; any number of threads may share the client. What is
asked, tried and continued is decided in `skerry.client.inference`.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from skerry.client.gateways import End, Gateway, Head, Piece, Request, RequestOutcome
from skerry.client.inference import REQUEST_SECONDS_MAX, Answer, InferenceClient, connect
from skerry.plumbing.clock import Clock
from skerry.plumbing.ids import IdSource

_Result = TypeVar("_Result")


class BlockingAnswer:
    """An answer whose first token has come; iterate over its text."""

    def __init__(self, answer: Answer, loop: "_LoopThread") -> None:
        """Read from the answer in its loop's thread."""
        self._answer = answer
        self._loop = loop

    @property
    def gateway(self) -> str:
        """Return the gateway that answers now."""
        return self._answer.gateway

    @property
    def attempts(self) -> int:
        """Return how many attempts there were."""
        return self._answer.attempts

    @property
    def continued(self) -> int:
        """Return how often another gateway went on with the answer."""
        return self._answer.continued

    @property
    def tokens(self) -> int:
        """Return how many tokens were read."""
        return self._answer.tokens

    @property
    def request_id(self) -> str:
        """Return the id under which gateways and engines log the request."""
        return self._answer.request_id

    @property
    def head(self) -> Head:
        """Return who answers, as the gateway says."""
        return self._answer.head

    @property
    def end(self) -> End | None:
        """Return how the answer ended, None before it has."""
        return self._answer.end

    def pieces(self) -> Iterator[Piece]:
        """Yield pieces as they come; `delivery.Interrupted` when it breaks."""
        pieces = self._answer.pieces()
        while (piece := self._loop.run(_next(pieces))) is not None:
            yield piece

    def __iter__(self) -> Iterator[str]:
        """Yield text as it comes."""
        for piece in self.pieces():
            yield piece.text


class BlockingInferenceClient:
    """Sends requests to several gateways; `connect_sync` makes one."""

    def __init__(self, client: InferenceClient, loop: "_LoopThread") -> None:
        """Ask through a client that lives in the loop's thread."""
        self._client = client
        self._loop = loop

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """Return the gateways that the client knows."""
        return self._client.gateways

    @contextlib.contextmanager
    def ask(
        self,
        request: Request,
        preferred: int | None = None,
        *,
        deadline_seconds: float = REQUEST_SECONDS_MAX,
        first_token_seconds_max: float | None = None,
    ) -> Iterator[BlockingAnswer]:
        """Yield the answer once its first token is there; leaving the block cancels the rest.

        Raises what `InferenceClient.ask` raises.
        """
        asked = self._client.ask(
            request,
            preferred,
            deadline_seconds=deadline_seconds,
            first_token_seconds_max=first_token_seconds_max,
        )
        answer = self._loop.run(asked.__aenter__())
        try:
            yield BlockingAnswer(answer, self._loop)
        finally:
            self._loop.run(asked.__aexit__(None, None, None))

    def send(
        self,
        request: Request,
        preferred: int | None = None,
        *,
        deadline_seconds: float = REQUEST_SECONDS_MAX,
    ) -> RequestOutcome:
        """Send a request, read its answer to the end, and return what became of it."""
        return self._loop.run(
            self._client.send(request, preferred, deadline_seconds=deadline_seconds)
        )


@contextlib.contextmanager
def connect_sync(
    gateways: Sequence[Gateway], clock: Clock, ids: IdSource, *, api_key: str = ""
) -> Iterator[BlockingInferenceClient]:
    """Give a blocking client of the gateways for the block; its thread ends with it."""
    loop = _LoopThread()
    connected = connect(gateways, clock, ids, api_key=api_key)
    try:
        client = loop.run(connected.__aenter__())
        try:
            yield BlockingInferenceClient(client, loop)
        finally:
            loop.run(connected.__aexit__(None, None, None))
    finally:
        loop.close()


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="skerry-inference", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run the coroutine in the loop and wait for it; an interrupt of the caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop and join its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(pieces: AsyncIterator[Piece]) -> Piece | None:
    return await anext(pieces, None)
