"""Amounts of memory and time as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.client.quantities import (
    BYTES_MAX,
    DURATION_SECONDS_MAX,
    format_bytes,
    format_duration,
    parse_bytes,
    parse_duration,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("512MiB", 512 * 2**20), ("16GiB", 16 * 2**30), ("1.5GiB", 3 * 2**29), ("500MB", 5 * 10**8),
     ("2Gi", 2**31), ("7", 7), (7, 7), ("0B", 0)],
)  # fmt: skip
def test_memory_is_read_in_its_unit(text: object, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["-1GiB", "GiB", "1 apple", True, None, 1.5, "1e9", -1, 2**63])
def test_what_is_no_amount_of_memory_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("15m", 900), ("1h30m", 5400), ("200ms", 0.2), ("1.5s", 1.5)]
)
def test_time_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["60", 60, "1y", "-5s", "", "s", None, "99999d", "1s" * 40])
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration(text)


@given(st.integers(0, BYTES_MAX))
def test_a_written_amount_reads_back_as_it_was(amount: int) -> None:
    assert parse_bytes(format_bytes(amount)) == amount


@given(
    st.one_of(
        st.floats(1e-6, DURATION_SECONDS_MAX),
        st.integers(0, 9_999).map(lambda milliseconds: milliseconds / 1000),
        st.integers(0, 10_000).map(lambda minutes: minutes * 60.0),
    )
)
def test_a_written_time_reads_back_as_it_was(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(("seconds", "text"), [(0.009, "9ms"), (0.2, "200ms"), (900.0, "15m")])
def test_a_time_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-01T00:00:00Z", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01T00:00:00.25Z", datetime(2026, 12, 1, microsecond=250_000, tzinfo=UTC)),
        (
            "2026-12-01T09:30:00+01:00",
            datetime(2026, 12, 1, 9, 30, tzinfo=timezone(timedelta(hours=1))),
        ),
    ],
)
def test_a_moment_is_read_with_its_zone(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("2026-12-01", "2026-12-01T00:00:00", "2026-12-01T00:00Z", "2026-13-01T00:00:00Z"),
        *("2026-12-01T25:00:00Z", "20261201T000000Z", "2026-W49-2T00:00:00Z", "now", "", 5, None),
        *("2026-12-01T00:00:00.1234567Z", "2026-12-01T00:00:00z", "2026-12-01T00:00:00Z "),
        "2026-12-01T00:00:00+24:00",
    ],
)
def test_what_is_no_moment_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a time with its zone"):
        parse_time(text)


def test_a_time_that_written_out_would_be_too_long_reads_back_as_it_was() -> None:
    assert parse_duration(format_duration(4.3645127659443475e-173)) == 4.3645127659443475e-173
