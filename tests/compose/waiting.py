"""Waiting for what another machine's process shows: there is no event of it to await here."""

from collections.abc import Callable
from threading import Event

from skerry.plumbing.clock import SystemClock

LOOK_SECONDS = 0.5


def until(is_so: Callable[[], bool], seconds_max: float) -> float:
    """Return after how many seconds it was so; TimeoutError when it is not in time."""
    clock = SystemClock()
    begin = clock.monotonic()
    while not is_so():
        if clock.monotonic() - begin > seconds_max:
            raise TimeoutError(f"not so within {seconds_max:g} s: {is_so.__qualname__}")
        Event().wait(LOOK_SECONDS)
    return clock.monotonic() - begin
