"""The only reader of time in the tree; whoever needs time is handed a `Clock`.

`SystemClock` is built in the composition roots, `tests.fakes.clock.FakeClock` in tests. Pure code
takes `now` as an argument and never sees either.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for people and records, monotonic time for deadlines, and sleep."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware and in UTC; it may step either way."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an unnamed moment; never goes back, means nothing elsewhere."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` of monotonic time have passed; yields once when <= 0."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def now(self) -> datetime:
        """Return the machine's wall clock time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running loop; a negative time only yields."""
        deadline = time.monotonic() + seconds
        await asyncio.sleep(max(seconds, 0.0))
        # uvloop counts in whole milliseconds and may wake early: without this second look a
        # sleeper would act before the deadline that it slept for.
        while (left := deadline - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
