"""What autoscaling promises whatever comes in: bounds, no reversal, no loss for want of signals."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.autoscaling.decision import Bounds, ReplicaCounts, ScalingDecision
from skerry.fleet.autoscaling.factors import ScalingFactors, Strategy
from skerry.fleet.autoscaling.fleetwide import FleetScaler, PlaneShare, largest_remainder, split
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.local import LocalScaler
from skerry.fleet.autoscaling.work import Engine
from skerry.fleet.coefficients import Coefficients
from tests.properties.examples import examples

WHEN = datetime(2026, 3, 2, 12, tzinfo=UTC)
TICK = 5.0
COLD_START = 120.0
ENGINE = Engine(
    coefficients=Coefficients(
        accelerator="H100-80G",
        prefill_seconds_per_token=9e-5,
        decode_seconds_per_token=1e-4,
        iteration_seconds=0.02,
    ),
    batch=64.0,
)
strategies = st.sampled_from(Strategy)
rates = st.floats(0.0, 400.0)


def factors(strategy: Strategy = Strategy.TOKEN_WORK, delay: float | None = None) -> ScalingFactors:
    """Return factors whose bounds are never what decides."""
    return ScalingFactors(
        min_replicas=0,
        max_replicas=1_000,
        concurrency_target=16.0,
        strategy=strategy,
        scale_down_delay_seconds=delay,
    )


class Counters:
    """A gateway's counters under a load that is told."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.requests = self.finished = self.judged = self.good = 0.0

    def after(self, at: float, rate: float, seconds: float, good: float = 1.0) -> LoadReading:
        """Return the reading after some seconds of a rate; all answered in time but a part."""
        self.requests += rate * seconds
        self.finished += rate * seconds
        self.judged += rate * seconds
        self.good += rate * seconds * good
        return LoadReading(
            at=at,
            requests_total=self.requests,
            prompt_tokens_total=self.requests * 700.0,
            finished_total=self.finished,
            output_tokens_total=self.finished * 80.0,
            in_flight=rate * 2.0,
            judged_total=self.judged,
            good_total=self.good,
        )


def run(
    scaler: LocalScaler, load: Sequence[float], bounds: Bounds, running: int, good: float = 1.0
) -> list[ScalingDecision]:
    """Return the decisions of a tick each, in a plane that does at once what is decided."""
    counters, decisions = Counters(), []
    for tick, rate in enumerate(load):
        now = tick * TICK
        scaler.observe(counters.after(now, rate, TICK, good))
        decision = scaler.decide(now, ReplicaCounts(ready=running), bounds, ENGINE, COLD_START)
        decisions.append(decision)
        running = decision.target
    return decisions


@given(
    strategy=strategies,
    load=st.lists(rates, min_size=1, max_size=120),
    floor=st.integers(0, 20),
    room=st.integers(0, 40),
    target=st.none() | st.integers(0, 80),
    running=st.integers(0, 80),
    available=st.integers(0, 30),
)
def test_no_decision_is_ever_outside_the_envelope(
    strategy: Strategy,
    load: list[float],
    floor: int,
    room: int,
    target: int | None,
    running: int,
    available: int,
) -> None:
    bounds = Bounds(floor=floor, ceiling=floor + room, target=target, min_available=available)
    for decision in run(LocalScaler(factors(strategy, 30.0)), load, bounds, running):
        assert floor <= decision.target <= floor + room
        counts = decision.counts
        assert counts.running + decision.start + decision.revive - decision.cancel >= 0
        assert decision.describe().endswith(".")


@settings(max_examples=examples(30))
@given(
    strategy=strategies,
    rate=rates,
    running=st.integers(0, 60),
    delay=st.none() | st.floats(0.0, 900.0),
    good=st.floats(0.0, 1.0),
)
def test_constant_load_reverses_no_target_within_a_cold_start(
    strategy: Strategy, rate: float, running: int, delay: float | None, good: float
) -> None:
    bounds = Bounds(floor=0, ceiling=1_000)
    decisions = run(LocalScaler(factors(strategy, delay)), [rate] * 720, bounds, running, good)
    last_at, last_way = -math.inf, 0
    before = running
    for decision in decisions:
        way = (decision.target > before) - (decision.target < before)
        if way and last_way and way != last_way:
            assert decision.at - last_at >= COLD_START
        if way:
            last_at, last_way = decision.at, way
        before = decision.target


@settings(max_examples=examples(60))
@given(
    rate=st.floats(0.0, 40.0),
    queues=st.lists(st.floats(0.0, 2_000.0), min_size=2, max_size=120),
    granted=st.integers(0, 20),
    ready=st.integers(0, 20),
)
def test_what_a_queue_adds_to_the_fleets_target_is_not_taken_back_within_a_cold_start(
    rate: float, queues: list[float], granted: int, ready: int
) -> None:
    scaler, counters = LocalScaler(factors()), Counters()
    bounds = Bounds(floor=0, ceiling=1_000, target=granted)
    running, rose_at = max(ready, granted), -math.inf
    for tick, waiting in enumerate(queues):
        now = tick * TICK
        reading = counters.after(now, rate, TICK)
        scaler.observe(
            replace(
                reading,
                in_flight=reading.in_flight + waiting,
                waiting_requests=waiting,
                waiting_prompt_tokens=waiting * 700.0,
            )
        )
        counts = ReplicaCounts(ready=min(ready, running), starting=max(0, running - ready))
        decision = scaler.decide(now, counts, bounds, ENGINE, COLD_START)
        assert decision.target >= granted
        if decision.target > running:
            rose_at = now
        assert decision.target >= running or now - rose_at >= COLD_START
        running = decision.target


@given(
    strategy=strategies,
    load=st.lists(rates, min_size=2, max_size=100),
    more=st.floats(1.0, 10.0),
    running=st.integers(0, 60),
)
def test_more_load_never_means_fewer_replicas(
    strategy: Strategy, load: list[float], more: float, running: int
) -> None:
    bounds = Bounds(floor=0, ceiling=1_000)
    less = run(LocalScaler(factors(strategy)), load, bounds, running)[-1]
    greater = run(LocalScaler(factors(strategy)), [*load[:-1], load[-1] * more], bounds, running)
    assert greater[-1].target >= less.target
    scaled = run(LocalScaler(factors(strategy)), [rate * more for rate in load], bounds, running)
    for decision, other in zip(less_all(load, strategy, running), scaled, strict=True):
        assert other.target >= decision.target


def less_all(load: list[float], strategy: Strategy, running: int) -> list[ScalingDecision]:
    """Return the decisions of the smaller load again."""
    return run(LocalScaler(factors(strategy)), load, Bounds(floor=0, ceiling=1_000), running)


@given(
    strategy=strategies,
    load=st.lists(rates, max_size=100),
    silence=st.floats(15.1, 10_000.0),
    running=st.integers(0, 60),
    target=st.none() | st.integers(0, 60),
)
def test_missing_or_stale_signals_take_nothing_away(
    strategy: Strategy, load: list[float], silence: float, running: int, target: int | None
) -> None:
    scaler = LocalScaler(factors(strategy, 30.0))
    run(scaler, load, Bounds(floor=0, ceiling=1_000), running)
    now = max(0, len(load) - 1) * TICK + silence
    counts = ReplicaCounts(ready=running)
    decision = scaler.decide(now, counts, Bounds(floor=0, ceiling=1_000, target=target), ENGINE)
    assert decision.target >= running
    assert decision.drain == decision.cancel == 0


@settings(max_examples=examples(40))
@given(
    strategy=strategies,
    rate=rates,
    jump=st.floats(-100_000.0, 100_000.0).filter(lambda jump: abs(jump) > 60.0),
    after=st.integers(1, 40),
)
def test_a_clock_that_jumps_takes_nothing_away(
    strategy: Strategy, rate: float, jump: float, after: int
) -> None:
    scaler = LocalScaler(factors(strategy, 300.0))
    counters, bounds = Counters(), Bounds(floor=0, ceiling=1_000)
    running = 0
    for tick in range(200):
        scaler.observe(counters.after(tick * TICK, rate, TICK))
        running = scaler.decide(
            tick * TICK, ReplicaCounts(ready=running), bounds, ENGINE, COLD_START
        ).target
    for tick in range(200, 200 + after):
        now = tick * TICK + jump
        counts = ReplicaCounts(ready=running)
        # The clock of the decision jumps before the reading's has.
        assert scaler.decide(now, counts, bounds, ENGINE, COLD_START).target >= running
        scaler.observe(counters.after(now, rate, TICK))
        target = scaler.decide(now, counts, bounds, ENGINE, COLD_START).target
        assert target >= running
        running = target


@given(
    strategy=strategies,
    load=st.lists(rates, min_size=1, max_size=120),
    ready=st.integers(0, 40),
    starting=st.integers(0, 10),
    available=st.integers(0, 40),
    ceiling=st.integers(0, 60),
)
def test_no_decision_leaves_fewer_ready_than_must_be_available(
    strategy: Strategy, load: list[float], ready: int, starting: int, available: int, ceiling: int
) -> None:
    scaler, counters = LocalScaler(factors(strategy, 0.0)), Counters()
    bounds = Bounds(floor=0, ceiling=ceiling, min_available=available)
    for tick, rate in enumerate(load):
        now = tick * TICK
        scaler.observe(counters.after(now, rate, TICK))
        counts = ReplicaCounts(ready=ready, starting=starting)
        decision = scaler.decide(now, counts, bounds, ENGINE, 0.0)
        # The drain is held back by the decision itself; the target is what agents go by.
        assert decision.target >= min(ready, available, ceiling)
        assert ready - decision.drain >= min(ready, available)


@given(draining=st.integers(0, 9), running=st.integers(0, 9), rate=rates)
def test_a_draining_replica_serves_again_before_one_is_started(
    draining: int, running: int, rate: float
) -> None:
    scaler, counters = LocalScaler(factors()), Counters()
    for tick in range(5):
        scaler.observe(counters.after(tick * TICK, rate, TICK))
    counts = ReplicaCounts(ready=running, draining=draining)
    decision = scaler.decide(4 * TICK, counts, Bounds(floor=0, ceiling=1_000), ENGINE)
    assert decision.start == 0 or decision.revive == draining
    assert running + decision.revive + decision.start >= decision.target


@st.composite
def plane_shares(draw: st.DrawFn) -> list[PlaneShare]:
    """Draw planes with envelopes and prices."""
    shares = []
    for number in range(draw(st.integers(1, 8))):
        floor = draw(st.integers(0, 6))
        shares.append(
            PlaneShare(
                plane=f"plane-{number}",
                running=draw(st.integers(0, 12)),
                floor=floor,
                ceiling=floor + draw(st.integers(0, 12)),
                engine=ENGINE,
                price_per_hour=draw(st.floats(0.0, 100.0)),
            )
        )
    return shares


@given(shares=plane_shares(), total=st.integers(0, 200), data=st.data())
def test_the_largest_remainder_adds_up_exactly_inside_all_bounds(
    shares: list[PlaneShare], total: int, data: st.DataObject
) -> None:
    weights = {one.plane: data.draw(st.floats(0.0, 50.0)) for one in shares}
    least, most = sum(one.floor for one in shares), sum(one.ceiling for one in shares)
    for found in (
        largest_remainder(total, shares, weights),
        split(total, shares, weights, 0.7),
    ):
        assert sum(found.values()) == min(max(total, least), most)
        assert all(one.floor <= found[one.plane] <= one.ceiling for one in shares)


@given(weights=st.lists(st.floats(0.01, 50.0), min_size=1, max_size=8), total=st.integers(0, 200))
def test_without_bounds_nobody_is_a_whole_replica_off_its_part(
    weights: list[float], total: int
) -> None:
    shares = [
        PlaneShare(plane=f"p{n}", running=0, floor=0, ceiling=1_000, engine=ENGINE)
        for n in range(len(weights))
    ]
    found = largest_remainder(total, shares, {f"p{n}": w for n, w in enumerate(weights)})
    for number, weight in enumerate(weights):
        assert abs(found[f"p{number}"] - total * weight / sum(weights)) < 1.0 + 1e-6


@settings(max_examples=examples(40))
@given(
    shares=plane_shares(),
    load=st.lists(rates, min_size=2, max_size=60),
    silent_from=st.integers(0, 60),
)
def test_a_plane_that_is_not_heard_keeps_what_it_has(
    shares: list[PlaneShare], load: list[float], silent_from: int
) -> None:
    strategy = Strategy.TOKEN_WORK
    scaler = FleetScaler(replace(factors(strategy, 0.0), max_replicas=10_000))
    counters = {share.plane: Counters() for share in shares}
    for tick, rate in enumerate(load):
        now = tick * TICK
        for share in shares:
            if share is not shares[0] or tick < silent_from:
                reading = counters[share.plane].after(now, rate, TICK)
                scaler.observe(share.plane, reading)
        decision = scaler.decide(now, WHEN, shares, 0.0)
        assert all(one.floor <= decision.targets[one.plane] <= one.ceiling for one in shares)
        if "plane-0" in decision.unheard:
            first = shares[0]
            kept = min(max(first.running, first.floor), first.ceiling)
            assert decision.targets["plane-0"] == kept
        assert decision.describe().endswith(".")


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_pause_keeps_what_there_is(strategy: Strategy) -> None:
    scaler = LocalScaler(replace(factors(strategy, 0.0), paused=True))
    decisions = run(scaler, [300.0] * 50 + [0.0] * 50, Bounds(floor=1, ceiling=9), 4)
    assert {decision.target for decision in decisions} == {4}


@settings(max_examples=examples(30))
@given(
    rate=st.floats(0.0, 100.0), running=st.integers(1, 60), part=st.floats(0.05, 0.95), seed=rates
)
def test_no_more_than_its_part_of_the_surplus_goes_and_once_a_delay(
    rate: float, running: int, part: float, seed: float
) -> None:
    delay = 150.0
    scaler = LocalScaler(replace(factors(delay=delay), max_scale_down_rate=part))
    load = [seed] * 4 + [rate] * 200
    decisions = run(scaler, load, Bounds(floor=0, ceiling=1_000), running)
    before, went_at = running, -math.inf
    for decision in decisions:
        if decision.target < before:
            assert decision.at - went_at >= delay
            assert decision.need is not None
            surplus = before - min(before, decision.need.replicas)
            assert before - decision.target <= math.ceil(surplus * part)
            went_at = decision.at
        before = decision.target
