"""What operators set: refused where it makes no sense, and schedules that hold when they say."""

from datetime import UTC, datetime, timedelta

import pytest

from skerry.fleet.autoscaling.cron import parse
from skerry.fleet.autoscaling.factors import (
    FloorSchedule,
    ScalingFactors,
    Strategy,
    factors_of,
)
from skerry.fleet.deployment import Scaling

DAY = timedelta(days=1)


def at(text: str) -> datetime:
    """Return a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "now", "last"),
    [
        ("30 8 * * 1-5", "2026-03-02 09:00", "2026-03-02 08:30"),  # a Monday
        ("30 8 * * 1-5", "2026-03-02 08:29", None),
        ("30 8 * * 1-5", "2026-03-01 09:00", None),
        ("*/15 * * * *", "2026-03-02 09:14", "2026-03-02 09:00"),
        ("0 0 1 * *", "2026-03-01 23:59", "2026-03-01 00:00"),
        ("0 12 * * 7", "2026-03-01 13:00", "2026-03-01 12:00"),
        ("0 12 1 * 1", "2026-03-02 12:00", "2026-03-02 12:00"),  # a day or a weekday
        ("5/20 9 * * *", "2026-03-02 09:50", "2026-03-02 09:45"),
        ("0 9,17 * 3 *", "2026-03-02 17:30", "2026-03-02 17:00"),
        ("0 9 * 4 *", "2026-03-02 17:30", None),
    ],
)
def test_a_cron_names_its_last_minute(cron: str, now: str, last: str | None) -> None:
    assert parse(cron).last_at(at(now), DAY) == (at(last) if last else None)


@pytest.mark.parametrize(
    "cron", ["", "* * * *", "60 * * * *", "* 24 * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *"]
)
def test_a_cron_that_cannot_be_read_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match="cron"):
        parse(cron)


def test_a_schedule_is_a_floor_for_as_long_as_it_says() -> None:
    morning = FloorSchedule(cron="0 8 * * 1-5", seconds=3_600.0, min_replicas=6)
    factors = ScalingFactors(max_replicas=4, schedules=(morning,))
    assert factors.scheduled_floor(at("2026-03-02 07:59")) == 0
    assert factors.scheduled_floor(at("2026-03-02 08:00")) == 4
    assert factors.scheduled_floor(at("2026-03-02 08:59")) == 4
    assert factors.scheduled_floor(at("2026-03-02 09:00")) == 0


@pytest.mark.parametrize(
    ("now", "holds"),
    [
        ("2026-07-01 00:29", False),  # summer in Berlin: 02:29
        ("2026-07-01 00:31", True),
        ("2026-07-01 01:01", False),
        ("2026-12-01 01:31", True),  # winter
        ("2026-12-01 00:31", False),
        # The night in which clocks show 02:30 twice: half an hour from the first.
        ("2026-10-25 00:31", True),
        ("2026-10-25 00:59", True),
        ("2026-10-25 01:01", False),
        ("2026-10-25 01:31", False),
        # The night without 02:30: at 03:30, as far from midnight.
        ("2026-03-29 01:29", False),
        ("2026-03-29 01:31", True),
    ],
)
def test_a_schedule_goes_by_the_clocks_of_its_zone(now: str, holds: bool) -> None:
    night = FloorSchedule(
        cron="30 2 * * *", seconds=1_800.0, min_replicas=2, time_zone="Europe/Berlin"
    )
    assert night.holds(at(now)) is holds


def test_a_zone_that_a_machine_does_not_know_counts_as_utc() -> None:
    mars = FloorSchedule(cron="0 8 * * *", seconds=60.0, min_replicas=2, time_zone="Mars/Dome")
    assert mars.holds(at("2026-03-02 08:00"))
    assert not mars.holds(at("2026-03-02 09:00"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_replicas": 2, "max_replicas": 1},
        {"window_seconds": 5.0},
        {"scale_down_delay_seconds": 4_000.0},
        {"concurrency_target": 0.0},
        {"target_utilization": 1.1},
        {"max_scale_down_rate": 0.0},
    ],
)
def test_factors_that_cannot_be_meant_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|need"):
        ScalingFactors(**wrong)  # type: ignore[arg-type]


def test_a_delay_left_out_is_the_strategys_own() -> None:
    assert ScalingFactors().delay_seconds == 300.0
    assert ScalingFactors(strategy=Strategy.CONCURRENCY).delay_seconds == 900.0
    assert factors_of(Scaling(max_replicas=3)).delay_seconds == 300.0
    slow = Scaling(max_replicas=3, scale_down_delay_seconds=900.0)
    assert factors_of(slow).delay_seconds == 900.0
