"""Which planes have been silent for too long: one watch for the streams of all of them.

`service.py` adds each stream. A timer of its own for each would be a task for each: megabytes, and
a hundredth of a core, with 5,000 planes.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Protocol

from control_plane.link.push import Outbox
from control_plane.link.registry import Registry
from control_plane.reconcile.policy import ReconcilePolicy
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, Unavailable
from skerry.plumbing.tasks import first_of

_log = logs.get_logger(__name__)

JUST_AFTER_SECONDS = 0.001  # a silence is too long once it is longer than the timeout
# Those that are due within this are looked at together: with thousands some always are.
GRAIN_SECONDS = 0.02


class WatchedStream(Protocol):
    """A plane's stream."""

    @property
    def plane(self) -> str:
        """Return the plane's name."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Return what tells this stream from a later one of the plane."""
        ...

    def end(self, why: SkerryError) -> None:
        """End the stream and say why; nothing when it has ended already."""
        ...


class SilenceWatch:
    """Looks at each stream when its plane would be silent for too long, and no sooner."""

    def __init__(
        self, registry: Registry, policy: Callable[[], ReconcilePolicy], clock: Clock
    ) -> None:
        """Watch nothing yet; the policy is asked for anew, for it changes with the fleet."""
        self._registry = registry
        self._policy = policy
        self._clock = clock
        self._serial = itertools.count()
        self._due: list[tuple[float, int, WatchedStream]] = []
        self._told_of: dict[str, float] = {}  # silent planes, by when they were heard last
        self._came = asyncio.Event()

    def add(self, stream: WatchedStream) -> None:
        """Watch a stream from now on, until it ends."""
        self._plan(stream, self._registry.heard_at(stream.plane))

    async def run(self) -> None:
        """Have silent planes judged as soon as they are, and end streams with their leases."""
        while True:
            self._came.clear()
            now = self._clock.monotonic()
            while self._due and self._due[0][0] <= now:
                self._look(heapq.heappop(self._due)[2], now)
            if not self._due:
                await self._came.wait()
                continue
            left = self._due[0][0] - self._clock.monotonic()
            if left <= GRAIN_SECONDS:
                # With thousands of streams always; none that comes meanwhile is due as soon.
                await self._clock.sleep(GRAIN_SECONDS)
            else:
                await first_of(self._clock.sleep(left), self._came.wait())

    def _look(self, stream: WatchedStream, now: float) -> None:
        plane, policy = stream.plane, self._policy()
        if not self._registry.is_of(plane, stream.outbox):
            stream.end(Unavailable("the plane has another stream by now"))
            return
        heard_at = self._registry.heard_at(plane)
        if now >= heard_at + policy.lease_seconds + JUST_AFTER_SECONDS:
            self._told_of.pop(plane, None)
            why = f"nothing was heard for {policy.lease_seconds:g} s: lease over"
            stream.end(Unavailable(why))
            return
        if now < heard_at + policy.heartbeat_timeout_seconds + JUST_AFTER_SECONDS:
            self._told_of.pop(plane, None)
        elif self._told_of.get(plane) != heard_at:
            self._told_of[plane] = heard_at
            _log.warning("plane.silent", plane=plane)
            self._registry.fell_silent()
        self._plan(stream, heard_at)

    def _plan(self, stream: WatchedStream, heard_at: float) -> None:
        """Look again when the plane is silent for too long; if it is already, when its lease ends.

        Or when it may be so once more: it may be heard in a moment, and then fall silent again.
        """
        policy, now = self._policy(), self._clock.monotonic()
        timeout_seconds = policy.heartbeat_timeout_seconds + JUST_AFTER_SECONDS
        late_at = heard_at + timeout_seconds
        over_at = heard_at + policy.lease_seconds + JUST_AFTER_SECONDS
        due = late_at if now < late_at else min(over_at, now + timeout_seconds)
        is_first = not self._due or due < self._due[0][0]
        heapq.heappush(self._due, (due, next(self._serial), stream))
        if is_first:
            self._came.set()
