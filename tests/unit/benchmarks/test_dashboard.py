"""The page of the dashboard's benchmark says what was measured."""

import json
from pathlib import Path

from benchmarks.dashboard_page import page_of

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_made_from_its_results() -> None:
    values = json.loads((ROOT / "benchmarks" / "results" / "dashboard.json").read_bytes())
    assert (ROOT / "docs" / "benchmarks" / "dashboard.md").read_text() == page_of(values)


def test_a_page_that_is_too_slow_is_named() -> None:
    quick = {"first_paint_s": 0.4, "answered_s": 0.1, "painted_s": 0.2}
    values = {
        "machine": "2 cores",
        "load_before": 0.1,
        "planes": 1_000,
        "deployments": 2_000,
        "times": 5,
        "target_painted_s": 1.0,
        "pages": {"fleet": quick, "plans": quick | {"first_paint_s": 1.2}},
    }
    told = page_of(values)
    assert "**missed** by plans. The slowest is plans with 1.20 s" in told
    values["pages"] = {"fleet": quick}
    assert "reached by every page. The slowest is fleet with 0.40 s" in page_of(values)
