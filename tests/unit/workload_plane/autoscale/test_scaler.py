"""What the plane's own loop wants of each pool, one promise a test; time is a number."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from skerry.fleet.autoscaling.decision import Because
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.told import ScalingTerms
from skerry.fleet.autoscaling.work import Engine
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision, Scaling
from skerry.fleet.desired import Assignment
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Envelope
from skerry.fleet.scaling import FloorSchedule
from workload_plane.autoscale.scaler import DeploymentScaler, Moment, mean_engine
from workload_plane.autoscale.sharing import PoolBounds, share
from workload_plane.replicas.records import ReplicaRecord

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ENGINE = Engine(
    coefficients=Coefficients(
        accelerator="cpu",
        prefill_seconds_per_token=1e-4,
        decode_seconds_per_token=1e-3,
        iteration_seconds=0.02,
    ),
    batch=10.0,
)
DELAY, COLD = 60.0, 10.0


def envelope(floor: int, target: int, ceiling: int, pool: str = "cpu") -> Envelope:
    return Envelope(deployment="demo", pool=pool, floor=floor, target=target, ceiling=ceiling)


def an_assignment(*envelopes: Envelope, fleet: bool = False, **scaling: Any) -> Assignment:
    factors = {
        "min_replicas": 1,
        "max_replicas": 20,
        "scale_down_delay_seconds": DELAY,
        **scaling,
    }
    return Assignment(
        deployment=Deployment(
            name="demo",
            revision=Revision(
                number=1,
                base_model=BaseModel(uri="simulated://tiny", served_name="demo"),
                engine=EngineSpec(name=EngineName.SIMULATED, concurrent_requests=10),
                shapes=(ResourceShape(accelerator="cpu"),),
            ),
            scaling=Scaling(**factors),
        ),
        envelopes=envelopes or (envelope(1, 1, 10),),
        scaling=ScalingTerms(fleet_target=fleet, cold_start_seconds=COLD),
    )


def records(count: int, state: ReplicaState = ReplicaState.READY, **more: Any) -> list[Any]:
    return [
        ReplicaRecord(
            name=f"demo-{state}-{n}",
            deployment="demo",
            **{"revision": 1, "pool": "cpu", "state": state, **more},
        )
        for n in range(count)
    ]


class Plane:
    """A scaler whose load is a number: replicas of ENGINE that it keeps busy."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.scaler = DeploymentScaler(assignment)
        self.requests = 0.0
        self.now = 1_000.0
        self.heard = False
        self.run = 1

    def counts(self, work: float, seconds: float = 5.0) -> None:
        """Let so many seconds of load pass, and be counted."""
        self.now += seconds
        # 100 tokens of an answer cost 100 * (0.001 + 0.02 / 10) = 0.3 s of a replica.
        self.requests += work * seconds / 0.3
        self.scaler.observe(
            LoadReading(
                at=self.now,
                requests_total=self.requests,
                prompt_tokens_total=0.0,
                finished_total=self.requests,
                output_tokens_total=self.requests * 100.0,
                in_flight=0.0,
            ),
            self.run,
        )

    def decide(self, *there: ReplicaRecord, engine: Engine | None = ENGINE) -> dict[str, int]:
        moment = Moment(now=self.now, when=NOON, is_heard=self.heard)
        return self.scaler.decide(self.assignment, there, engine, moment)

    def settles(self, work: float, ready: int, seconds: float) -> int:
        """Let the load last while the plane does at once what it wants; return what that is."""
        for _ in range(int(seconds / 5.0)):
            self.counts(work)
            ready = self.decide(*records(ready))["cpu"]
        return ready

    @property
    def because(self) -> Because:
        assert self.scaler.decision is not None
        return self.scaler.decision.because


def test_load_brings_replicas_at_once_and_its_end_takes_them_after_the_delay() -> None:
    plane = Plane(an_assignment())
    assert plane.settles(0.1, 1, 30.0) == 1
    grown = plane.settles(3.0, 1, 60.0)
    assert grown >= 4
    assert plane.settles(0.1, grown, DELAY / 2) == grown
    assert plane.settles(0.1, grown, 4 * DELAY) == 1


def test_before_the_first_reading_nothing_goes_and_the_granted_target_is_run() -> None:
    plane = Plane(an_assignment(envelope(1, 4, 10)))
    assert plane.decide() == {"cpu": 4}
    assert Plane(an_assignment(envelope(1, 1, 10))).decide(*records(6)) == {"cpu": 6}
    assert plane.because is Because.SIGNAL_MISSING


def test_signals_that_stop_hold_the_number() -> None:
    plane = Plane(an_assignment())
    grown = plane.settles(3.0, 1, 60.0)
    for _ in range(400):
        plane.now += 5.0
        assert plane.decide(*records(grown)) == {"cpu": grown}


def test_after_a_restart_nothing_goes_before_a_delay_was_watched() -> None:
    plane = Plane(an_assignment())
    for _ in range(int(DELAY / 5.0)):
        plane.counts(0.1)
        assert plane.decide(*records(6)) == {"cpu": 6}
    assert plane.settles(0.1, 6, 3 * DELAY) == 1


def test_a_picker_that_began_again_is_watched_anew() -> None:
    plane = Plane(an_assignment())
    grown = plane.settles(3.0, 1, 60.0)
    plane.settles(0.1, grown, DELAY - 20.0)
    plane.run = 2
    assert plane.settles(0.1, grown, DELAY - 10.0) == grown


def test_replicas_that_fail_or_start_are_still_wanted() -> None:
    plane = Plane(an_assignment(envelope(1, 1, 10), paused=True))
    there = [*records(2), *records(2, ReplicaState.STARTING), *records(1, ReplicaState.FAILED)]
    assert plane.decide(*there) == {"cpu": 5}
    # Three died and nothing is left of them: that is no wish for fewer.
    assert plane.decide(*records(2)) == {"cpu": 5}
    decision = plane.scaler.decision
    assert decision is not None
    assert (decision.counts.ready, decision.counts.starting) == (2, 3)


def test_one_more_while_another_is_replaced_is_no_wish_for_more() -> None:
    plane = Plane(an_assignment(envelope(1, 2, 10), paused=True))
    assert plane.decide(*records(2)) == {"cpu": 2}
    assert plane.decide(*records(3)) == {"cpu": 2}


def test_after_a_restart_amid_a_rollout_its_surge_is_no_wish_for_more() -> None:
    begins = records(1, ReplicaState.STARTING, revision=2)
    plane = Plane(an_assignment(envelope(1, 1, 10), paused=True))
    assert plane.decide(*records(3), *begins) == {"cpu": 3}
    plane = Plane(an_assignment(envelope(1, 1, 10), paused=True))
    assert plane.decide(*records(3), *records(1, revision=2)) == {"cpu": 4}, "all of them serve"


def test_a_pause_keeps_the_number_whatever_comes_in() -> None:
    plane = Plane(an_assignment(paused=True))
    assert plane.settles(5.0, 2, 120.0) == 2
    assert plane.because is Because.PAUSED


def test_the_fleets_target_is_followed_while_the_control_plane_is_heard() -> None:
    plane = Plane(an_assignment(envelope(1, 3, 10), fleet=True))
    plane.heard = True
    assert plane.settles(0.1, 1, 30.0) == 3
    assert plane.because is Because.GRANTED
    plane.heard = False
    assert plane.settles(0.1, 3, 30.0) == 3  # the delay first
    assert plane.settles(0.1, 3, 3 * DELAY) == 1


def test_a_target_of_placements_alone_is_no_order_to_shrink_or_to_stay() -> None:
    plane = Plane(an_assignment(envelope(1, 1, 10), fleet=False))
    plane.heard = True
    assert plane.settles(3.0, 1, 60.0) >= 4


@pytest.mark.parametrize(("least", "left"), [(0, 0), (1, 1)])
def test_to_zero_only_where_the_deployment_may_have_none(least: int, left: int) -> None:
    plane = Plane(an_assignment(envelope(0, 1, 4), min_replicas=least))
    assert plane.settles(0.0, 2, 10 * DELAY) == left


def test_what_the_control_plane_grants_nothing_of_ends() -> None:
    plane = Plane(an_assignment(envelope(0, 0, 0), min_replicas=1))
    assert plane.settles(3.0, 2, 30.0) == 0


def test_a_replica_woken_by_a_request_is_wanted() -> None:
    plane = Plane(an_assignment(envelope(0, 0, 4), min_replicas=0))
    assert plane.settles(0.0, 0, 30.0) == 0
    plane.counts(0.05)
    assert plane.decide(*records(1, ReplicaState.STARTING)) == {"cpu": 1}


def test_a_schedule_is_a_floor_by_the_planes_part_of_all() -> None:
    night = FloorSchedule(cron="0 11 * * *", seconds=7_200.0, min_replicas=10)
    whole = an_assignment(envelope(1, 1, 20), schedules=(night,))
    assert Plane(whole).settles(0.0, 1, 30.0) == 10
    half = an_assignment(envelope(1, 1, 10), schedules=(night,))
    assert Plane(half).settles(0.0, 1, 30.0) == 5
    later = replace(night, cron="0 14 * * *")
    assert Plane(an_assignment(envelope(1, 1, 20), schedules=(later,))).settles(0.0, 1, 30.0) == 1


def test_the_fleets_target_has_the_schedule_in_it_and_no_part_comes_on_top() -> None:
    night = FloorSchedule(cron="0 11 * * *", seconds=7_200.0, min_replicas=8)
    plane = Plane(an_assignment(envelope(1, 2, 20), fleet=True, schedules=(night,)))
    plane.heard = True
    assert plane.settles(0.0, 2, 30.0) == 2
    plane.heard = False
    assert plane.settles(0.0, 2, 30.0) == 8


def test_a_part_of_the_surplus_goes_after_each_delay() -> None:
    plane = Plane(an_assignment(envelope(1, 1, 10), max_scale_down_rate=0.5))
    plane.counts(0.0)
    assert plane.settles(0.0, 9, DELAY + 10.0) == 4
    assert plane.settles(0.0, 4, DELAY) == 2


def test_warm_spares_are_kept_above_the_need() -> None:
    assignment = an_assignment()
    assert assignment.scaling is not None
    spare = replace(assignment, scaling=replace(assignment.scaling, warm_spares=2))
    assert Plane(spare).settles(0.1, 1, 30.0) == Plane(assignment).settles(0.1, 1, 30.0) + 2


def test_a_new_factor_holds_at_once_and_what_was_seen_stays() -> None:
    plane = Plane(an_assignment())
    grown = plane.settles(3.0, 1, 120.0)
    plane.assignment = an_assignment(paused=True)
    assert plane.settles(0.0, grown, 3 * DELAY) == grown
    plane.assignment = an_assignment()
    plane.counts(0.0)
    assert plane.decide(*records(grown))["cpu"] < grown  # it was watched all the while


def test_costs_that_nobody_knows_leave_the_number_to_what_is_in_flight() -> None:
    plane = Plane(an_assignment(envelope(1, 1, 10)))
    for _ in range(3):
        plane.now += 5.0
        plane.scaler.observe(
            LoadReading(
                at=plane.now,
                requests_total=0.0,
                prompt_tokens_total=0.0,
                finished_total=0.0,
                output_tokens_total=0.0,
                in_flight=20.0,
            ),
            1,
        )
    # Ten slots each, seven of them to be taken: 20 requests want three replicas.
    assert plane.decide(*records(1), engine=None) == {"cpu": 3}
    assert plane.scaler.decision is not None
    assert plane.scaler.decision.fallback


BOUNDS = (
    PoolBounds(pool="a", floor=1, target=2, ceiling=4),
    PoolBounds(pool="b", floor=0, target=1, ceiling=3),
)


def test_a_number_is_shared_inside_every_envelope() -> None:
    assert share(3, BOUNDS, {}) == {"a": 2, "b": 1}
    assert share(3, BOUNDS, {"a": 3, "b": 0}) == {"a": 3, "b": 0}  # what runs stays
    assert share(4, BOUNDS, {"a": 2, "b": 0}) == {"a": 3, "b": 1}  # first where it is wished
    assert share(5, BOUNDS, {"a": 2, "b": 1}) == {"a": 4, "b": 1}
    assert share(2, BOUNDS, {"a": 3, "b": 1}) == {"a": 2, "b": 0}
    assert share(99, BOUNDS, {}) == {"a": 4, "b": 3}
    assert share(0, BOUNDS, {}) == {"a": 1, "b": 0}


def test_two_kinds_of_accelerator_are_one_by_their_numbers() -> None:
    slow = Engine(
        coefficients=replace(ENGINE.coefficients, iteration_seconds=0.04), batch=ENGINE.batch
    )
    both = mean_engine({"a": (ENGINE, 3), "b": (slow, 1)})
    assert both is not None
    assert both.coefficients.iteration_seconds == pytest.approx(0.025)
    assert mean_engine({"a": (ENGINE, 2), "b": (None, 0)}) == ENGINE
    assert mean_engine({"a": (ENGINE, 2), "b": (None, 1)}) is None
    assert mean_engine({}) is None


def test_a_pause_stops_schedules_too() -> None:
    daily = (FloorSchedule(cron="0 0 * * *", seconds=86_400.0, min_replicas=8),)
    plane = Plane(an_assignment(envelope(1, 3, 20), paused=True, schedules=daily))
    assert plane.settles(0.5, 3, 60.0) == 3
    assert plane.because is Because.PAUSED
    plane.assignment = an_assignment(envelope(1, 3, 20), schedules=daily)
    assert plane.settles(0.5, 3, 60.0) == 8
