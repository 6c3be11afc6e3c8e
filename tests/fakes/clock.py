"""A clock that tests turn by hand; same contract as SystemClock (tests/contract/test_clock.py).

`advance` moves time at once; `run_for` moves it from sleeper to sleeper and lets each act at its
own moment, so that an hour of a one-second loop is 3,600 real iterations in no time.
"""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, tzinfo=UTC)
# Turns of the loop after each wake-up: a woken task may hand on through this many awaits.
_SETTLE_TURNS = 20


class FakeClock:
    """Time that stands still until it is moved; the wall clock may drift and step."""

    def __init__(self, start: datetime = START, *, wall_drift: float = 0.0) -> None:
        """Begin at `start`; each monotonic second is `1 + wall_drift` seconds on the wall."""
        self._wall = start
        self._wall_drift = wall_drift
        self._monotonic = 1_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._serial = itertools.count()
        self._watchers: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the wall clock."""
        return self._wall

    def monotonic(self) -> float:
        """Return the monotonic clock in seconds."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock was moved by `seconds`."""
        if seconds <= 0:
            await _turn()
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._serial), future))
        self._tell_watchers()
        await future

    @property
    def sleepers(self) -> int:
        """Return how many tasks sleep now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move both clocks and wake who slept that long; woken tasks run when you next await."""
        assert seconds >= 0, "monotonic time does not go back; see step_wall"
        self._move_to(self._monotonic + seconds)

    async def run_for(self, seconds: float) -> None:
        """Move time forward, stopping at each sleeper's moment to let it act."""
        end = self._monotonic + seconds
        await settle()
        while (deadline := self._next_deadline()) is not None and deadline <= end:
            self._move_to(deadline)
            await settle()
        self._move_to(end)
        await settle()

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does."""
        self._wall += timedelta(seconds=seconds)

    async def wait_for_sleepers(self, count: int) -> None:
        """Return once `count` tasks sleep: the moment at which moving time has a meaning."""
        if self.sleepers >= count:
            return
        future = asyncio.get_running_loop().create_future()
        self._watchers.append((count, future))
        await future

    def _move_to(self, monotonic: float) -> None:
        passed = monotonic - self._monotonic
        self._monotonic = monotonic
        self._wall += timedelta(seconds=passed * (1 + self._wall_drift))
        while self._sleepers and self._sleepers[0][0] <= monotonic:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    def _next_deadline(self) -> float | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _tell_watchers(self) -> None:
        for count, future in self._watchers:
            if self.sleepers >= count and not future.done():
                future.set_result(None)


async def settle() -> None:
    """Let every task that can run do so, up to a few awaits deep."""
    for _ in range(_SETTLE_TURNS):
        await _turn()


async def _turn() -> None:
    await asyncio.sleep(0)  # noqa: TID251 (yields, sleeps for no time)
