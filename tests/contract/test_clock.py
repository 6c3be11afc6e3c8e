"""What every Clock promises, held by the real one and by the tests' own.

`pass_time` is the only difference: the real clock passes it by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from skerry.plumbing.clock import Clock, SystemClock
from tests.fakes.clock import START, FakeClock

# Sums of floats are a little off; no timer is that exact.
ROUNDING_SECONDS = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A clock and how its time passes while others sleep on it."""

    clock: Clock
    pass_time: Callable[[float], Awaitable[None]]


def a_system_clock() -> Subject:
    """The machine's clock."""
    clock = SystemClock()
    return Subject(clock=clock, pass_time=clock.sleep)


def a_fake_clock() -> Subject:
    """The tests' clock."""
    clock = FakeClock()
    return Subject(clock=clock, pass_time=clock.run_for)


@pytest.fixture(params=[a_system_clock, a_fake_clock])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each clock in turn."""
    made: Subject = request.param()
    return made


def test_now_is_aware_and_in_utc(subject: Subject) -> None:
    assert subject.clock.now().utcoffset() == timedelta(0)


async def test_both_clocks_move_with_time_passed(subject: Subject) -> None:
    wall, monotonic = subject.clock.now(), subject.clock.monotonic()
    await subject.pass_time(0.01)
    assert subject.clock.monotonic() - monotonic >= 0.01 - ROUNDING_SECONDS
    assert subject.clock.now() > wall


async def test_sleeper_wakes_neither_early_nor_never(subject: Subject) -> None:
    begin = subject.clock.monotonic()
    woken: list[float] = []

    async def sleeper() -> None:
        await subject.clock.sleep(0.02)
        woken.append(subject.clock.monotonic() - begin)

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper())
        await subject.pass_time(0.05)
    assert len(woken) == 1
    assert woken[0] >= 0.02 - ROUNDING_SECONDS


async def test_sleepers_wake_in_the_order_of_their_deadlines(subject: Subject) -> None:
    order: list[int] = []

    async def sleeper(number: int, seconds: float) -> None:
        await subject.clock.sleep(seconds)
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number, seconds in ((3, 0.03), (1, 0.01), (2, 0.02)):
            group.create_task(sleeper(number, seconds))
        await subject.pass_time(0.1)
    assert order == [1, 2, 3]


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_to_sleep_still_lets_others_run(subject: Subject, seconds: float) -> None:
    ran = asyncio.Event()

    async def other() -> None:
        ran.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        await subject.clock.sleep(seconds)
        assert ran.is_set()


async def test_cancelled_sleeper_stops_sleeping(subject: Subject) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(subject.clock.sleep(3600))
        await subject.clock.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_fake_time_stands_still_until_moved() -> None:
    clock = FakeClock()
    assert clock.now() == START
    before = clock.monotonic()
    await clock.sleep(0)
    assert (clock.now(), clock.monotonic()) == (START, before)


async def test_fake_runs_an_hour_of_a_loop_beat_by_beat() -> None:
    clock = FakeClock()
    beats: list[float] = []

    async def loop() -> None:
        while len(beats) < 3600:
            await clock.sleep(1)
            beats.append(clock.monotonic())

    async with asyncio.TaskGroup() as group:
        group.create_task(loop())
        await clock.run_for(3600)
    assert beats == [1000.0 + beat for beat in range(1, 3601)]


async def test_fake_advance_wakes_sleepers_once() -> None:
    clock = FakeClock()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(clock.sleep(5))
        await clock.wait_for_sleepers(1)
        clock.advance(4.9)
        await clock.sleep(0)
        assert not task.done()
        clock.advance(0.1)
    assert clock.sleepers == 0


def test_fake_wall_clock_drifts_and_steps_without_the_monotonic_one() -> None:
    clock = FakeClock(wall_drift=0.01)
    clock.advance(100)
    assert clock.now() == START + timedelta(seconds=101)
    clock.step_wall(-3600)
    assert clock.now() == START + timedelta(seconds=101 - 3600)
    assert clock.monotonic() == 1100
