"""How far the peers' gateways are: measured by the agent as the time to connect, and kept steady.

One connection to each peer every few seconds costs a round trip, which is just what is measured.
With the agent dead the last published order stays. Loopback and local networks differ by less
than the noise: what counts as nearer must be so by a margin, for a while.
"""

import asyncio
import statistics
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from skerry.plumbing.clock import Clock

MEASURE_PAUSE_SECONDS = 10.0
# Beyond a second a peer is not near; whether it lives, health checks say.
CONNECT_SECONDS_MAX = 1.0
PEERS_AT_ONCE_MAX = 16
SAMPLES_MAX = 7  # the median of the last minute
SAMPLES_MIN = 3
# A settled distance moves only by more than both: a fifth is a change of path, not of weather.
_MARGIN_FRACTION = 0.2
_MARGIN_SECONDS = 0.002

Connect = Callable[[str, int], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPlace:
    """Where a peer's gateway listens for other gateways."""

    host: str
    port: int


def settle(settled: float | None, samples: tuple[float, ...]) -> float | None:
    """Return the distance in seconds to go by: the old one until a new median is clearly another.

    None while there are too few samples to say anything.
    """
    if len(samples) < SAMPLES_MIN:
        return settled
    median = statistics.median(samples)
    if settled is None:
        return median
    margin = max(_MARGIN_SECONDS, _MARGIN_FRACTION * max(settled, median))
    return median if abs(median - settled) > margin else settled


async def connect(host: str, port: int) -> None:
    """Connect and hang up; raises OSError when there is nobody."""
    _, writer = await asyncio.open_connection(host, port)
    writer.transport.abort()


class PeerDistances:
    """The settled distance of every peer that was reached often enough."""

    def __init__(self, changed: asyncio.Event, clock: Clock, connect: Connect = connect) -> None:
        """Set `changed` whenever a settled distance moves; measures nothing yet."""
        self._changed = changed
        self._clock = clock
        self._connect = connect
        self._samples: dict[str, deque[float]] = {}
        self._settled: dict[str, float] = {}

    @property
    def seconds(self) -> Mapping[str, float]:
        """Return the settled distances in seconds by plane; peers not measured are not there."""
        return dict(self._settled)

    async def measure_forever(self, places: Callable[[], Mapping[str, PeerPlace]]) -> None:
        """Measure the distance to all places for ever; those that are gone are forgotten."""
        while True:
            await self.measure(places())
            await self._clock.sleep(MEASURE_PAUSE_SECONDS)

    async def measure(self, places: Mapping[str, PeerPlace]) -> None:
        """Measure each place once."""
        gate = asyncio.Semaphore(PEERS_AT_ONCE_MAX)

        async def one(plane: str, place: PeerPlace) -> None:
            async with gate:
                await self._measure_one(plane, place)

        for plane in self._samples.keys() - places.keys():
            del self._samples[plane]
            self._settled.pop(plane, None)
        async with asyncio.TaskGroup() as group:
            for plane, place in places.items():
                group.create_task(one(plane, place))

    async def _measure_one(self, plane: str, place: PeerPlace) -> None:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await self._connect(place.host, place.port)
        except (OSError, TimeoutError):
            return  # unreachable is not far: its old distance stays for when it is back
        samples = self._samples.setdefault(plane, deque(maxlen=SAMPLES_MAX))
        samples.append(self._clock.monotonic() - began)
        before = self._settled.get(plane)
        after = settle(before, tuple(samples))
        if after is not None and after != before:
            self._settled[plane] = after
            self._changed.set()
