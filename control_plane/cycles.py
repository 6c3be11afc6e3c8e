"""When Python looks for garbage in cycles, in a process that holds millions of values for long.

Values that nothing refers to are freed at once; only those that refer to one another in a circle
wait for a look. A look at everything stops this process, with 5,000 planes for half a second, and
would come each time that what is held has grown by a quarter: many times while planes return.
`main.py` runs it.
"""

import gc

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock

_log = logs.get_logger(__name__)

# New values between looks at the newest of them; such looks between looks at those that outlived
# one; and those between looks at all: so many that it never comes to that by itself.
NEW_MAX, MIDDLE_MAX, OLD_MAX = 5_000, 10, 1_000_000
# Looks at all take a thousandth of the time, and come once a minute at most.
SHARE, SECONDS_MIN = 0.001, 60.0


def keep() -> None:
    """Take all that is there for what stays: it is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_MAX, MIDDLE_MAX, OLD_MAX)


async def look_for_ever(clock: Clock) -> None:
    """Look at all that came since now and then, the seldomer the longer a look takes."""
    seconds = 0.0
    while True:
        await clock.sleep(wait_after(seconds))
        began = clock.monotonic()
        found = gc.collect()
        seconds = clock.monotonic() - began
        _log.debug("cycles.looked", seconds=round(seconds, 3), found=found)


def wait_after(seconds: float) -> float:
    """Return how long to wait after a look at all that took so many seconds."""
    return max(SECONDS_MIN, seconds / SHARE)
