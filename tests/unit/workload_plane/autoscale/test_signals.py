"""Counters of a picker and of engines make readings; what nobody counted makes none."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from skerry.fleet.answers import FIRST_TOKEN_SECONDS
from skerry.fleet.autoscaling.decision import Bounds, ReplicaCounts
from skerry.fleet.autoscaling.factors import ScalingFactors
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.local import LocalScaler
from skerry.fleet.autoscaling.work import Engine
from skerry.fleet.coefficients import Coefficients
from workload_plane.autoscale.growth import EngineCounters
from workload_plane.autoscale.signals import Asked, DeploymentSignals, Goal, Readings
from workload_plane.picker.counts import Answers, Arrivals, DeploymentCounters
from workload_plane.replica_host.load import UNKNOWN_LOAD, EngineLoad

Loads = dict[str, EngineLoad | None]
TPOT = 0.05
GOAL = Goal(ttft_seconds=1.0, tpot_seconds=TPOT)
ENGINE = Engine(
    coefficients=Coefficients(
        accelerator="cpu",
        prefill_seconds_per_token=1e-3,
        decode_seconds_per_token=1e-3,
        iteration_seconds=0.02,
    ),
    batch=10.0,
)


def asked(
    requests: int = 0,
    tokens: float = 0.0,
    sent: int = 0,
    finished: int = 0,
    run: int = 1,
    **more: float,
) -> Asked:
    counters = DeploymentCounters(
        users=Arrivals(
            requests=requests,
            prompt_tokens=tokens,
            away_requests=int(more.get("away", 0)),
            away_prompt_tokens=more.get("away_tokens", 0.0),
            open=int(more.get("open", 0)),
        ),
        forwarded=Arrivals(requests=sent),
        answers=Answers(
            finished=finished,
            judged=int(more.get("judged", 0)),
            good=int(more.get("good", 0)),
            failed=int(more.get("failed", 0)),
        ),
        here=int(more.get("here", 0)),
        waiting=int(more.get("waiting", 0)),
    )
    return Asked(run=run, counters=counters)


def an_engine(
    prompt: int = 0, cached: int = 0, generated: int = 0, pace: float = 0.01, queued: int = 0
) -> EngineLoad:
    return EngineLoad(
        running_requests=2,
        queued_requests=queued,
        prompt_tokens=prompt,
        cached_prompt_tokens=cached,
        generated_tokens=generated,
        first_tokens=generated // 10,
        token_intervals=generated,
        token_interval_seconds=generated * pace,
    )


def taken(signals: DeploymentSignals, at: float, told: Asked, *loads: EngineLoad) -> Readings:
    readings = signals.take(at, told, {f"r{n}": one for n, one in enumerate(loads)}, GOAL)
    assert readings is not None
    return readings


def test_only_what_grew_since_the_first_look_counts() -> None:
    signals = DeploymentSignals()
    first = taken(signals, 0.0, asked(requests=900), an_engine(generated=5_000))
    assert (first.local.requests_total, first.local.output_tokens_total) == (0.0, 0.0)
    second = taken(signals, 5.0, asked(requests=910, finished=4), an_engine(generated=5_400))
    assert second.local.requests_total == 10.0
    assert (second.local.finished_total, second.local.output_tokens_total) == (4.0, 400.0)


def test_what_peers_sent_is_served_here_and_told_to_the_fleet_by_the_peers() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked())
    readings = taken(signals, 5.0, asked(requests=10, sent=7, here=5, open=3))
    assert readings.fleet is not None
    assert (readings.local.requests_total, readings.fleet.requests_total) == (17.0, 10.0)
    assert (readings.local.in_flight, readings.fleet.in_flight) == (5.0, 3.0)


def test_what_a_peer_answers_for_want_of_a_replica_is_no_need_here() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked())
    told = asked(requests=10, tokens=900.0, away=8, away_tokens=800.0)
    readings = taken(signals, 5.0, told)
    assert readings.fleet is not None
    assert (readings.local.requests_total, readings.local.prompt_tokens_total) == (2.0, 100.0)
    assert readings.fleet.requests_total == 10.0


def test_the_room_and_the_engines_queues_wait_and_are_in_flight() -> None:
    signals = DeploymentSignals()
    reading = taken(signals, 0.0, asked(waiting=3, here=4), an_engine(queued=2)).local
    assert (reading.waiting_requests, reading.in_flight) == (5.0, 7.0)


def test_prompts_are_as_long_as_engines_counted_and_not_as_their_bodies_looked() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked(), an_engine())
    # Ten requests of 100 tokens by their bodies; the engine read 2,000, 500 of them cached.
    taken(signals, 5.0, asked(10, 1_000.0, finished=10), an_engine(prompt=2_000, cached=500))
    before = taken(signals, 10.0, asked(10, 1_000.0, finished=10), an_engine(2_000, 500)).local
    after = taken(signals, 15.0, asked(20, 2_000.0, finished=10), an_engine(2_000, 500)).local
    grown = after.prompt_tokens_total - before.prompt_tokens_total
    assert grown == pytest.approx(1_500.0, rel=0.01)


def test_a_policy_that_reads_no_bodies_has_the_engines_mean() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked(), an_engine())
    taken(signals, 5.0, asked(10, finished=10), an_engine(prompt=3_000))
    reading = taken(signals, 10.0, asked(20, finished=10), an_engine(prompt=3_000)).local
    assert reading.prompt_tokens_total >= 3_000.0


def test_a_picker_that_began_again_counts_from_zero() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked(requests=100))
    reading = taken(signals, 5.0, asked(requests=6, run=2)).local
    assert reading.requests_total == 6.0


def test_an_engine_that_began_again_takes_nothing_away() -> None:
    counters = EngineCounters()
    counters.take(0.0, {"r": an_engine(prompt=900, generated=900)})
    (growth,) = counters.take(5.0, {"r": an_engine(prompt=30, generated=20)}).values()
    assert (growth.prompt_tokens, growth.generated_tokens) == (30.0, 20.0)


def test_a_picker_or_engines_that_say_nothing_make_no_reading() -> None:
    signals = DeploymentSignals()
    assert signals.take(0.0, None, {"r0": an_engine()}, GOAL) is None
    assert signals.take(5.0, asked(), {"r0": None, "r1": None}, GOAL) is None
    assert signals.take(10.0, asked(), {"r0": UNKNOWN_LOAD, "r1": None}, GOAL) is None
    assert signals.take(15.0, asked(), {}, GOAL) is not None  # nothing runs: nobody to ask


def test_the_fleet_hears_a_partly_missing_reading_only_with_known_lengths() -> None:
    signals = DeploymentSignals()
    engines: Loads = {"r0": an_engine(), "r1": an_engine()}
    partly = signals.take(0.0, asked(), engines | {"r1": UNKNOWN_LOAD}, GOAL)
    assert partly is not None
    assert (partly.whole, partly.fleet) == (False, None)
    for at in (5.0, 10.0):
        engines = {name: an_engine(0, 0, int(at) * 10) for name in engines}
        readings = signals.take(at, asked(int(at), finished=int(at)), engines, GOAL)
        assert readings is not None
        assert readings.whole
        told = readings.local.output_tokens_total
    partly = signals.take(15.0, asked(15, finished=15), engines | {"r1": None}, GOAL)
    assert partly is not None
    assert not partly.whole
    assert partly.fleet is not None
    assert partly.fleet.output_tokens_total - told == 100.0


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(lambda loads: dict.fromkeys(loads, UNKNOWN_LOAD), id="no engine has a page"),
        pytest.param(lambda loads: loads | {"r0": UNKNOWN_LOAD}, id="one engine has no page"),
        pytest.param(lambda loads: loads | {"r0": None}, id="one host is silent"),
        pytest.param(lambda loads: dict.fromkeys(loads) | {"r0": loads["r0"]}, id="one is heard"),
    ],
)
def test_replicas_that_do_not_tell_take_none_away_and_change_nothing_once_they_tell(
    told: Callable[[Loads], Loads],
) -> None:
    signals = DeploymentSignals()
    scaler = LocalScaler(ScalingFactors(min_replicas=1, max_replicas=100))
    bounds, wanted = Bounds(floor=1, ceiling=100), [1]
    for tick in range(720):
        at, requests = tick * 5.0, tick * 50  # of 1,000 tokens and 100 of answer, by ten engines
        each: Loads = {f"r{n}": an_engine(requests * 100, 0, requests * 10) for n in range(10)}
        loads = told(each) if 240 < tick < 480 else each
        counted = asked(requests, requests * 1_000.0, finished=requests, here=20)
        readings = signals.take(at, counted, loads, GOAL)
        if readings is not None:
            scaler.observe(readings.local, whole=readings.whole)
        counts = ReplicaCounts(ready=wanted[-1])
        wanted.append(scaler.decide(at, counts, bounds, ENGINE, 60.0).target)
    assert wanted[240] > 10
    assert set(wanted[240:]) == {wanted[240]}


def test_more_load_is_answered_though_a_replica_does_not_tell() -> None:
    signals = DeploymentSignals()
    scaler = LocalScaler(ScalingFactors(min_replicas=1, max_replicas=100))
    bounds, running, requests = Bounds(floor=1, ceiling=100), 1, 0
    engines: Loads = {"r0": an_engine(), "r1": None}
    found = []
    for tick in range(200):
        requests += 50 if tick < 100 else 100
        engines["r0"] = an_engine(requests * 500, 0, requests * 50)
        engines["r1"] = engines["r0"] if tick < 50 else None
        counted = asked(requests, requests * 1_000.0, finished=requests, here=20)
        readings = signals.take(tick * 5.0, counted, engines, GOAL)
        assert readings is not None
        scaler.observe(readings.local, whole=readings.whole)
        counts = ReplicaCounts(ready=running)
        running = scaler.decide(tick * 5.0, counts, bounds, ENGINE, 60.0).target
        found.append(running)
    assert 1.9 * found[99] <= found[199] <= 2.2 * found[99]  # and what forecasts missed


def test_without_a_picker_what_came_while_one_was_silent_is_counted_once_all_tell() -> None:
    signals = DeploymentSignals()
    signals.take_engines(0.0, {"r0": an_engine(), "r1": an_engine()}, GOAL)
    heard = an_engine(900, 0, 100)
    assert signals.take_engines(5.0, {"r0": heard, "r1": None}, GOAL) is None
    readings = signals.take_engines(10.0, {"r0": heard, "r1": an_engine(900, 0, 100)}, GOAL)
    assert readings is not None
    assert (readings.local.requests_total, readings.local.output_tokens_total) == (20.0, 200.0)


def test_what_came_while_the_picker_was_not_heard_is_counted_once_it_is() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked(requests=10))
    assert signals.take(5.0, None, {}, GOAL) is None
    assert taken(signals, 10.0, asked(requests=30)).local.requests_total == 20.0


def test_first_bytes_count_once_though_no_replica_tells_its_load_for_a_while() -> None:
    signals = DeploymentSignals()
    bounds = len(FIRST_TOKEN_SECONDS) + 1
    for look in range(6):
        told = asked()
        counters = replace(told.counters, first_bytes=(10.0 * look,) + (0.0,) * (bounds - 1))
        load = an_engine() if look in (0, 5) else None
        signals.take(5.0 * look, replace(told, counters=counters), {"r0": load}, GOAL)
        recent = signals.recent(5.0 * look)
    assert recent is not None
    assert sum(recent.first_tokens) == 50.0


def test_answers_of_engines_that_do_not_tell_tokens_have_no_length() -> None:
    signals = DeploymentSignals()
    silent = EngineLoad(running_requests=1)
    taken(signals, 0.0, asked(), silent)
    reading = taken(signals, 5.0, asked(10, finished=10), silent).local
    assert reading.finished_total == 0.0


def test_answers_whose_tokens_come_too_slowly_are_not_good() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked(), an_engine(), an_engine())
    slow = an_engine(generated=300, pace=2 * TPOT)
    told = asked(20, judged=20, good=20, finished=20)
    reading = taken(signals, 5.0, told, slow, an_engine(generated=100)).local
    assert (reading.judged_total, reading.good_total) == (20.0, 5.0)


def first_tokens(*counts: float) -> EngineLoad:
    """Return an engine whose first tokens took up to 0.5, 1.5 and any number of seconds."""
    bounds = (0.5, 1.5, math.inf)
    return replace(an_engine(), first_token_buckets=tuple(zip(bounds, counts, strict=True)))


def test_a_first_token_is_late_though_the_answers_head_was_early() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked(), first_tokens(5, 5, 5))
    told = asked(20, judged=20, good=20, finished=20)
    # Of twenty more 4 within 0.5 s and 12 within 1.5 s: 8 within the second that is promised.
    reading = taken(signals, 5.0, told, first_tokens(9, 17, 25)).local
    assert reading.judged_total == 20.0
    assert reading.good_total == pytest.approx(8.0)


def test_a_wait_in_the_room_is_late_though_the_engine_was_early() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked(), first_tokens(0, 0, 0))
    told = asked(20, judged=10, good=5, finished=20)
    reading = taken(signals, 5.0, told, first_tokens(20, 20, 20)).local
    assert (reading.judged_total, reading.good_total) == (20.0, 10.0)


def test_who_was_refused_was_not_served_in_time() -> None:
    signals = DeploymentSignals()
    taken(signals, 0.0, asked())
    reading = taken(signals, 5.0, asked(20, judged=10, good=10, failed=3)).local
    assert (reading.judged_total, reading.good_total) == (13.0, 10.0)


def test_first_tokens_of_an_engine_that_began_again_count_from_zero() -> None:
    counters = EngineCounters()
    counters.take(0.0, {"r": first_tokens(50, 60, 70)})
    (growth,) = counters.take(5.0, {"r": first_tokens(2, 4, 4)}).values()
    assert growth.first_within(0.5) == (4.0, 2.0)
    assert growth.first_within(60.0) == (4.0, 4.0)
    assert replace(growth, first_token_buckets=()).first_within(1.0) is None


def test_without_a_picker_engines_say_what_came() -> None:
    signals = DeploymentSignals()
    first = signals.take_engines(0.0, {"r": an_engine()}, GOAL)
    assert first is not None
    second = signals.take_engines(5.0, {"r": an_engine(900, 0, 100, queued=1)}, GOAL)
    assert second is not None
    expected = LoadReading(
        at=5.0,
        requests_total=10.0,
        prompt_tokens_total=900.0,
        finished_total=10.0,
        output_tokens_total=100.0,
        in_flight=3.0,
        waiting_requests=1.0,
        waiting_prompt_tokens=90.0,
    )
    assert second.local == second.fleet == expected


def test_without_a_picker_an_engine_that_does_not_tell_makes_no_reading() -> None:
    signals = DeploymentSignals()
    assert signals.take_engines(0.0, {"r": UNKNOWN_LOAD}, GOAL) is None
    assert signals.take_engines(0.0, {"r": None}, GOAL) is None
