"""Instruments are declared once, with a unit in the name and labels that stay bounded."""

import pytest

from skerry.plumbing import metrics


def test_instruments_render_and_are_listed() -> None:
    messages = metrics.counter(
        "skerry_test_messages_total", unit="messages", help="Messages seen.", labels=("plane",)
    )
    depth = metrics.gauge("skerry_test_queue_items", unit="items", help="Items waiting.")
    duration = metrics.histogram("skerry_test_wait_seconds", unit="seconds", help="Time waited.")
    messages.labels("a").inc(2)
    depth.set(5)
    duration.observe(0.3)
    text = metrics.render().decode()
    assert 'skerry_test_messages_total{plane="a"} 2.0' in text
    assert "skerry_test_queue_items 5.0" in text
    assert 'skerry_test_wait_seconds_bucket{le="0.5"} 1.0' in text
    assert "_created" not in text
    declared = {declaration.name: declaration for declaration in metrics.declared()}
    assert declared["skerry_test_messages_total"] == metrics.Declaration(
        name="skerry_test_messages_total",
        kind="counter",
        unit="messages",
        help="Messages seen.",
        labels=("plane",),
    )


@pytest.mark.parametrize(
    ("name", "unit", "help", "labels", "fault"),
    [
        ("test_wait_seconds", "seconds", "x", (), "are named"),
        ("skerry_Wait_seconds", "seconds", "x", (), "are named"),
        ("skerry_wait_ms", "seconds", "x", (), "ends in"),
        ("skerry_wait", "", "x", (), "ends in"),
        ("skerry_wait_seconds", "seconds", " ", (), "help"),
        ("skerry_wait_seconds", "seconds", "x", ("request_id",), "request_id"),
        ("skerry_wait_seconds", "seconds", "x", tuple("abcde"), "at most 4"),
        ("skerry_wait_seconds", "seconds", "x", ("Plane",), "lowercase"),
    ],
)
def test_unsound_declaration_is_refused(
    name: str, unit: str, help: str, labels: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        metrics.gauge(name, unit=unit, help=help, labels=labels)


def test_counter_says_that_it_is_a_total() -> None:
    with pytest.raises(ValueError, match="_plans_total"):
        metrics.counter("skerry_solver_plans", unit="plans", help="x")


def test_second_declaration_of_a_name_is_refused() -> None:
    metrics.gauge("skerry_twice_items", unit="items", help="x")
    with pytest.raises(ValueError, match="twice"):
        metrics.gauge("skerry_twice_items", unit="items", help="x")
