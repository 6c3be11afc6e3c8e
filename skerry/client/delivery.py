"""One request's way over the gateways, until its answer is whole or nobody can give it.

Before the first token the next gateway is tried; after it, another one is asked to go on with
what the user has seen, where the deployment allows that. `inference` wraps it for callers.
"""

import contextlib
from dataclasses import dataclass, replace

from skerry.client.gateways import (
    AttemptFailed,
    Begun,
    Cause,
    Emitted,
    End,
    Gateway,
    Head,
    Item,
    Items,
    Piece,
    Request,
)
from skerry.client.standing import Standing
from skerry.client.transport import Transport
from skerry.client.vigil import Vigil, Wait
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import (
    DeadlineExceeded,
    Denied,
    Exhausted,
    InvalidInput,
    NotFound,
    SkerryError,
    Unauthenticated,
    Unavailable,
)

# Two visits of each of the gateways: in the second round one that was restarting is back.
ROUNDS_MAX = 2
# Between two rounds, so that one that is just starting again is given time.
_ROUND_PAUSE_SECONDS = 0.3
# Whoever is asked to come back later than this is told so instead of kept waiting.
_RETRY_AFTER_SECONDS_MAX = 10.0
# A request that breaks every engine it meets must not meet all of them.
RESETS_MAX = 3
# Each repeats the prompt's prefill; a stream that breaks so often has met something else.
CONTINUATIONS_MAX = 3

_KINDS: dict[Cause, type[SkerryError]] = {
    Cause.REFUSED: InvalidInput,
    Cause.UNAUTHENTICATED: Unauthenticated,
    Cause.DENIED: Denied,
    Cause.NOT_FOUND: NotFound,
    Cause.RESIDENCY: Denied,
    Cause.EXHAUSTED: Exhausted,
    Cause.DEADLINE: DeadlineExceeded,
}
# Another round would be told the same.
_NOT_THERE = frozenset({Cause.NOT_FOUND, Cause.RESIDENCY})


class Interrupted(Unavailable):
    """Tokens had come when the answer broke, and nobody could go on with it.

    What came stays valid; hints: gateway, attempts, cause, continued.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every delivery of a client works with."""

    standing: Standing
    transport: Transport
    vigil: Vigil
    clock: Clock


class Delivery:
    """The attempts of one request; `begin` once, then `next` until None, and `aclose` always."""

    def __init__(
        self,
        means: Means,
        request: Request,
        request_id: str,
        *,
        preferred: int | None,
        deadline: float,
        first_token_seconds_max: float | None,
    ) -> None:
        """Try nothing yet; `deadline` is the monotonic clock's."""
        self.request_id = request_id
        self.gateway = ""
        self.attempts = 0
        self.continued = 0
        self.tokens = 0
        self.head = Head()
        self.end: End | None = None
        self._means = means
        self._request = request
        self._preferred = preferred
        self._deadline = deadline
        # A whole answer's first byte is all of it: only a stream's can be late.
        self._first_seconds = first_token_seconds_max if request.kind.is_stream else None
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._base = 0  # tokens before the last seam
        self._begun = Begun()
        self._pending: Piece | None = None
        self._items: Items | None = None
        self._wait: Wait | None = None
        self._open = contextlib.AsyncExitStack()

    async def begin(self) -> None:
        """Return once a first token is there, or a whole empty answer; a SkerryError if not."""
        failure = await self._try_all(None)
        if failure is not None:
            raise self._error(failure)

    async def next(self) -> Piece | None:
        """Return some more of the answer, None when it is whole; Interrupted when it broke."""
        while self._pending is None:
            if self.end is not None or self._items is None or self._wait is None:
                return None
            try:
                item = await self._wait.next(self._items)
                if item is None:
                    raise AttemptFailed(f"{self.gateway}: the answer has no end", Cause.NO_END)
            except AttemptFailed as error:
                await self._go_on(error)
                continue
            self._take(item)
        piece, self._pending = self._pending, None
        self.tokens += piece.tokens
        if self.head.continuation:
            self._texts.append(piece.text)
            self._token_ids.extend(piece.token_ids)
        return piece

    async def aclose(self) -> None:
        """Close the connection in use, which ends what is still being generated."""
        await self._open.aclose()

    def _take(self, item: Item) -> None:
        if isinstance(item, Piece):
            self._pending = item
        elif isinstance(item, Begun):
            self._begun = item
        elif isinstance(item, Head):
            self.head = item
        else:
            self.end = _whole(item, self._base)
            if item.head is not None:
                self.head = _merged(self.head, item.head)

    async def _try_all(self, emitted: Emitted | None) -> AttemptFailed | None:
        """Try every gateway twice at most; return why none answered, None when one does."""
        failure = AttemptFailed("no gateway was tried")
        resets = 0
        for number in range(ROUNDS_MAX):
            if number and not await self._pause(failure):
                return failure
            told = None
            for gateway in self._order(emitted):
                error = await self._try(gateway, emitted)
                if error is None or not error.elsewhere:
                    return error
                resets += error.cause in (Cause.RESET, Cause.NO_END, Cause.ENGINE)
                if resets >= RESETS_MAX:
                    return error
                # That one plane lacks the model says less than that another is in trouble.
                if told is None or error.cause not in _NOT_THERE or told.cause is Cause.NOT_FOUND:
                    told = error
            failure = told or failure
            if failure.cause in _NOT_THERE:
                return failure
        return failure

    def _order(self, emitted: Emitted | None) -> tuple[Gateway, ...]:
        order = self._means.standing.order(self._preferred, self._request.model)
        if emitted is None:
            return order
        # Where it broke is the last place to go on; with one gateway it is the only one.
        return tuple(sorted(order, key=lambda gateway: gateway.name == self.gateway))

    async def _try(self, gateway: Gateway, emitted: Emitted | None) -> AttemptFailed | None:
        means = self._means
        await self._open.aclose()
        self.attempts += 1
        if emitted is None:
            self._begun = Begun()
        self.gateway = gateway.name
        # The same id would make an engine that still holds the lost attempt refuse this one.
        number = f"-{self.attempts}" if self.attempts > 1 else ""
        items = means.transport.attempt(
            gateway, self._request, f"{self.request_id}{number}", emitted
        )
        self._open.push_async_callback(items.aclose)
        wait = await self._open.enter_async_context(means.vigil.waiting(gateway, self._deadline))
        try:
            await self._first(wait, items)
        except AttemptFailed as error:
            means.standing.failed(gateway, error, self._request.model)
            await self._open.aclose()
            return error
        means.standing.answered(gateway, self._request.model)
        self._items, self._wait = items, wait
        return None

    async def _first(self, wait: Wait, items: Items) -> None:
        while self._pending is None and self.end is None:
            item = await wait.next(items, self._first_seconds)
            if item is None:
                raise AttemptFailed(f"{self.gateway}: the answer has no end", Cause.NO_END)
            self._take(item)

    async def _pause(self, failure: AttemptFailed) -> bool:
        """Wait before another round; say whether there may be one."""
        wait = max(_ROUND_PAUSE_SECONDS, failure.retry_after_seconds or 0.0)
        left = self._deadline - self._means.clock.monotonic()
        if wait > min(left, _RETRY_AFTER_SECONDS_MAX) or not self._means.standing.take_round():
            return False
        await self._means.clock.sleep(wait)
        return True

    async def _go_on(self, error: AttemptFailed) -> None:
        """Have another gateway go on with what broke; Interrupted when that is not possible."""
        dialect = self.head.continuation
        is_over = self.continued >= CONTINUATIONS_MAX or not error.elsewhere
        if not dialect or is_over:
            raise self._interrupted(error)
        broken = self.gateway
        emitted = Emitted(
            dialect=dialect,
            text="".join(self._texts),
            tokens=self.tokens,
            token_ids=tuple(self._token_ids),
            has_reasoning=self._begun.has_reasoning,
            has_tool_calls=self._begun.has_tool_calls,
        )
        self.continued += 1
        self._base = self.tokens
        failure = await self._try_all(emitted)
        if failure is not None:
            text = f"{error.message}; going on elsewhere than {broken}: {failure.message}"
            raise self._interrupted(AttemptFailed(text, Cause.CONTINUATION))

    def _interrupted(self, error: AttemptFailed) -> Interrupted:
        return Interrupted(error.message, hints=self._hints(error))

    def _error(self, failure: AttemptFailed) -> SkerryError:
        kind = _KINDS.get(failure.cause, Unavailable)
        text = failure.message
        if failure.elsewhere:
            names = ", ".join(gateway.name for gateway in self._means.standing.gateways)
            text = f"no gateway gave an answer ({names}): {text}"
        return kind(
            text, retry_after_seconds=failure.retry_after_seconds, hints=self._hints(failure)
        )

    def _hints(self, error: AttemptFailed) -> dict[str, str]:
        return {
            "gateway": self.gateway,
            "attempts": str(self.attempts),
            "cause": error.cause.value,
            "continued": str(self.continued),
            "request_id": self.request_id,
        }


def _whole(end: End, told: int) -> End:
    """Return the counts of the whole answer: to who goes on, what was told is prompt."""
    if not told:
        return end
    prompt, output = end.prompt_tokens, end.output_tokens
    return replace(
        end,
        prompt_tokens=None if prompt is None else max(0, prompt - told),
        output_tokens=None if output is None else output + told,
    )


def _merged(head: Head, trailers: Head) -> Head:
    """Return the head with what only the trailers say."""
    is_late = head.queue_seconds is None
    return replace(
        head,
        plane=head.plane or trailers.plane,
        replica=head.replica or trailers.replica,
        queue_seconds=trailers.queue_seconds if is_late else head.queue_seconds,
    )
