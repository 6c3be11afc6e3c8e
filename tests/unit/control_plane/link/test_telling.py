"""Who is asked what it holds, when, and how many of them at once."""

import pytest

from control_plane.link.telling import ANSWER_SECONDS_MAX, ASKED_AT_ONCE_MAX, HeldStates
from skerry.plumbing.errors import InvalidInput
from skerry.wire.desired import desired_to_proto
from tests.builders import a_deployment
from tests.fakes.clock import FakeClock
from tests.unit.control_plane.recovery.worlds import a_held_state


def asking(*planes: str) -> tuple[HeldStates, FakeClock, list[str]]:
    """States of a fleet in which all these planes are to be asked, and what woke the loop."""
    clock, woken = FakeClock(), list[str]()
    held = HeldStates(lambda: woken.append("woken"), clock)
    for plane in planes:
        held.ask(plane)
    return held, clock, woken


def test_so_many_are_asked_at_once_and_an_answer_makes_room_for_the_next() -> None:
    planes = [f"p{n:03d}" for n in range(ASKED_AT_ONCE_MAX + 2)]
    held, _, woken = asking(*planes)
    asked = [plane for plane in planes if held.takes_turn(plane)]
    assert asked == planes[:ASKED_AT_ONCE_MAX]
    assert not any(held.takes_turn(plane) for plane in planes)
    held.take("p007", desired_to_proto(a_held_state("p007", a_deployment())))
    assert woken == ["woken"]
    assert [plane for plane in planes if held.takes_turn(plane)] == [planes[ASKED_AT_ONCE_MAX]]


def test_who_does_not_answer_gives_its_turn_away_and_is_asked_again() -> None:
    planes = [f"p{n:03d}" for n in range(ASKED_AT_ONCE_MAX + 1)]
    held, clock, _ = asking(*planes)
    assert sum(held.takes_turn(plane) for plane in planes) == ASKED_AT_ONCE_MAX
    clock.advance(ANSWER_SECONDS_MAX)
    assert held.takes_turn(planes[-1])
    assert held.takes_turn("p000")
    held.take("p001", desired_to_proto(a_held_state("p001", a_deployment())))  # late, and taken
    assert not held.takes_turn("p001")


def test_an_answer_is_read_once_and_its_plane_asked_no_more() -> None:
    held, _, _ = asking("fra", "sin")
    state = a_held_state("fra", a_deployment())
    held.take("fra", desired_to_proto(state))
    held.take("sin", desired_to_proto(state))
    assert held.told() == {}
    held.ask("fra")
    assert not held.takes_turn("fra")
    held.read()
    assert held.told()["fra"].state == state
    assert held.told()["sin"].state is None, "it is of another plane: that one cannot tell"
    held.ask("fra")
    assert not held.takes_turn("fra")


def test_what_nobody_asked_is_refused_and_forgotten_questions_are_nobodys() -> None:
    held, _, _ = asking("fra")
    state = desired_to_proto(a_held_state("sin", a_deployment()))
    with pytest.raises(InvalidInput, match="nobody asked"):
        held.take("sin", state)
    held.forget()
    assert not held.takes_turn("fra")
