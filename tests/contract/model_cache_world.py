"""A base-model cache that runs with its server, for the contracts of cache and downloads."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.tasks import first_of
from tests.contract.model_servers import ModelServer, serving
from workload_plane.models import cache as cache_module
from workload_plane.models.cache import ModelCache
from workload_plane.models.limits import CacheSettings, FetchLimits
from workload_plane.models.remote import model_session, sources
from workload_plane.models.wanted import WantedModel

CLOCK = SystemClock()
SIZE = 400_000
LIMITS = FetchLimits(stall_seconds=5.0, tries_max=2, sync_bytes=50_000, write_bytes=10_000)


def weights(seed: int, size: int = SIZE) -> bytes:
    return hashlib.shake_128(str(seed).encode()).digest(size)


@dataclass
class Plane:
    """A cache that runs, with its server."""

    server: ModelServer
    settings: CacheSettings
    cache: ModelCache
    task: asyncio.Task[None]
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def end(self) -> None:
        """Let another one have the directory."""
        self.task.cancel()
        await asyncio.wait([self.task])

    def uri(self, name: str) -> str:
        return f"{self.server.url}/files/{name}"

    def want(self, *names: str, due: bool = True) -> None:
        wanted = [WantedModel(uri=self.uri(name), due=due) for name in names]
        self.cache.want(tuple(wanted))

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                await first_of(CLOCK.sleep(0.02), self.wake.wait())
                self.wake.clear()

    async def settle(self, *names: str) -> None:
        """Return once nothing keeps a start on these any more."""
        await self.until(lambda: not self.cache.waits([self.uri(name) for name in names]))

    async def fetch(self, *names: str) -> list[Path]:
        self.want(*names)
        await self.settle(*names)
        return [self.cache.path(self.uri(name)) for name in names]


@asynccontextmanager
async def running(server: ModelServer, settings: CacheSettings) -> AsyncIterator[Plane]:
    wake = asyncio.Event()
    async with model_session(settings, LIMITS) as session:
        found = sources(settings, session, LIMITS)
        cache = ModelCache(settings, found, wake, CLOCK, SystemIds(CLOCK), LIMITS)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(cache.run())
            yield Plane(server=server, settings=settings, cache=cache, task=task, wake=wake)
            task.cancel()


def hasty_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CacheSettings:
    """Return settings of a cache that looks, tries again and tells without waiting."""
    monkeypatch.setattr(cache_module, "RETRY_INITIAL_SECONDS", 0.05)
    monkeypatch.setattr(cache_module, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(cache_module, "TOLD_SECONDS", 0.0)
    return CacheSettings(
        directory=tmp_path / "models",
        schemes=("http", "hf"),
        allow_private_addresses=True,
        free_bytes_min=0,
    )


@asynccontextmanager
async def serving_five() -> AsyncIterator[ModelServer]:
    """Serve m0.gguf to m4.gguf."""
    files = {f"m{i}.gguf": weights(i) for i in range(5)}
    async with serving(ModelServer(files=files)) as server:
        yield server


def read(line: str) -> bytes:
    """Return what lies where the fetcher's line says."""
    return Path(line.removeprefix("HERE ")).read_bytes()
