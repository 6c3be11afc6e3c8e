"""Virtual time: a seeded queue of events, and processes on it that may hang, die and start anew.

Nothing here knows what is simulated. A process's coroutines are driven by hand: what they await of
`Pause` is virtual time, so the product's own coroutines run on it without asyncio.
"""

import heapq
import random
from collections.abc import Callable, Coroutine, Generator
from datetime import datetime, timedelta
from typing import Any

from tests.builders import T0

Act = Callable[[], None]


class Pause:
    """Awaited, it lets `seconds` of virtual time pass."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[float, None, None]:
        yield self.seconds


class Turns:
    """A lock between coroutines of one process, as `asyncio.Lock` is where there is a loop."""

    def __init__(self) -> None:
        self._is_taken = False

    async def __aenter__(self) -> None:
        while self._is_taken:
            await Pause(0.01)
        self._is_taken = True

    async def __aexit__(self, *_: object) -> None:
        self._is_taken = False


class Timeline:
    """Events in the order of their times, ties in the order in which they were made."""

    def __init__(self, noise: int) -> None:
        self.now = 0.0
        self.events = 0
        self._seed = noise
        self._noises: dict[str, random.Random] = {}
        self._queue: list[tuple[float, int, Act]] = []
        self._order = 0

    def noise(self, whose: str) -> random.Random:
        """Return the chances of one part of the world: what others do moves none of its own."""
        if whose not in self._noises:
            self._noises[whose] = random.Random(f"{self._seed}/{whose}")
        return self._noises[whose]

    def after(self, seconds: float, act: Act) -> None:
        """Have something happen later."""
        self.at(self.now + seconds, act)

    def at(self, moment: float, act: Act) -> None:
        """Have something happen at that moment."""
        self._order += 1
        heapq.heappush(self._queue, (moment, self._order, act))

    def step(self, until: float) -> bool:
        """Let the next event happen; False when there is none before `until`."""
        if not self._queue or self._queue[0][0] > until:
            self.now = until
            return False
        self.now, _, act = heapq.heappop(self._queue)
        self.events += 1
        act()
        return True


class Process:
    """One process of the simulated world: alive, paused (time goes on, it does not) or dead.

    What it meant to do later is done late after a pause, with what it believed before, and never
    after a death.
    """

    def __init__(self, timeline: Timeline, name: str) -> None:
        self.timeline = timeline
        self.name = name
        self.alive = True
        self.paused = False
        self.life = 0  # counts starts
        self.resumed_at = -60.0
        self._held: list[Act] = []

    @property
    def runs(self) -> bool:
        """Say whether it does anything now."""
        return self.alive and not self.paused

    def after(self, seconds: float, act: Act) -> None:
        """Do something later, in this life."""
        life = self.life

        def due() -> None:
            if self.life != life or not self.alive:
                return
            if self.paused:
                self._held.append(act)
            else:
                act()

        self.timeline.after(seconds, due)

    def deliver(self, act: Act) -> None:
        """Have it take something in that arrived now: its socket keeps it while it hangs."""
        if not self.alive:
            return
        if self.paused:
            self._held.append(act)
        else:
            act()

    def spawn(
        self, work: Coroutine[Any, Any, None], ended: Callable[[BaseException | None], None]
    ) -> None:
        """Drive a coroutine to its end over virtual time; `ended` gets what it raised."""

        def step() -> None:
            try:
                seconds = work.send(None)
            except StopIteration:
                ended(None)
            except Exception as error:
                ended(error)
            else:
                self.after(seconds, step)

        step()

    def pause(self) -> None:
        """Stop it as SIGSTOP does."""
        self.paused = True

    def resume(self) -> None:
        """Let it go on; what came due meanwhile is done now, in its order."""
        self.paused = False
        self.resumed_at = self.timeline.now
        held, self._held = self._held, []
        for act in held:
            self.after(0.0, act)

    def kill(self) -> None:
        """End it as SIGKILL does."""
        self.alive = self.paused = False
        self.life += 1
        self._held.clear()

    def start(self) -> None:
        """Let it live anew."""
        self.alive, self.paused = True, False
        self.life += 1
        self._held.clear()


class SimClock:
    """A machine's clocks: the monotonic one is the world's time, the other may jump."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self.skew_seconds = 0.0

    def now(self) -> datetime:
        """Return the wall clock's time."""
        return T0 + timedelta(seconds=self._timeline.now + self.skew_seconds)

    def monotonic(self) -> float:
        """Return the seconds since the world began."""
        return self._timeline.now

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await Pause(max(seconds, 0.0))
