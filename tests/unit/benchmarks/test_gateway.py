"""The gateway's benchmark end to end, short: it measures, counts and tells."""

import json
from pathlib import Path

import pytest

from benchmarks.bench_gateway import main
from benchmarks.gateway.page import aims, write_page

NAMES = ["direct", "envoy, plain", "skerry", "skerry, picker", "skerry, picker and relay"]


@pytest.mark.integration
@pytest.mark.slow
def test_a_short_round_measures_every_contender_of_ours(tmp_path: Path) -> None:
    out = tmp_path / "gateway.json"
    told = [
        "--rounds",
        "1",
        "--seconds",
        "0.5",
        "--out",
        str(out),
        "--only",
        *NAMES,
        "aiohttp proxy",
    ]
    assert main(told) == 0
    values = json.loads(out.read_text())
    assert [name.lower() for name in values["rows"]] == [*NAMES, "aiohttp proxy"]
    assert values["skipped"] == {}
    for name, row in values["rows"].items():
        assert row["failed"] == 0, name
        assert min(row["requests_per_second"], row["events_per_cpu_second"]) > 0, name
        assert 0 < row["ttfb_p50_ms"] <= row["ttfb_p99_ms"], name
    page = tmp_path / "gateway.md"
    write_page(values, page)
    assert page.read_text().count("\n| ") == len(values["rows"]) + 1


def a_row(requests: float, first_ms: float, events: float) -> dict[str, float | None]:
    """Return the figures that the aims are judged by."""
    return {
        "requests_per_cpu_second": requests,
        "ttfb_p50_ms": first_ms,
        "fast_p50_ms": None,
        "events_per_cpu_second": events,
        "events_per_cpu_second_beyond_rest": 1.5 * events,
    }


def test_every_aim_is_judged_and_a_miss_is_told() -> None:
    rows = {
        "Envoy, plain": a_row(20_000, 0.5, 50_000),
        "Skerry": a_row(19_500, 0.6, 50_000),
        "Skerry, picker": a_row(7_000, 0.9, 51_000),
    }
    every_round = {name: [row] * 5 for name, row in rows.items()}
    plain, requests, added, events = aims(rows, every_round).splitlines()
    assert plain.endswith("0.97, reached.")
    assert "7,000, **missed**. Plain Envoy has 20,000 here" in requests
    assert requests.endswith("of it 0.35, the aim 0.35.")
    assert added.endswith("0.30 ms, reached.")
    assert "1.02 of the events" in events
    assert "at rest 1.02." in events


def test_what_was_not_measured_is_not_judged() -> None:
    assert aims({"direct": a_row(1, 1, 1)}, {}) == ""


def test_a_rate_that_was_not_measured_in_every_round_says_in_how_many() -> None:
    measured = {**a_row(7_000, 0.9, 51_000), "fast_p50_ms": 4.0}
    rows = {"Skerry": {**a_row(7_000, 0.9, 51_000), "fast_p50_ms": 1.0}, "Skerry, picker": measured}
    not_measured = {**measured, "fast_p50_ms": None}
    every_round = {"Skerry": [measured] * 3, "Skerry, picker": [measured, not_measured, measured]}
    added = aims(rows, every_round).splitlines()[1]
    assert added.endswith("3.00 ms (measured in 2 of 3 at the higher one), **missed**.")
