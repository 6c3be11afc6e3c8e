"""The local loop on loads that are told: what it does, and the sentence it has for it."""

from dataclasses import replace

from skerry.fleet.autoscaling.decision import Because, Bounds, ReplicaCounts
from skerry.fleet.autoscaling.factors import ScalingFactors
from skerry.fleet.autoscaling.load import LoadReading, LoadWindow
from skerry.fleet.autoscaling.local import LocalScaler
from skerry.fleet.autoscaling.work import Engine, engine_of
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.scaling import Strategy

COEFFICIENTS = Coefficients(
    accelerator="H100-80G",
    prefill_seconds_per_token=1e-4,
    decode_seconds_per_token=1e-4,
    iteration_seconds=0.02,
)
ENGINE = Engine(coefficients=COEFFICIENTS, batch=50.0)
WIDE = Bounds(floor=0, ceiling=20)
FACTORS = ScalingFactors(min_replicas=0, max_replicas=20, target_utilization=0.5)


def a_reading(at: float, rate: float, **more: float) -> LoadReading:
    """Return the reading of a constant rate of 1,000 tokens in and 100 out: 0.15 replicas each."""
    return LoadReading(
        at=at,
        requests_total=rate * at,
        prompt_tokens_total=1_000.0 * rate * at,
        finished_total=rate * at,
        output_tokens_total=100.0 * rate * at,
        in_flight=more.pop("in_flight", rate),
        **more,
    )


def watched(scaler: LocalScaler, seconds: int, rate: float) -> LocalScaler:
    """Let it read a constant rate."""
    for at in range(0, seconds + 1, 5):
        scaler.observe(a_reading(float(at), rate))
    return scaler


def test_work_is_what_tokens_cost() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=10.0)
    decision = scaler.decide(60.0, ReplicaCounts(ready=1), WIDE, ENGINE)
    assert decision.need is not None
    assert round(decision.need.work, 6) == 1.5  # 10 a second, 0.1 s of prompt and 100 x 0.5 ms
    assert decision.target == 3
    assert decision.start == 2
    assert decision.describe() == (
        "start 2, for 3 (1 ready; envelope 0 to 20) because more are needed; work that keeps 1.50"
        " replicas busy, at 50% utilisation: 3."
    )


def test_starting_replicas_count() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=10.0)
    decision = scaler.decide(60.0, ReplicaCounts(ready=1, starting=2), WIDE, ENGINE)
    assert (decision.target, decision.start, decision.because) == (3, 0, Because.STEADY)


def test_what_drains_serves_again_first() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=10.0)
    decision = scaler.decide(60.0, ReplicaCounts(ready=1, draining=1), WIDE, ENGINE)
    assert (decision.revive, decision.start) == (1, 1)


def test_it_goes_down_only_after_a_whole_delay_of_less() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=10.0)
    counts = ReplicaCounts(ready=6)
    for at in range(65, 400, 5):
        scaler.observe(a_reading(float(at), 10.0))
        decision = scaler.decide(float(at), counts, WIDE, ENGINE)
        assert decision.target == (6 if at < 300 else 4), at
    # Three would be exactly full: there must be room after one has gone.
    assert decision.because is Because.SURPLUS


def test_requests_that_wait_are_added() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=0.0)
    scaler.observe(a_reading(65.0, 0.0, in_flight=1.0, waiting_requests=1.0))
    from_nothing = scaler.decide(65.0, ReplicaCounts(ready=0), WIDE, ENGINE)
    assert (from_nothing.target, from_nothing.start) == (1, 1)


def test_what_is_in_flight_counts_where_the_tokens_tell_too_little() -> None:
    scaler = LocalScaler(FACTORS)
    for at in range(0, 65, 5):
        scaler.observe(a_reading(float(at), 1.0, in_flight=190.0))
    decision = scaler.decide(60.0, ReplicaCounts(ready=1), WIDE, ENGINE)
    assert decision.target == 4


def test_the_fleets_target_is_followed_while_it_is_fresh() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=10.0)
    bounds = Bounds(floor=0, ceiling=20, target=2)
    decision = scaler.decide(60.0, ReplicaCounts(ready=3), bounds, ENGINE)
    assert (decision.target, decision.because) == (2, Because.GRANTED)


def test_a_queue_that_would_last_is_added_to_the_fleets_target_at_once() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=10.0)
    scaler.observe(a_reading(65.0, 10.0, in_flight=600.0, waiting_requests=1_000.0))
    bounds = Bounds(floor=0, ceiling=20, target=2)
    decision = scaler.decide(65.0, ReplicaCounts(ready=2), bounds, ENGINE)
    # 50 s of a replica's work wait, to be gone in 30; and 1.5 replicas are busy with what comes.
    assert (decision.target, decision.because) == (3, Because.NEED)


def test_a_queue_near_the_drain_time_turns_nothing_back_and_its_replicas_go_in_the_end() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=10.0)
    bounds, running, found = Bounds(floor=0, ceiling=20, target=2), 2, []
    for at in range(65, 365, 5):
        waits = (1_000.0 if at % 20 else 500.0) if at < 180 else 0.0
        scaler.observe(a_reading(float(at), 10.0, in_flight=600.0, waiting_requests=waits))
        counts = ReplicaCounts(ready=2, starting=running - 2)
        decision = scaler.decide(float(at), counts, bounds, ENGINE, 120.0)
        running = decision.target
        found.append((running, decision.because))
    assert [running for running, _ in found] == [3] * 46 + [2] * 14
    assert found[45][1] is Because.DELAY
    assert found[-1][1] is Because.GRANTED


def test_by_concurrency_the_fleets_target_adds_what_others_lack_and_takes_nothing() -> None:
    scaler = LocalScaler(replace(FACTORS, strategy=Strategy.CONCURRENCY))
    for at in range(0, 65, 5):
        scaler.observe(a_reading(float(at), 1.0, in_flight=1.0))
    found = []
    for target in (5, 1, None):
        bounds = replace(WIDE, target=target)
        decision = scaler.decide(60.0, ReplicaCounts(ready=2), bounds, ENGINE)
        found.append((decision.target, decision.because))
    assert found == [(5, Because.GRANTED), (2, Because.STEADY), (2, Because.STEADY)]


def test_without_coefficients_it_goes_by_concurrency_and_says_so() -> None:
    scaler = watched(LocalScaler(FACTORS), 60, rate=10.0)
    decision = scaler.decide(60.0, ReplicaCounts(ready=1), WIDE, None)
    assert decision.target == 20
    assert decision.fallback
    assert "no coefficients" in decision.describe()


def test_counters_that_begin_again_at_zero_lose_no_load() -> None:
    window = LoadWindow()
    for at in range(0, 65, 5):
        window.observe(a_reading(float(at), 10.0))
    for at in range(65, 125, 5):  # another process counts
        moved = a_reading(float(at - 60), 10.0)
        window.observe(
            LoadReading(
                at=float(at),
                requests_total=moved.requests_total,
                prompt_tokens_total=moved.prompt_tokens_total,
                finished_total=moved.finished_total,
                output_tokens_total=moved.output_tokens_total,
                in_flight=10.0,
            )
        )
    view = window.view(120.0)
    assert view is not None
    assert round(view.requests_long, 6) == 10.0
    assert view.output_tokens_mean == 100.0


def test_the_utilisation_target_falls_fast_and_rises_slowly() -> None:
    scaler = LocalScaler(FACTORS)
    for at in range(0, 605, 5):
        scaler.observe(a_reading(float(at), 10.0, judged_total=10.0 * at, good_total=10.0 * at))
        scaler.decide(float(at), ReplicaCounts(ready=3), WIDE, ENGINE)
    risen = scaler.utilization.value
    assert 0.5 < risen <= 0.52
    for at in range(605, 905, 5):
        good = 6_000.0 + 5.0 * (at - 600)
        scaler.observe(a_reading(float(at), 10.0, judged_total=10.0 * at, good_total=good))
        scaler.decide(float(at), ReplicaCounts(ready=3), WIDE, ENGINE)
    assert scaler.utilization.value < risen - 0.15


def test_the_batch_of_an_engine_is_what_its_objective_leaves() -> None:
    assert engine_of(COEFFICIENTS, 64, tpot_seconds=0.08).batch == 64.0
    assert round(engine_of(COEFFICIENTS, 64, tpot_seconds=0.025).batch, 6) == 50.0
    assert engine_of(COEFFICIENTS, 64, tpot_seconds=0.01).batch == 1.0
