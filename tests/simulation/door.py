"""A control plane's way to the simulated database: what `control_plane.store.engine` is."""

from collections.abc import Callable
from random import Random
from typing import Any

from skerry.plumbing.errors import Unavailable
from tests.simulation.store import SimStore
from tests.simulation.timeline import Pause

LATENCY_SECONDS_MAX = 0.02
SLOW_SECONDS_MAX = 0.6  # of a call now and then


class StoreDoor:
    """One control plane's way to the database: slow at times, shut while the database is down."""

    def __init__(self, store: SimStore, random: Random) -> None:
        self._store = store
        self._random = random
        self.looked_at = -1.0  # when the whole of it was read last

    async def run(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Do what a function of `control_plane.store` does, in one transaction."""
        await self._wait()
        result = getattr(self._store, function.__name__)(*args)
        await Pause(0.001)  # committed; the answer is on its way
        return result

    async def run_read(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Read in one transaction."""
        await self._wait()
        if function.__name__ == "renew":
            self.looked_at = self._store.timeline.now
        return getattr(self._store, function.__name__)(*args)

    async def _wait(self) -> None:
        random = self._random
        most = SLOW_SECONDS_MAX if random.random() < 0.03 else LATENCY_SECONDS_MAX
        await Pause(random.uniform(0.0, most))
        if self._store.down:
            raise Unavailable("the capacity database does not answer")
