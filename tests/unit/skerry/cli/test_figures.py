"""What `skerry plan -f` says of where its figures come from."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skerry.cli.figures import age, measured_lines
from skerry.client.rows import ThroughputRow
from tests.unit.skerry.cli.test_plan_tables import a_plan, a_row

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def a_figure(**fields: Any) -> ThroughputRow:
    measured: dict[str, Any] = {
        "accelerator": "h100",
        "tokens_per_second": 431.0,
        "profile": "vllm-0123",
        "measured_at": NOW - timedelta(hours=3),
        "measured_tokens_per_second": 431.0,
        "load_seconds": 41.0,
    }
    return ThroughputRow(**(measured | fields))


UNMEASURED = a_figure(
    tokens_per_second=None,
    profile="",
    measured_at=None,
    measured_tokens_per_second=None,
    load_seconds=0.0,
)


def lines(source: str, *figures: ThroughputRow, ready: str = "") -> list[str]:
    row = a_row(throughput_source=source, throughputs=figures, ready_source=ready)
    return list(measured_lines(a_plan(row, a_row("other")), "demo", NOW))


def test_a_profile_is_named_with_its_figures_and_its_age() -> None:
    assert lines("profile", a_figure(), ready="starts") == [
        "measured: 431.0 tokens/s in time on h100, loaded in 41 s (profile vllm-0123, 3 hours old)",
        "time to ready: from starts of this very kind, as planes measured them",
    ]


def test_figures_of_the_operators_are_said_to_be_such() -> None:
    own = a_figure(tokens_per_second=500.0)
    assert lines("deployment", own) == [
        (
            "measured: not used: 500.0 tokens/s on h100 is the operator's own; 431.0 tokens/s"
            " in time on h100, loaded in 41 s (profile vllm-0123, 3 hours old)"
        )
    ]
    (line,) = lines("deployment", a_figure(tokens_per_second=500.0, profile="", measured_at=None))
    assert line == (
        "measured: not used: 500.0 tokens/s on h100 is the operator's own, nothing was measured on"
        " h100"
    )


def test_with_nothing_measured_it_is_said_plainly_and_how_to_mend_it() -> None:
    assert lines("none", UNMEASURED, ready="none") == [
        (
            "measured: nothing on h100: every replica counts alike; `skerry profile demo`"
            " measures one that runs"
        ),
        (
            "time to ready: from nothing: no start like it was measured, and no profile tells"
            " its load time"
        ),
    ]


def test_a_part_of_the_figures_is_shown_and_said_not_to_be_used() -> None:
    late = a_figure(measured_tokens_per_second=None, load_seconds=0.0)
    first, second = lines("none", late, UNMEASURED)
    assert first == (
        "measured: not used, for want of figures of every accelerator in time: at no concurrency in"
        " time on h100 (profile vllm-0123, 3 hours old)"
    )
    assert "nothing on h100" in second


def test_a_control_plane_that_does_not_tell_has_no_lines() -> None:
    assert lines("") == []
    assert list(measured_lines(a_plan(), "demo", NOW)) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just measured"),
        (61, "1 minute old"),
        (600, "10 minutes old"),
        (10_000, "3 hours old"),
        (90_000, "25 hours old"),
        (1_000_000, "12 days old"),
    ],
)
def test_an_age_is_told_as_people_say_it(seconds: float, text: str) -> None:
    assert age(seconds) == text
