"""What a plane decided by itself is kept until it can be told, the newest of it, each once."""

from dataclasses import replace
from datetime import UTC, datetime

from skerry.fleet.autoscaling.told import ToldDecision
from workload_plane.autoscale.history import (
    AGE_SECONDS_MAX,
    DECISIONS_MAX,
    OF_DEPLOYMENT_MAX,
    OF_DEPLOYMENT_MIN,
    SAME_SECONDS,
    DecisionHistory,
)

DECISION = ToldDecision(
    decided_at=datetime(2030, 1, 1, 12, tzinfo=UTC),
    sentence="keep 3.",
    because="steady",
    target=3,
    ready=3,
    starting=0,
    draining=0,
    floor=1,
    ceiling=4,
)


def targets(history: DecisionHistory, after: int = 0) -> list[int]:
    """The targets that are told after a decision."""
    return [one.decision.target for one in history.after(after)]


def test_each_decision_that_differs_is_kept_and_one_a_minute_of_those_that_do_not() -> None:
    history = DecisionHistory()
    for second in range(0, 180, 5):
        # Its figures move all the time; what it says stays until the last.
        target = 3 if second < 170 else 4
        told = replace(DECISION, sentence=f"{second}", concurrency=float(second), target=target)
        history.note("demo", told, float(second))
    kept = history.after(0)
    assert [(one.at, one.decision.target) for one in kept] == [
        (0.0, 3),
        (SAME_SECONDS, 3),
        (2 * SAME_SECONDS, 3),
        (170.0, 4),
    ]
    assert kept[1].decision.concurrency == SAME_SECONDS, "with the figures of its moment"


def test_only_what_is_new_is_told_in_the_order_of_all_deployments() -> None:
    history = DecisionHistory()
    history.note("one", replace(DECISION, target=1), 1.0)
    history.note("two", replace(DECISION, target=2), 2.0)
    number = history.after(0)[-1].number
    history.note("one", replace(DECISION, target=3), 3.0)
    assert targets(history) == [1, 2, 3]
    assert targets(history, number) == [3]
    assert targets(history, history.after(0)[-1].number) == []


def test_what_is_kept_is_bounded_in_number_and_age_and_by_how_many_deployments_there_are() -> None:
    history = DecisionHistory()
    for number in range(200):
        history.note("demo", replace(DECISION, target=number), float(number))
    assert targets(history) == list(range(200 - OF_DEPLOYMENT_MAX, 200))
    history.note("demo", replace(DECISION, target=7), 200.0 + AGE_SECONDS_MAX)
    assert targets(history) == [7], "the others are too old"
    many = 2 * DECISIONS_MAX // OF_DEPLOYMENT_MIN
    for turn in range(2 * OF_DEPLOYMENT_MIN):
        for deployment in range(many):
            history.note(f"d{deployment}", replace(DECISION, target=turn), 0.0)
    assert len(history.after(0)) == many * OF_DEPLOYMENT_MIN + 1


def test_a_deployment_that_is_gone_is_told_no_more() -> None:
    history = DecisionHistory()
    history.note("demo", DECISION, 1.0)
    history.keep({"other"})
    assert history.after(0) == ()


def test_a_clock_that_went_back_keeps_all_and_goes_on() -> None:
    history = DecisionHistory()
    history.note("demo", DECISION, 1_000.0)
    history.note("demo", DECISION, 1.0)
    history.note("demo", replace(DECISION, target=5), 2.0)
    assert targets(history) == [3, 3, 5]
