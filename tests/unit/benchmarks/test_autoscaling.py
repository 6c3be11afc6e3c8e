"""The autoscaling benchmark: its page says what the rows say, its entries are the catalogue's."""

from pathlib import Path
from typing import Any

from benchmarks.autoscaling.contest import ALONE, ENTRIES, SPILLED
from benchmarks.autoscaling.page import write_page
from benchmarks.bench_autoscaling import digests, to_go_on_with
from skerry.replay.catalogue import POLICIES, POOLED


def a_row(policy: str, attainment: float, replica_hours: float) -> dict[str, Any]:
    """Return a row of a day."""
    return {
        "day": "m-large",
        "hours": 24.0,
        "policy": policy,
        "requests": 1_000,
        "attainment": attainment,
        "replica_hours": replica_hours,
        "dollars": 10.0 * replica_hours,
        "target_changes": 5,
        "reversals": 0,
        "starts": 3,
        "spilled": 0.1,
        "peak_replicas": 9,
        "wall_seconds": 30.0,
    }


def a_page(tmp_path: Path, *rows: dict[str, Any]) -> str:
    """Return the page of some rows."""
    path = tmp_path / "autoscaling.md"
    settings = {"KPA": {"setting": 0.7, "tried": [[0.9, 0.98, 90.0], [0.7, 0.991, 120.0]]}}
    values = {"machine": "a machine", "rows": list(rows), "tuning": {"settings": settings}}
    write_page(values, path)
    return path.read_text()


def test_the_page_holds_the_figures_against_the_targets(tmp_path: Path) -> None:
    told = a_page(
        tmp_path,
        a_row(POOLED, 0.991, 120.0),
        a_row("KPA", 0.995, 200.0),
        a_row("HPA", 0.98, 100.0),
        a_row("hindsight, pooled", 0.99, 100.0),
    )
    assert (
        "* m-large: 99.10% in time (reached), 1.20 of hindsight (aim 1.35, reached), 40% fewer"
        " replica-hours than the best published silo that met it (KPA; aim 30%, reached)." in told
    )
    assert "Not replayed yet: m-mid day 2" in told
    assert "KPA 0.7, of 0.9 (98.00%, 90 rh), 0.7 (99.10%, 120 rh)." in told


def test_what_falls_short_is_called_missed(tmp_path: Path) -> None:
    told = a_page(tmp_path, a_row(POOLED, 0.98, 150.0), a_row("hindsight, pooled", 0.99, 100.0))
    assert "98.00% in time (**missed**), 1.50 of hindsight (aim 1.35, **missed**)" in told


def test_how_fast_a_day_was_replayed_is_held_against_its_target(tmp_path: Path) -> None:
    day = a_row(POOLED, 0.991, 120.0) | {"requests": 900_000}
    assert "1.8 to 1.8 million requests a minute" in a_page(tmp_path, day)
    slow = a_page(tmp_path, day, day | {"day": "m-mid day 2", "wall_seconds": 60.0})
    assert "0.9 to 1.8 million requests a minute" in slow
    assert "(aim 1, **missed**)" in slow


def test_an_hour_that_lies_behind_the_end_of_a_trace_is_told_nothing_of(tmp_path: Path) -> None:
    day = a_row(ALONE, 0.991, 120.0)
    assert ALONE in a_page(tmp_path, day)
    assert ALONE not in a_page(tmp_path, day | {"hours": 0.5})


def test_every_entry_is_a_policy_of_the_catalogue() -> None:
    named = {entry.name.removesuffix(SPILLED) for entry in ENTRIES}
    assert set(POLICIES) <= named
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def test_a_run_goes_on_only_with_rows_of_its_own_code() -> None:
    code, numbers = digests()
    rows = [a_row("KPA", 0.995, 200.0), a_row(POOLED, 0.99, 100.0)]
    same = {"code": code, "numbers": numbers, "rows": rows}
    assert to_go_on_with(same, code, numbers) == same
    anew = {"code": "another", "numbers": numbers, "rows": []}
    assert to_go_on_with(same, "another", numbers) == anew
    assert to_go_on_with({"rows": rows}, code, numbers)["rows"] == []


def test_other_numbers_of_ours_leave_others_rows() -> None:
    code, numbers = digests()
    rows = [a_row("KPA", 0.995, 200.0), a_row(POOLED, 0.99, 100.0)]
    series = {"KPA": [1], POOLED: [2]}
    before = {"code": code, "numbers": numbers, "rows": rows, "series": series}
    told = to_go_on_with(before, code, "others")
    kept = {"KPA": [1]}
    assert told == {"code": code, "numbers": "others", "rows": rows[:1], "series": kept}
