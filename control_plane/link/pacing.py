"""How fast a plane may speak: PURE; `service.py` waits as long as this says before it listens on.

A plane says a few words a second at its busiest. One that says hundreds, whatever they are, would
have the control plane judge its fleet anew for each, at the cost of everybody who asks meanwhile.
"""

# An agent's heartbeats, reports (five a second at most), loads and answers together stay below half
# of it; a report in parts may reach it for a moment.
MESSAGES_PER_SECOND_MAX = 20.0
# What a plane says when it is back, with all that it holds in its 256 parts.
MESSAGES_AT_ONCE_MAX = 300


def paced(free_at: float, now: float) -> tuple[float, float]:
    """Return when one more could be heard if they came evenly, and seconds to wait before this.

    `free_at` is what this returned for the message before, 0.0 for the first of a plane.
    """
    step = 1.0 / MESSAGES_PER_SECOND_MAX
    free_at = max(free_at, now)
    wait = max(0.0, free_at - now - MESSAGES_AT_ONCE_MAX * step)
    return free_at + step, wait
