"""Tasks that end together, loops that are started again, and the signal to stop.

Composition roots call `run_until_stopped` with one `supervise` for each loop. A loop that fails
costs a log line and a jittered pause, never the process.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.ids import IdSource

_log = logs.get_logger(__name__)

# 2**63 overflows no float, and every sane `max_seconds` is reached long before.
_DOUBLINGS_MAX = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait between attempts: exponential, with full jitter."""

    initial_seconds: float = 0.1
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse bounds that would never wait or wait backwards."""
        if not 0 < self.initial_seconds <= self.max_seconds:
            raise ValueError(f"0 < initial {self.initial_seconds} <= max {self.max_seconds}?")

    def delay(self, attempt: int, random: float) -> float:
        """Return the pause in seconds before retry `attempt` (0 = first), `random` in [0, 1)."""
        assert attempt >= 0
        bound = self.initial_seconds * 2.0 ** min(attempt, _DOUBLINGS_MAX)
        return random * min(self.max_seconds, bound)


async def run_until_stopped(*coroutines: Coroutine[Any, Any, object], stop: asyncio.Event) -> None:
    """Run all until `stop` is set (cancels them), all have returned, or one raises.

    What they raise comes out as an ExceptionGroup, after the others were cancelled and ended.
    """
    assert coroutines, "nothing to run"
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        watcher = group.create_task(_cancel_when_set(stop, tasks))
        await asyncio.wait(tasks)
        watcher.cancel()


async def _cancel_when_set(stop: asyncio.Event, tasks: list[asyncio.Task[object]]) -> None:
    await stop.wait()
    for task in tasks:
        task.cancel()


async def supervise(
    name: str,
    factory: Callable[[], Awaitable[object]],
    clock: Clock,
    ids: IdSource,
    stop: asyncio.Event,
    backoff: Backoff,
) -> None:
    """Await `factory()` and start it again whenever it raises, until it returns or `stop` is set.

    A run longer than the backoff's maximum counts as healthy: the next pause is a first one.
    """
    attempt = 0
    while not stop.is_set():
        started = clock.monotonic()
        try:
            await factory()
        except Exception:
            if clock.monotonic() - started > backoff.max_seconds:
                attempt = 0
            delay = backoff.delay(attempt, ids.random())
            _log.exception("loop.failed", loop=name, attempt=attempt, retry_in_seconds=delay)
            attempt += 1
            await sleep_unless_stopped(delay, clock, stop)
        else:
            return


async def sleep_unless_stopped(seconds: float, clock: Clock, stop: asyncio.Event) -> bool:
    """Sleep, at most until `stop` is set; return whether it is."""
    await first_of(clock.sleep(seconds), stop.wait())
    return stop.is_set()


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Return when the first of them returns, with the others cancelled and ended."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT of this process; call it inside the running loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


@contextlib.asynccontextmanager
async def beside(*coroutines: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run the coroutines beside the block and cancel them at its end.

    Unlike a TaskGroup it leaves the block's own errors as they are; one that fails by itself is
    logged and the block goes on without it.
    """
    tasks = [asyncio.create_task(_logged(coroutine)) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _logged(coroutine: Coroutine[Any, Any, object]) -> None:
    try:
        await coroutine
    except Exception:
        _log.exception("task.failed", task=getattr(coroutine, "__qualname__", ""))
