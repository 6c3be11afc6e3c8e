"""Amounts of memory and time as people write them."""

import pytest

from skerry.client.quantities import format_bytes, format_duration, parse_bytes, parse_duration


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


@pytest.mark.parametrize("amount", [0, 1, 1023, 1024, 256 * 2**20, 5 * 10**8, 2**40])
def test_a_written_amount_reads_back(amount: int) -> None:
    assert parse_bytes(format_bytes(amount)) == amount


@pytest.mark.parametrize("seconds", [0.04, 0.2, 1.0, 60.0, 900.0, 5400.0, 86400.0, 0.1 + 0.2])
def test_a_written_time_reads_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-6)
