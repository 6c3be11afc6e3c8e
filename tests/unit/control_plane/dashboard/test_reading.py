"""Answers that stand in while no newer one is to be had, and say how old they are."""

import pytest

from control_plane.dashboard.reading import ANSWERS_MAX, REST_FACTOR, Reader
from skerry.plumbing.errors import NotFound, Unavailable
from tests.fakes.clock import FakeClock


class _Asked:
    """Answers with how often it was asked, after some seconds, or fails."""

    def __init__(self, clock: FakeClock, seconds: float = 0.0) -> None:
        self.clock, self.seconds = clock, seconds
        self.times = 0
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.times += 1
        self.clock.advance(self.seconds)
        if self.error is not None:
            raise self.error
        return self.times


async def test_the_last_answer_stands_in_with_its_age() -> None:
    clock = FakeClock()
    reader, asked = Reader(clock), _Asked(clock)
    assert await reader.begin().ask("planes", asked) == 1
    clock.advance(42.0)
    asked.error = Unavailable("the database does not answer")
    reading = reader.begin()
    assert await reading.ask("planes", asked) == 1
    assert (reading.age_seconds, reading.reason) == (42.0, "the database does not answer")


async def test_what_was_never_answered_says_why_it_is_not_there() -> None:
    clock = FakeClock()
    asked = _Asked(clock)
    asked.error = Unavailable("nobody answers")
    with pytest.raises(Unavailable, match="nobody answers"):
        await Reader(clock).begin().ask("planes", asked)


async def test_a_refusal_is_not_papered_over_by_an_older_answer() -> None:
    clock = FakeClock()
    reader, asked = Reader(clock), _Asked(clock)
    await reader.begin().ask("plane x", asked)
    asked.error = NotFound("plane x is gone")
    with pytest.raises(NotFound):
        await reader.begin().ask("plane x", asked)


async def test_a_sum_that_takes_long_is_made_seldom() -> None:
    clock = FakeClock()
    reader, asked = Reader(clock), _Asked(clock, seconds=0.5)
    assert await reader.begin().ask("sum", asked, rests=True) == 1
    clock.advance(0.5 * REST_FACTOR - 1.0)
    assert await reader.begin().ask("sum", asked, rests=True) == 1
    clock.advance(1.1)
    assert await reader.begin().ask("sum", asked, rests=True) == 2


async def test_the_answers_of_a_session_are_bounded() -> None:
    clock = FakeClock()
    reader, asked = Reader(clock), _Asked(clock)
    for number in range(ANSWERS_MAX + 1):
        await reader.begin().ask(str(number), asked)
    assert reader.find("0") is None
    assert reader.find(str(ANSWERS_MAX)) is not None
