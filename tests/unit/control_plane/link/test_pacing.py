"""A plane that says too much is held back, whoever speaks at a plane's pace never is."""

from control_plane.link.pacing import MESSAGES_AT_ONCE_MAX, MESSAGES_PER_SECOND_MAX, paced


def waits(count: int, seconds_between: float) -> list[float]:
    """Say so many, each as soon as it may after the one before."""
    free_at, now, found = 0.0, 1_000.0, []
    for _ in range(count):
        free_at, wait = paced(free_at, now)
        found.append(wait)
        now += wait + seconds_between
    return found


def test_who_says_little_is_never_held_back() -> None:
    assert not any(waits(5_000, 1.0 / MESSAGES_PER_SECOND_MAX))


def test_what_comes_at_once_after_a_silence_is_heard_at_once() -> None:
    assert not any(waits(MESSAGES_AT_ONCE_MAX, 0.0))


def test_a_flood_is_heard_at_a_planes_pace() -> None:
    count = 10_000
    seconds = sum(waits(count, 0.0))
    assert round(seconds) == round((count - 1 - MESSAGES_AT_ONCE_MAX) / MESSAGES_PER_SECOND_MAX)
    assert max(waits(count, 0.0)) < 2.0 / MESSAGES_PER_SECOND_MAX
