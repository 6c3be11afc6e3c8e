"""A window of loads: what it keeps takes little, however long it is fed."""

import tracemalloc

from skerry.fleet.autoscaling.load import READINGS_MAX, LoadWindow
from tests.unit.fleet.autoscaling.test_local import a_reading

WINDOWS = 20


def bytes_each(seconds: int, every: float, window_seconds: float) -> float:
    """Return what a window takes after readings for so many seconds."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        windows = [LoadWindow(window_seconds) for _ in range(WINDOWS)]
        for tick in range(int(seconds / every)):
            reading = a_reading(tick * every, 10.0)
            for window in windows:
                window.observe(reading)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(window.view(float(seconds)) is not None for window in windows)
    return (after - before) / WINDOWS


def test_ten_minutes_of_a_plane_take_some_kilobytes() -> None:
    assert bytes_each(1_200, 5.0, 60.0) < 12_000


def test_a_plane_that_tells_ever_so_often_takes_no_more_than_the_most() -> None:
    assert bytes_each(1_000, 0.2, 3_600.0) < 56 * READINGS_MAX + 4_000
