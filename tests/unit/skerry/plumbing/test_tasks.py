"""Loops end together, come back after a failure with growing pauses, and stop when told."""

import asyncio
import os
import signal

import pytest

from skerry.plumbing.ids import SystemIds
from skerry.plumbing.tasks import (
    Backoff,
    beside,
    first_of,
    run_until_stopped,
    sleep_unless_stopped,
    stop_on_signals,
    supervise,
)
from tests.fakes.clock import FakeClock

BACKOFF = Backoff(initial_seconds=1, max_seconds=8)


class FixedIds(SystemIds):
    """Ids whose jitter is always the whole pause."""

    def random(self) -> float:
        """Return the upper end."""
        return 1.0


class Flaky:
    """A loop that fails some times, then returns, and remembers when it was started."""

    def __init__(self, clock: FakeClock, failures: int, runs_seconds: float = 0) -> None:
        self.clock = clock
        self.failures = failures
        self.runs_seconds = runs_seconds
        self.started: list[float] = []

    async def __call__(self) -> None:
        self.started.append(self.clock.monotonic() - 1000)
        if self.runs_seconds:
            await self.clock.sleep(self.runs_seconds)
        if len(self.started) <= self.failures:
            raise RuntimeError("flaky")


def test_delay_doubles_up_to_its_maximum_and_is_spread_from_zero() -> None:
    assert [BACKOFF.delay(attempt, 1.0) for attempt in range(5)] == [1, 2, 4, 8, 8]
    assert BACKOFF.delay(3, 0.25) == 2
    assert BACKOFF.delay(100_000, 0.5) == 4


def test_backoff_refuses_bounds_that_never_wait() -> None:
    with pytest.raises(ValueError, match="initial"):
        Backoff(initial_seconds=0, max_seconds=1)


async def test_supervise_restarts_a_failing_loop_with_growing_pauses() -> None:
    clock = FakeClock()
    loop = Flaky(clock, failures=4)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            supervise("flaky", loop, clock, FixedIds(clock), asyncio.Event(), BACKOFF)
        )
        await clock.run_for(100)
    assert loop.started == [0, 1, 3, 7, 15]


async def test_supervise_forgets_old_failures_after_a_long_healthy_run() -> None:
    clock = FakeClock()
    loop = Flaky(clock, failures=2, runs_seconds=100)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            supervise("flaky", loop, clock, FixedIds(clock), asyncio.Event(), BACKOFF)
        )
        await clock.run_for(1000)
    assert loop.started == [0, 101, 202]


async def test_supervise_ends_at_once_when_stopped_between_attempts() -> None:
    clock = FakeClock()
    stop = asyncio.Event()
    loop = Flaky(clock, failures=99)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervise("flaky", loop, clock, FixedIds(clock), stop, BACKOFF))
        await clock.wait_for_sleepers(1)
        stop.set()
    assert loop.started == [0]
    assert clock.sleepers == 0


async def test_stop_cancels_all_and_waits_for_their_clean_up() -> None:
    stop, running = asyncio.Event(), asyncio.Event()
    cleaned: list[str] = []

    async def forever() -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append("yes")

    async def stopper() -> None:
        await running.wait()
        stop.set()
        await asyncio.Event().wait()

    await run_until_stopped(forever(), stopper(), stop=stop)
    assert cleaned == ["yes"]


async def test_run_ends_when_all_have_returned() -> None:
    done: list[int] = []

    async def once(number: int) -> None:
        done.append(number)

    await run_until_stopped(once(1), once(2), stop=asyncio.Event())
    assert done == [1, 2]


async def test_one_failure_cancels_the_others_and_comes_out() -> None:
    async def failing() -> None:
        raise RuntimeError("broken")

    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await run_until_stopped(forever(), failing(), stop=asyncio.Event())
    assert caught.group_contains(RuntimeError, match="broken")


async def test_what_runs_beside_a_block_ends_with_it_and_leaves_its_errors_alone() -> None:
    ended = []

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("forever")

    async def fails() -> None:
        raise ValueError("its own affair")

    async def block() -> None:
        async with beside(forever(), fails()):
            await FakeClock().sleep(0)
            raise KeyError("the block's")

    with pytest.raises(KeyError):
        await block()
    assert ended == ["forever"]


async def test_sleep_is_cut_short_by_stop() -> None:
    clock, stop = FakeClock(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        sleeping = group.create_task(sleep_unless_stopped(10, clock, stop))
        await clock.wait_for_sleepers(1)
        stop.set()
    assert sleeping.result() is True
    assert await sleep_unless_stopped(0, clock, asyncio.Event()) is False


async def test_first_of_cancels_the_slower() -> None:
    clock = FakeClock()
    async with asyncio.TaskGroup() as group:
        group.create_task(first_of(clock.sleep(1), clock.sleep(5)))
        await clock.wait_for_sleepers(2)
        clock.advance(1)
    assert clock.sleepers == 0


async def test_sigterm_sets_stop() -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
