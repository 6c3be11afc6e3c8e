"""Which control plane an agent calls next."""

import pytest

from workload_plane.link.client import next_turn

ADDRESSES = ("a:1", "b:1", "c:1")


@pytest.mark.parametrize(
    ("turn", "leader", "following"),
    [
        (0, "", 1),
        (2, "", 0),
        (0, "c:1", 2),
        (1, "a:1", 0),
        (0, "evil:1", 1),  # nobody sends a plane to an address that it was not given
    ],
)
def test_the_named_leader_is_called_next_and_otherwise_each_in_turn(
    turn: int, leader: str, following: int
) -> None:
    assert next_turn(ADDRESSES, turn, leader) == following


def test_the_only_one_is_called_again() -> None:
    assert next_turn(("a:1",), 0, "") == 0
