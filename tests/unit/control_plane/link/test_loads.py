"""Loads as planes tell them: what cannot be is left out, and values are made when asked for."""

import math
from dataclasses import replace

import pytest

from control_plane.link.loads import HeardLoads
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.need import Need
from skerry.fleet.autoscaling.told import (
    LOADS_MAX,
    SENTENCE_CHARACTERS_MAX,
    DeploymentLoad,
    LoadReport,
    ToldDecision,
)
from skerry.fleet.coefficients import Coefficients
from skerry.wire.scaling import answers_to_proto, loads_from_proto, loads_to_proto
from tests.builders import T0

READING = LoadReading(
    at=7.0,
    requests_total=9.0,
    prompt_tokens_total=900.0,
    finished_total=8.0,
    output_tokens_total=800.0,
    in_flight=1.0,
    waiting_requests=0.5,
    waiting_prompt_tokens=40.0,
    judged_total=8.0,
    good_total=7.0,
)
DECISION = ToldDecision(
    decided_at=T0,
    sentence="start 2, for 3.",
    because="need",
    target=3,
    ready=1,
    starting=0,
    draining=1,
    floor=1,
    ceiling=4,
    granted=2,
    scheduled=1,
    min_available=1,
    need=Need(
        replicas=3,
        exact=2.5,
        work=1.5,
        reserve=0.25,
        queue=0.0,
        saturation=1.0,
        utilization=0.7,
        spares=1,
    ),
    highest=4,
    concurrency=2.5,
    fallback=True,
)
COSTS = Coefficients(
    accelerator="cpu",
    prefill_seconds_per_token=0.001,
    decode_seconds_per_token=0.002,
    iteration_seconds=0.01,
)
LOAD = DeploymentLoad(deployment="demo", reading=READING, decision=DECISION, coefficients=(COSTS,))


def heard(*loads: DeploymentLoad) -> messages.LoadReport:
    """The message of these loads."""
    return loads_to_proto(LoadReport(loads=loads))


def test_all_that_is_told_comes_back_with_the_moment_it_was_heard() -> None:
    message = heard(LOAD, DeploymentLoad(deployment="other"))
    assert loads_from_proto(message, 7.0).loads == (LOAD, DeploymentLoad(deployment="other"))
    kept = HeardLoads(message, 8.0)
    assert kept.of("demo") == replace(LOAD, reading=replace(READING, at=8.0))
    assert kept.of("nobody") is None
    (counted,) = kept.readings().loads
    assert (counted.reading, counted.decision) == (replace(READING, at=8.0), None)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_a_reading_that_cannot_be_is_missing_and_hides_no_other(wrong: float) -> None:
    message = heard(LOAD, replace(LOAD, deployment="other"))
    message.loads[0].reading.in_flight = wrong
    message.loads[0].coefficients[0].iteration_seconds = wrong
    message.loads[0].decision.concurrency = wrong
    first, second = loads_from_proto(message, 7.0).loads
    assert (first.reading, first.coefficients) == (None, ())
    assert first.decision is not None
    assert first.decision.concurrency == 0.0
    assert second == replace(LOAD, deployment="other")


def test_what_people_read_is_bounded_and_printable_and_new_reasons_are_kept() -> None:
    message = heard(LOAD)
    decision = message.loads[0].decision
    decision.sentence, decision.because = "\x1b[31m" + "x" * 5_000, "tides"
    decision.target = -4
    (load,) = loads_from_proto(message, 7.0).loads
    assert load.decision is not None
    assert load.decision.sentence.startswith("?[31mx")
    assert len(load.decision.sentence) == SENTENCE_CHARACTERS_MAX
    assert (load.decision.because, load.decision.target) == ("tides", 0)


@pytest.mark.parametrize("wrong", ["", "x" * 64, "\x1b[2J", "cpu\n"])
def test_costs_of_an_accelerator_that_has_no_such_name_are_left_out(wrong: str) -> None:
    message = heard(LOAD, replace(LOAD, deployment="other"))
    message.loads[0].coefficients[0].accelerator = wrong
    first, second = loads_from_proto(message, 7.0).loads
    assert first == replace(LOAD, coefficients=())
    assert second == replace(LOAD, deployment="other")


ANSWERS = RecentAnswers(
    seconds=300.0,
    judged=8.0,
    good=7.0,
    first_tokens=(0.0, 2.5, *(0.0,) * 9),
    intervals=(4.0, *(0.0,) * 16),
)


def test_how_answers_went_comes_back_and_what_cannot_be_is_missing() -> None:
    message = heard(replace(LOAD, answers=ANSWERS), DeploymentLoad(deployment="other"))
    kept = HeardLoads(message, 8.0)
    assert (kept.answers("demo"), kept.answers("other"), kept.answers("nobody")) == (
        ANSWERS,
        None,
        None,
    )
    other_bounds = message.loads[0].answers
    del other_bounds.first_tokens[-1]
    assert HeardLoads(message, 8.0).answers("demo") is None
    other_bounds.CopyFrom(answers_to_proto(ANSWERS))
    for wrong in (math.nan, math.inf, -1.0, 1e30):
        other_bounds.intervals[3] = wrong
        assert HeardLoads(message, 8.0).answers("demo") is None
    assert loads_from_proto(message, 7.0).loads[0].reading == READING


def test_a_report_is_bounded_and_the_first_of_a_name_counts() -> None:
    message = heard(LOAD)
    message.loads.extend(loads_to_proto(LoadReport(loads=(replace(LOAD, decision=None),))).loads)
    assert HeardLoads(message, 7.0).of("demo") == LOAD
    assert loads_from_proto(message, 7.0).loads == (LOAD,)
    for number in range(LOADS_MAX + 5):
        message.loads.add(deployment=f"d{number}")
    assert len(loads_from_proto(message, 7.0).loads) == LOADS_MAX - 1
    assert HeardLoads(message, 7.0).of(f"d{LOADS_MAX}") is None


def test_a_count_that_nobody_can_have_counted_is_none() -> None:
    load = DeploymentLoad(deployment="demo", reading=replace(READING, requests_total=1e308))
    told = loads_from_proto(loads_to_proto(LoadReport(loads=(load,))), 7.0)
    assert told.loads[0].reading is None
