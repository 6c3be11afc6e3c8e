"""What clouds and regions refuse to be."""

from typing import Any

import pytest

from skerry.fleet.catalogue import CLIENT_REGIONS_MAX, Cloud, Region


def test_a_region_is_named_by_its_cloud_and_itself() -> None:
    longest = f"{'a' * 63}/{'b' * 63}"
    assert Region(name=longest).name == longest
    for name in ("eu-west", "aws/", "aws/eu/west", "aws/EU", f"aws/{'a' * 64}", ""):
        with pytest.raises(ValueError, match="region"):
            Region(name=name)


def test_a_cloud_has_a_name_of_one_part() -> None:
    with pytest.raises(ValueError, match="cloud"):
        Cloud(name="aws/eu")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ((("eu", -0.1),), "must be 0..10 seconds"),
        ((("eu", float("nan")),), "must be 0..10 seconds"),
        ((("eu", float("inf")),), "must be 0..10 seconds"),
        ((("eu", 10.1),), "must be 0..10 seconds"),
        ((("", 0.1),), "1-63 printable"),
        ((("a\n", 0.1),), "1-63 printable"),
        ((("x" * 64, 0.1),), "1-63 printable"),
        ((("eu", 0.1), ("eu", 0.2)), "once, in order"),
        ((("us", 0.1), ("eu", 0.2)), "once, in order"),
        (tuple((f"r{n:04}", 0.1) for n in range(CLIENT_REGIONS_MAX + 1)), "at most 256"),
    ],
)
def test_latencies_that_cannot_be_are_refused(told: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"client_latency_seconds.*{said}"):
        Region(name="aws/eu", client_latency_seconds=told)


def test_latencies_at_the_limits_are_kept() -> None:
    told = tuple((f"r{n:04}", 10.0 * (n % 2)) for n in range(CLIENT_REGIONS_MAX))
    assert Region(name="aws/eu", client_latency_seconds=told).client_latency_seconds == told
