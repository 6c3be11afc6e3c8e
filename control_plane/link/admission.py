"""How many planes may come back at once: PURE; `service.py` asks before it looks at a Hello.

A herd that is let in as it comes makes every plane wait longer than it has patience for, and then
comes again. So many a second are let in; every other one is told a second of its own.
"""

from dataclasses import dataclass, replace

# Measured (`make bench-link`): a Hello costs 1-2 ms with its TLS handshake, and planes spread
# themselves over planes/150 s. Above that rate by a third, so that only a herd out of step is met.
HELLOS_PER_SECOND_MAX = 200.0
# What small fleets and accidents of timing may do at once.
HELLOS_AT_ONCE_MAX = 100
# Streams whose Hello has not come yet hold memory and a descriptor: a flood of such is no herd.
GREETING_MAX = 2_000
# Nobody is sent away for longer than the widest jitter of returning planes.
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.5, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What was let in lately; times of the monotonic clock.

    `free_at` is when the next Hello could be taken if they came evenly, `booked_until` the last
    second that somebody was told to come back at.
    """

    free_at: float = 0.0
    booked_until: float = 0.0


def admit(
    door: Door, now: float, greeting: int, *, per_second: float = HELLOS_PER_SECOND_MAX
) -> tuple[Door, float | None]:
    """Return the door after one Hello, and in how many seconds it may try again; None: let in.

    `greeting` is how many streams are open that were not welcomed yet.
    """
    step = 1.0 / per_second
    free_at = max(door.free_at, now)
    ahead = (free_at - now) / step
    if ahead < HELLOS_AT_ONCE_MAX - 0.5 and greeting <= GREETING_MAX:
        return replace(door, free_at=free_at + step), None
    # Each is told a moment of its own: those who come back together would be refused together.
    booked = max(door.booked_until, free_at, now) + step
    wait = min(max(booked - now, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX)
    return replace(door, booked_until=min(booked, now + RETRY_SECONDS_MAX)), wait
