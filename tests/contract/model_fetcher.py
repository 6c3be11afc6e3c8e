"""A process that fetches one base model, to be killed or limited: `DIR URI`; prints what came.

The last line of its output is `HERE PATH` or `FAILED REASON`.
"""

import asyncio
import sys
from pathlib import Path

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.tasks import first_of
from workload_plane.models.cache import ModelCache
from workload_plane.models.limits import CacheSettings, FetchLimits
from workload_plane.models.remote import model_session, sources
from workload_plane.models.wanted import WantedModel

LIMITS = FetchLimits(stall_seconds=30.0, sync_bytes=50_000, write_bytes=10_000)


async def fetch(directory: Path, uri: str) -> str:
    """Return the line that says what became of it."""
    settings = CacheSettings(
        directory=directory, schemes=("http",), allow_private_addresses=True, free_bytes_min=0
    )
    clock, wake = SystemClock(), asyncio.Event()
    async with model_session(settings, LIMITS) as session:
        found = sources(settings, session, LIMITS)
        cache = ModelCache(settings, found, wake, clock, SystemIds(clock), LIMITS)
        cache.want((WantedModel(uri=uri, due=True),))

        async def until_told() -> None:
            while cache.waits([uri]):
                await wake.wait()
                wake.clear()

        await first_of(cache.run(), until_told())
        try:
            return f"HERE {cache.path(uri)}"
        except SkerryError as error:
            return f"FAILED {error}"


if __name__ == "__main__":
    print(asyncio.run(fetch(Path(sys.argv[1]), sys.argv[2])), flush=True)
