"""What a signed-in operator asked last, and the answers: they stand in while none is to be had.

A page that could not be read anew says so with its age; a page never read says why it is not there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Unavailable

Answer = TypeVar("Answer")

# Pages of a table, a plane, a deployment: an operator goes back to a few of them.
ANSWERS_MAX = 48
# With an answer at hand nobody waits longer for a newer one.
STAND_IN_SECONDS = 4.0
# A sum over the fleet is made anew when it has been shown for so many times what it took, so that
# an open page takes 5 % of the control plane's time at most.
REST_FACTOR = 20.0


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Any
    at: float
    took: float


class Reader:
    """The answers of one session, by what was asked; the one not asked for longest goes first."""

    def __init__(self, clock: Clock) -> None:
        """Begin with none."""
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def begin(self) -> "Reading":
        """Return what one page asks through."""
        return Reading(self, self._clock)

    def find(self, key: str) -> _Kept | None:
        """Return what was answered to that last."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: str, kept: _Kept) -> None:
        """Remember an answer."""
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > ANSWERS_MAX:
            self._kept.popitem(last=False)


class Reading:
    """What one page asks; afterwards `age_seconds` and `reason` say how old its oldest part is."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        """Ask through this reader."""
        self._reader = reader
        self._clock = clock
        self.age_seconds = 0.0
        self.reason = ""

    async def ask(
        self, key: str, question: Callable[[], Awaitable[Answer]], *, rests: bool = False
    ) -> Answer:
        """Return the answer, or with Unavailable the last one to the same key.

        What `rests` is not asked anew before it has been shown for a while.
        """
        kept = self._reader.find(key)
        began = self._clock.monotonic()
        if rests and kept is not None and began - kept.at < kept.took * REST_FACTOR:
            return cast(Answer, kept.answer)
        try:
            async with asyncio.timeout(None if kept is None else STAND_IN_SECONDS):
                answer = await question()
        except (Unavailable, TimeoutError) as error:
            if kept is None:
                raise
            self.age_seconds = max(self.age_seconds, began - kept.at)
            self.reason = str(error) or "no answer came in time"
            return cast(Answer, kept.answer)
        now = self._clock.monotonic()
        self._reader.keep(key, _Kept(answer, now, now - began))
        return answer
