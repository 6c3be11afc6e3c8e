"""How long targets that planes were told count as the global loop's word. Pure.

`service` tells planes in each heartbeat: a loop that is stuck or fails must not hold a plane to
what it wanted hours ago, only because somebody answers heartbeats.
"""

PERIODS_MAX = 2  # one round may be late or lost
# A large fleet at rest is looked at no more often (`reconcile.loop.REST_SECONDS_MAX`), and a turn
# of thousands of planes takes seconds: neither makes targets old.
LATE_SECONDS = 10.0


def are_current(decided_at: float | None, now: float, period_seconds: float) -> bool:
    """Say whether the round behind the targets, which ended at `decided_at`, is recent enough.

    Seconds of the control plane's monotonic clock; `period_seconds` is the global loop's. None: no
    round has ended in this term. Nothing is presumed of a leader before: its planes have lost their
    links to it, so they go by their own signals already, and one that dies before every first round
    would hold them to old targets for ever.
    """
    if decided_at is None:
        return False
    return now - decided_at <= PERIODS_MAX * period_seconds + LATE_SECONDS
