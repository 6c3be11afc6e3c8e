"""Garbage in cycles is found now and then, and what stays is never looked at."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from control_plane.cycles import SECONDS_MIN, keep, look_for_ever, wait_after
from tests.fakes.clock import FakeClock


class Value:
    def __init__(self) -> None:
        self.other = self


@pytest.fixture
def usual() -> Iterator[None]:
    """Python's own way of looking, put back at the end."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("usual")
async def test_garbage_in_cycles_goes_at_the_next_look() -> None:
    keep()
    assert gc.get_freeze_count() > 0
    clock = FakeClock()
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look_for_ever(clock))
        await clock.wait_for_sleepers(1)
        gone = weakref.ref(Value())
        clock.advance(SECONDS_MIN)
        await clock.wait_for_sleepers(1)
        assert gone() is None
        looking.cancel()


def test_looks_take_a_thousandth_of_the_time() -> None:
    assert wait_after(0.0) == SECONDS_MIN
    assert wait_after(0.4) == pytest.approx(400.0)
