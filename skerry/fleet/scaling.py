"""What an operator says of scaling: the five factors by name, and what goes with them. Pure values.

A deployment has one `Scaling`; the loops of `skerry.fleet.autoscaling` read it as `ScalingFactors`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from skerry.fleet.autoscaling.cron import parse

REPLICAS_MAX = 100_000  # one deployment; guards sums in the solver and typing errors
WINDOW_SECONDS_MIN, WINDOW_SECONDS_MAX = 10.0, 3_600.0
SCALE_DOWN_DELAY_SECONDS_MAX = 3_600.0
CONCURRENCY_MIN, CONCURRENCY_MAX = 1e-3, 1e6
UTILIZATION_MIN = 0.01  # less is a typing error: one of a hundred replicas would be busy
SCHEDULES_MAX = 32
SCHEDULE_SECONDS_MIN, SCHEDULE_SECONDS_MAX = 60.0, 7 * 86_400.0
ZONE_CHARACTERS_MAX = 64
ZONES_MAX = 1_024  # remembered: a file of each is read once
DEFAULT_ZONE = "UTC"
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_HOUR = timedelta(hours=1)  # by which clocks are put back, at most
_SLACK = timedelta(hours=3)  # between two moments by the wall and by the sun


class Strategy(StrEnum):
    """What replicas are counted by."""

    TOKEN_WORK = "token_work"  # seconds of a replica's work that come in each second
    CONCURRENCY = "concurrency"  # requests in flight, by the published rule of five factors


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorSchedule:
    """At least so many replicas, for `seconds` from each moment that `cron` names in its zone."""

    cron: str
    seconds: float
    min_replicas: int
    time_zone: str = DEFAULT_ZONE

    def __post_init__(self) -> None:
        """Refuse a schedule that can't be read or has no length."""
        parse(self.cron)
        if not SCHEDULE_SECONDS_MIN <= self.seconds <= SCHEDULE_SECONDS_MAX:
            raise ValueError(
                f"a schedule lasts {SCHEDULE_SECONDS_MIN:g}..{SCHEDULE_SECONDS_MAX:g} s,"
                f" not {self.seconds}"
            )
        if not 0 <= self.min_replicas <= REPLICAS_MAX:
            raise ValueError(f"min_replicas must be 0..{REPLICAS_MAX}, not {self.min_replicas}")
        if len(self.time_zone) > ZONE_CHARACTERS_MAX or not _ZONE.fullmatch(self.time_zone):
            raise ValueError(f"time zone {self.time_zone[:40]!r} must be a name as Europe/Berlin")

    def holds(self, when: datetime) -> bool:
        """Say whether it holds at that moment, which must say its time zone.

        A zone that this machine has no file of counts as UTC: a plane takes what it is told.
        """
        zone = zone_of(self.time_zone) or ZoneInfo(DEFAULT_ZONE)
        wall, cron = when.astimezone(zone).replace(tzinfo=None), parse(self.cron)
        within = timedelta(seconds=self.seconds) + _SLACK
        # The hour that clocks show twice may hold a beginning that the wall has yet before it.
        for look in (wall + _HOUR, wall):
            began = cron.last_at(look, within)
            if began is None:
                continue
            since = when - began.replace(tzinfo=zone).astimezone(UTC)
            if timedelta() <= since < timedelta(seconds=self.seconds):
                return True
        return False


@lru_cache(maxsize=ZONES_MAX)
def zone_of(name: str) -> ZoneInfo | None:
    """Return the time zone of an IANA name, None for one that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None


def schedule_faults(
    cron: str, time_zone: str, min_replicas: int, max_replicas: int
) -> Iterator[tuple[str, str]]:
    """Yield what an operator must mend of a schedule: the field as a file has it, and the fault."""
    try:
        parse(cron)
    except ValueError as error:
        yield "cron", str(error)
    if zone_of(time_zone) is None:
        yield "timeZone", f"no time zone {time_zone[:40]!r} is known; e.g. Europe/Berlin or UTC"
    if min_replicas > max_replicas:
        yield "minReplicas", f"{min_replicas} is above maxReplicas, {max_replicas}; raise that"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The five factors and what was added to them, by the field's names; times in seconds.

    `scale_down_delay_seconds` and `max_scale_down_rate` None: as the strategy has it. `warm_spares`
    are kept above what the load needs; `paused` leaves the number of replicas as it is.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    window_seconds: float = 60.0
    scale_down_delay_seconds: float | None = None
    concurrency_target: float = 1.0
    target_utilization: float = 0.7
    max_scale_down_rate: float | None = None
    strategy: Strategy = Strategy.TOKEN_WORK
    schedules: tuple[FloorSchedule, ...] = ()
    paused: bool = False
    warm_spares: int = 0

    def __post_init__(self) -> None:
        """Refuse bounds that are none, and more schedules than anybody means."""
        if not 0 <= self.min_replicas <= self.max_replicas <= REPLICAS_MAX:
            raise ValueError(
                f"need 0 <= min_replicas ({self.min_replicas}) <= max_replicas"
                f" ({self.max_replicas}) <= {REPLICAS_MAX}"
            )
        if not 0 <= self.warm_spares <= REPLICAS_MAX:
            raise ValueError(f"warm_spares must be 0..{REPLICAS_MAX}, not {self.warm_spares}")
        if len(self.schedules) > SCHEDULES_MAX:
            raise ValueError(f"{len(self.schedules)} schedules are more than {SCHEDULES_MAX}")
        rate = self.max_scale_down_rate
        if rate is not None and not (math.isfinite(rate) and 0.0 < rate <= 1.0):
            raise ValueError(f"max_scale_down_rate must be above 0 and at most 1, not {rate}")

    @property
    def scales(self) -> bool:
        """Say whether there is anything between the bounds to decide."""
        return self.min_replicas < self.max_replicas
