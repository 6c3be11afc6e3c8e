"""A stream's relay remembers everybody who was lost with it, and nobody who was not."""

from workload_plane.relay.lost_with import LostWith

TIMING = 'plane;desc="b", replica;desc="r9", queue;dur=1'


def test_nobody_is_avoided_before_the_first_loss() -> None:
    lost_with = LostWith("a")
    assert lost_with.ask() == ""
    lost_with.hear("r1", "")
    assert lost_with.ask() == ""


def test_each_loss_adds_who_was_tried_and_who_answered() -> None:
    lost_with = LostWith("a")
    lost_with.hear("r1, b", TIMING)
    lost_with.lose()
    assert lost_with.ask() == "a/r1,a/b,b/r9"
    lost_with.hear("r2", "")
    lost_with.hear("", "")  # trailers that tell nothing
    lost_with.lose()
    assert lost_with.ask() == "a/r1,a/b,b/r9,a/r2"


def test_who_only_turned_a_stream_away_is_not_avoided() -> None:
    lost_with = LostWith("a")
    lost_with.hear("r1", "")
    lost_with.lose()
    lost_with.ask()
    lost_with.hear("r2", "")
    assert lost_with.ask() == "a/r1"


def test_a_loss_of_which_nobody_tells_adds_nobody() -> None:
    lost_with = LostWith("a")
    lost_with.hear("r1", "")
    lost_with.lose()
    lost_with.ask()
    lost_with.lose()
    assert lost_with.ask() == "a/r1"
