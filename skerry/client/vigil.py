"""Tells a slow answer from a dead gateway: whoever waits in silence has the gateway asked.

A long prefill is no hang, and no time limit tells the two apart; a gateway that does not answer a
probe on a connection of its own does. One `Vigil` per client; `keep` runs beside its requests.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from skerry.client.gateways import AttemptFailed, Cause, Gateway, Item, Items
from skerry.plumbing.clock import Clock

# A token comes each 20 to 100 ms; a queue or a prefill is the rule behind a longer silence.
SILENCE_SECONDS = 2.0
# Twice in a row: one lost packet or a full accept queue is not the end of a gateway.
PROBES_LOST_MAX = 2
_ROUND_SECONDS = 1.0


@dataclass(eq=False)
class Wait:
    """One attempt's reading: when it last heard something, and what ends it."""

    gateway: Gateway
    clock: Clock
    deadline: float
    heard_at: float
    _guard: asyncio.Timeout | None = None
    _verdict: AttemptFailed | None = None

    async def next(self, items: Items, seconds_max: float | None = None) -> Item | None:
        """Return the next item, None at the end; AttemptFailed when the wait was ended.

        `seconds_max` bounds this one item, the deadline all of them.
        """
        left = self.deadline - self.clock.monotonic()
        is_bounded = seconds_max is not None and seconds_max < left
        try:
            async with asyncio.timeout(seconds_max if is_bounded else max(left, 0.0)) as guard:
                self._guard = guard
                item = await anext(items, None)
        except TimeoutError:
            if self._verdict is not None:
                raise self._verdict from None
            if is_bounded:
                text = f"{self.gateway.name}: no token within {seconds_max:g} s"
                raise AttemptFailed(text, Cause.FIRST_TOKEN) from None
            text = f"{self.gateway.name}: not done within the request's time"
            raise AttemptFailed(text, Cause.DEADLINE, elsewhere=False) from None
        finally:
            self._guard = None
        self.heard_at = self.clock.monotonic()
        return item

    def is_silent(self, now: float) -> bool:
        """Say whether somebody has been waiting for long."""
        return self._guard is not None and now - self.heard_at >= SILENCE_SECONDS

    def end(self) -> None:
        """Give the wait up: its gateway does not live."""
        if self._guard is not None and not self._guard.expired():
            text = f"{self.gateway.name}: the gateway does not answer any more"
            self._verdict = AttemptFailed(text, Cause.HUNG)
            self._guard.reschedule(0.0)


@dataclass(eq=False)
class Vigil:
    """The waits of one client; `probe` returns seconds, or raises AttemptFailed."""

    clock: Clock
    probe: Callable[[Gateway], Awaitable[float]]
    _waits: set[Wait] = field(default_factory=set)
    _lost: dict[str, int] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def waiting(self, gateway: Gateway, deadline: float) -> AsyncIterator[Wait]:
        """Yield the wait of one attempt and watch over it until the block ends."""
        now = self.clock.monotonic()
        wait = Wait(gateway=gateway, clock=self.clock, deadline=deadline, heard_at=now)
        self._waits.add(wait)
        try:
            yield wait
        finally:
            self._waits.discard(wait)

    async def keep(self) -> None:
        """Look at the waits each second, for ever."""
        while True:
            await self.clock.sleep(_ROUND_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Probe the gateways that somebody waits for in silence; end the waits of the dead."""
        now = self.clock.monotonic()
        silent = {wait.gateway.name: wait.gateway for wait in self._waits if wait.is_silent(now)}
        self._lost = {name: lost for name, lost in self._lost.items() if name in silent}
        async with asyncio.TaskGroup() as group:
            for gateway in silent.values():
                group.create_task(self._ask(gateway))

    async def _ask(self, gateway: Gateway) -> None:
        try:
            await self.probe(gateway)
        except AttemptFailed:
            self._lost[gateway.name] = self._lost.get(gateway.name, 0) + 1
        else:
            self._lost.pop(gateway.name, None)
            return
        if self._lost[gateway.name] < PROBES_LOST_MAX:
            return
        now = self.clock.monotonic()
        for wait in self._waits:
            if wait.gateway.name == gateway.name and wait.is_silent(now):
                wait.end()
