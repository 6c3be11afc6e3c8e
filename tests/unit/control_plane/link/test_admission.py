"""How many returning planes are let in, and when the others are to come again."""

from control_plane.link.admission import (
    GREETING_MAX,
    HELLOS_AT_ONCE_MAX,
    HELLOS_PER_SECOND_MAX,
    RETRY_SECONDS_MAX,
    Door,
    admit,
)


def come(times: list[float]) -> list[float | None]:
    """Return what each Hello is told, of those that come at these times."""
    door, told = Door(), []
    for now in times:
        door, wait = admit(door, now, greeting=1)
        told.append(wait)
    return told


def test_planes_that_keep_to_the_rate_are_all_let_in() -> None:
    assert come([number / 150 for number in range(5_000)]) == [None] * 5_000


def test_of_a_herd_a_few_are_let_in_and_each_other_one_is_told_a_moment_of_its_own() -> None:
    told = come([7.0] * 1_000)
    assert told[:HELLOS_AT_ONCE_MAX] == [None] * HELLOS_AT_ONCE_MAX
    waits = [wait for wait in told[HELLOS_AT_ONCE_MAX:] if wait is not None]
    assert len(waits) == 900
    assert waits == sorted(waits)
    assert max(waits) < 1_000 / HELLOS_PER_SECOND_MAX + 1.0
    later = [7.0 + wait for wait in waits]
    # They come when they were told, and nobody is sent away again.
    door = Door()
    for now in [7.0] * HELLOS_AT_ONCE_MAX:
        door, _ = admit(door, now, greeting=1)
    for now in later:
        door, wait = admit(door, now, greeting=1)
        assert wait is None


def test_nobody_is_sent_away_for_longer_than_planes_spread_their_return() -> None:
    assert max(wait or 0.0 for wait in come([0.0] * 100_000)) <= RETRY_SECONDS_MAX


def test_streams_that_say_nothing_do_not_grow_without_end() -> None:
    door, wait = admit(Door(), 3.0, greeting=GREETING_MAX + 1)
    assert wait is not None
    assert admit(door, 3.0, greeting=GREETING_MAX)[1] is None


def test_a_quiet_hour_lets_no_more_in_at_once_than_ever() -> None:
    door, _ = admit(Door(), 0.0, greeting=1)
    waits = []
    for _ in range(HELLOS_AT_ONCE_MAX + 50):
        door, wait = admit(door, 3_600.0, greeting=1)
        waits.append(wait)
    assert sum(wait is None for wait in waits) == HELLOS_AT_ONCE_MAX
