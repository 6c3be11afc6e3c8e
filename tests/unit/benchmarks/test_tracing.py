"""The page of what tracing costs: ratios of each round, and a page that is of its results."""

import json
from pathlib import Path

from benchmarks.bench_tracing import LISTED_IN, PAGE, RESULTS, Figures, summed_up
from benchmarks.tracing_page import LISTED, OFF, list_page, page_of


def figures(requests: float, cpu: float, spans: float) -> Figures:
    """Return what one share came to in one round."""
    return Figures(
        requests_per_second=requests, cpu_microseconds=cpu, p50_ms=2.0, spans=spans, failed=0
    )


# The machine was half as fast in the second round, and traced requests cost a tenth in both.
ROUNDS = [
    {OFF: figures(1000, 100, 0), "1 %": figures(900, 110, 0.03)},
    {OFF: figures(500, 200, 0), "1 %": figures(450, 220, 0.05)},
    {OFF: figures(800, 150, 0), "1 %": figures(720, 165, 0.04)},
]


def test_ratios_are_of_what_was_measured_in_the_same_round() -> None:
    told = summed_up(ROUNDS)["1 %"]
    assert (told["requests_per_second"], told["requests_per_second_ratio"]) == (720, 0.9)
    assert (told["cpu_microseconds"], told["cpu_microseconds_ratio"]) == (165, 1.1)
    assert (told["spans"], told["failed"]) == (0.04, 0)


def test_the_page_tells_every_share_beside_what_is_not_traced() -> None:
    rows = summed_up(ROUNDS)
    values = {"machine": "one", "load_before": 0.1, "rounds": 3, "seconds": 1, "rate": 500.0}
    page = page_of(
        {**values, "connections": 64, "calls": [16, 16], "gateway": rows, "replica": rows}
    )
    line = "| 1 % | 720 | 0.900 | 165 | 1.100 | 2.00 | 1.000 | 0.040 | 0 |"
    assert page.count(line) == page.count("| off | 800 | 1.000 |") == 2
    assert "Rounds: 3." in page


def test_the_page_is_of_the_results_that_there_are_and_is_linked_to() -> None:
    made = page_of(json.loads(RESULTS.read_text())) if RESULTS.exists() else ""
    assert (PAGE.read_text() if PAGE.exists() else "") == made
    assert (LISTED in LISTED_IN.read_text()) == bool(made)


def test_it_is_linked_to_once(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Tracing\n")
    for _ in range(2):
        list_page(page)
    assert page.read_text() == f"# Tracing\n\n{LISTED}"
