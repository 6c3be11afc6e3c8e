"""What the global loop promises of queues, clocks that jump, and each plane under one load."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.autoscaling.factors import ScalingFactors
from skerry.fleet.autoscaling.fleetwide import FleetDecision, FleetScaler, PlaneShare
from tests.properties.examples import examples
from tests.properties.test_autoscaling import COLD_START, ENGINE, WHEN, Counters

ROUND = 30.0
DELAY = 300.0
PLANES = ("aws", "fra", "gcp")
loads = st.fixed_dictionaries({plane: st.floats(0.0, 200.0) for plane in PLANES})
queues = st.fixed_dictionaries({plane: st.floats(0.0, 3_000.0) for plane in PLANES})
counts = st.fixed_dictionaries({plane: st.integers(0, 30) for plane in PLANES})


@dataclass
class Fleet:
    """Planes that run at once what is decided, each inside its envelope."""

    running: dict[str, int]
    ceilings: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(PLANES, 1_000))
    most: int = 3_000
    judged: bool = True  # all in time, so that replicas may be a little fuller each minute
    now: float = 1_000.0

    def __post_init__(self) -> None:
        """Begin with nothing counted."""
        self.scaler = FleetScaler(ScalingFactors(min_replicas=0, max_replicas=self.most))
        self.counters = {plane: Counters() for plane in PLANES}
        self.running = {p: min(self.running[p], self.ceilings[p]) for p in PLANES}

    def round(
        self,
        rates: Mapping[str, float],
        waiting: Mapping[str, float] | None = None,
        seconds: float = ROUND,
    ) -> FleetDecision:
        """Let half a minute of a load pass and decide; what waits is there at its end.

        `seconds` is by how much the clock goes on meanwhile.
        """
        self.now += seconds
        for plane, rate in rates.items():
            reading = self.counters[plane].after(self.now, rate, ROUND)
            many = waiting[plane] if waiting is not None else 0.0
            self.scaler.observe(
                plane,
                replace(
                    reading,
                    in_flight=reading.in_flight + many,
                    waiting_requests=many,
                    waiting_prompt_tokens=many * 700.0,
                    judged_total=reading.judged_total * self.judged,
                    good_total=reading.good_total * self.judged,
                ),
            )
        return self.decide()

    def decide(self) -> FleetDecision:
        """Decide by what was counted until now, and obey."""
        shares = [
            PlaneShare(
                plane=plane,
                running=self.running[plane],
                floor=0,
                ceiling=self.ceilings[plane],
                engine=ENGINE,
            )
            for plane in PLANES
        ]
        decision = self.scaler.decide(self.now, WHEN, shares, COLD_START)
        self.running = dict(decision.targets)
        return decision


@settings(max_examples=examples(30))
@given(
    rates=loads,
    rounds=st.lists(queues, min_size=2, max_size=16),
    more=st.lists(queues, min_size=16, max_size=16),
    running=counts,
)
def test_a_longer_queue_is_never_fewer_replicas(
    rates: dict[str, float],
    rounds: list[dict[str, float]],
    more: list[dict[str, float]],
    running: dict[str, int],
) -> None:
    shorter, longer = Fleet(dict(running)), Fleet(dict(running))
    for waiting, added in zip(rounds, more, strict=False):
        less = shorter.round(rates, waiting)
        greater = longer.round(rates, {p: waiting[p] + added[p] for p in PLANES})
        assert greater.total >= less.total
        if less.need is not None and greater.need is not None:
            assert greater.need.queue >= less.need.queue
            assert (
                greater.need.exact >= less.need.exact
            )  # what is in flight may hide it in whole ones
            assert greater.need.replicas >= less.need.replicas


@settings(max_examples=examples(30))
@given(rates=loads, waiting=st.floats(2_000.0, 20_000.0), place=st.sampled_from(PLANES))
def test_a_queue_of_more_than_a_replica_drains_raises_the_sum_at_once(
    rates: dict[str, float], waiting: float, place: str
) -> None:
    fleet = Fleet(dict.fromkeys(PLANES, 0))
    for _ in range(4):
        before = fleet.round(rates).total
    after = fleet.round(rates, dict.fromkeys(PLANES, 0.0) | {place: waiting})
    assert after.total > before


@settings(max_examples=examples(25))
@given(
    rates=loads,
    jump=st.floats(-1e6, 1e6).filter(lambda jump: abs(jump) > 60.0),
    is_first=st.booleans(),
    running=counts,
)
def test_a_clock_that_jumps_takes_nothing_within_a_delay_and_stops_nothing(
    rates: dict[str, float], jump: float, is_first: bool, running: dict[str, int]
) -> None:
    fleet = Fleet(dict(running))
    for _ in range(12):
        fleet.round(rates)
    before = dict(fleet.running)
    nothing = dict.fromkeys(PLANES, 0.0)
    fleet.now += jump
    if is_first:  # the clock of the decision jumps before any reading's
        fleet.decide()
        assert fleet.running == before
    for _ in range(int(DELAY / ROUND)):
        fleet.round(nothing)
        assert all(fleet.running[plane] >= before[plane] for plane in PLANES)
    for _ in range(int(3 * DELAY / ROUND)):
        fleet.round(nothing)
    assert sum(fleet.running.values()) <= 1, "what nobody needs goes, late"


@settings(max_examples=examples(25))
@given(rates=loads, jump=st.floats(-59.0, 59.0), running=counts)
def test_a_clock_that_is_set_a_little_takes_nothing_under_one_load(
    rates: dict[str, float], jump: float, running: dict[str, int]
) -> None:
    fleet = Fleet(dict(running), judged=False)
    for _ in range(20):
        settled = fleet.round(rates)
    assert settled.need is not None
    assert settled.total >= settled.need.replicas, "there may be more, where one is to move"
    after = fleet.round(rates, seconds=ROUND + jump)
    for _ in range(5):
        assert after.total >= settled.need.replicas
        after = fleet.round(rates)


@settings(max_examples=examples(25))
@given(
    rates=loads,
    running=counts,
    ceilings=st.fixed_dictionaries({plane: st.integers(0, 40) for plane in PLANES}),
    most=st.integers(1, 120),
)
def test_one_load_turns_no_planes_target_back_within_a_cold_start(
    rates: dict[str, float], running: dict[str, int], ceilings: dict[str, int], most: int
) -> None:
    fleet = Fleet(dict(running), ceilings=ceilings, most=most)
    last = dict.fromkeys(PLANES, (-math.inf, 0))
    before = dict(fleet.running)
    for _ in range(40):
        fleet.round(rates)
        for plane in PLANES:
            way = fleet.running[plane] - before[plane]
            moved_at, moved = last[plane]
            if way * moved < 0:
                assert fleet.now - moved_at >= COLD_START, plane
            if way:
                last[plane] = (fleet.now, way)
        before = dict(fleet.running)
