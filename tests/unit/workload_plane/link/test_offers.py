"""One push at a time, the newest alone, each reason told once: as agents real and simulated go."""

from workload_plane.desired_state.accept import Refuse
from workload_plane.link.offers import OFFER_AGAIN_SECONDS, Offers, from_deposed
from workload_plane.link.session import SessionState

LINKED, MUTED = SessionState.LINKED, SessionState.MUTED
FULL = Refuse(reason="no space left", may_pass=True)
WRONG = Refuse(reason="an unknown required feature")


def test_the_newest_push_alone_is_looked_at_and_none_beside_it() -> None:
    offers = Offers[str]()
    offers.came("first")
    offers.came("second")
    assert offers.take(LINKED, 0.0) == "second"
    offers.came("third")
    assert offers.take(LINKED, 0.0) is None
    assert offers.answered(None, 1.0)
    assert offers.take(LINKED, 1.0) == "third"


def test_what_came_while_the_plane_was_not_heard_waits_until_it_is() -> None:
    offers = Offers[str]()
    offers.came("push")
    assert offers.take(MUTED, 0.0) is None
    assert offers.take(LINKED, 60.0) == "push"


def test_what_may_pass_is_looked_at_again_and_told_once() -> None:
    offers = Offers[str]()
    offers.came("push")
    offers.take(LINKED, 0.0)
    assert offers.answered(FULL, 0.0)
    assert offers.due_at(LINKED) == OFFER_AGAIN_SECONDS
    assert offers.take(LINKED, OFFER_AGAIN_SECONDS - 0.1) is None
    assert offers.take(LINKED, OFFER_AGAIN_SECONDS) == "push"
    assert not offers.answered(FULL, OFFER_AGAIN_SECONDS)
    assert offers.take(LINKED, 2 * OFFER_AGAIN_SECONDS) == "push"
    assert offers.answered(None, 2 * OFFER_AGAIN_SECONDS)
    assert offers.due_at(LINKED) is None


def test_nothing_is_due_while_the_plane_is_not_heard_or_looks_already() -> None:
    offers = Offers[str]()
    offers.came("push")
    offers.take(LINKED, 0.0)
    offers.answered(FULL, 0.0)
    assert offers.due_at(MUTED) is None
    assert offers.take(MUTED, OFFER_AGAIN_SECONDS) is None
    offers.take(LINKED, OFFER_AGAIN_SECONDS)
    assert offers.due_at(LINKED) is None


def test_what_is_wrong_or_superseded_is_not_looked_at_again() -> None:
    offers = Offers[str]()
    offers.came("wrong")
    offers.take(LINKED, 0.0)
    assert offers.answered(WRONG, 0.0)
    assert offers.due_at(LINKED) is None
    offers.came("full")
    offers.take(LINKED, 0.0)
    offers.came("newer")
    offers.answered(FULL, 0.0)
    assert offers.take(LINKED, OFFER_AGAIN_SECONDS) == "newer"
    offers.answered(None, OFFER_AGAIN_SECONDS)
    assert offers.take(LINKED, 60.0) is None


def test_the_same_reason_for_another_push_is_told_anew() -> None:
    offers = Offers[str]()
    for number in range(2):
        offers.came(f"push {number}")
        offers.take(LINKED, 0.0)
        assert offers.answered(FULL, 0.0)


def test_a_leader_that_was_deposed_is_told_who_leads() -> None:
    assert from_deposed(3, 3) is None
    refused = from_deposed(2, 3)
    assert refused is not None
    assert "a leader of 3 was heard" in refused.reason
