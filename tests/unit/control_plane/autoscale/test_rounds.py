"""The global loop: up with load, down late, held without signals, short only where nothing fits."""

from dataclasses import replace
from typing import Any

import pytest

from control_plane.autoscale.targets import (
    demand_of,
    floor_of,
    lowered_floors,
    scaled_envelopes,
    spares_of,
    terms_of,
)
from control_plane.reconcile.plan import plan_desired
from control_plane.reconcile.snapshot import Demand
from skerry.fleet.autoscaling.decision import Because
from skerry.fleet.autoscaling.scaled import RECORD_PLANES_MAX, Scaled
from skerry.fleet.autoscaling.told import ScalingTerms, ToldDecision
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import (
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Spread,
    Tolerate,
)
from skerry.fleet.desired import AUTOSCALING, FEATURES, Assignment, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.rollout import Rollout, Stage
from skerry.fleet.scaling import FloorSchedule, Strategy
from tests.builders import T0, a_deployment, a_plane_view, a_report, a_snapshot
from tests.unit.control_plane.autoscale_world import COSTS, Fleet, scaling_deployment

LOUD = 5.0  # requests a second that keep four replicas busy: six are needed, at 70 %


def settled(fleet: Fleet, rates: dict[str, float], rounds: int = 4) -> Scaled:
    """Return what holds after some rounds of a load that planes obey."""
    for _ in range(rounds):
        scaled = fleet.round(rates).scaled
        fleet.obey()
    return scaled


def test_load_raises_the_target_at_once_within_the_envelope() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8})
    before = settled(fleet, {"fra": 0.1})
    outcome = fleet.round({"fra": LOUD})
    assert before.target("fra") == 1
    assert outcome.scaled != outcome.before
    assert outcome.scaled.target("fra") == 6  # four busy at 70 %
    assert outcome.record is not None
    assert outcome.record.because == Because.NEED
    assert "4.00 replicas busy" in outcome.record.sentence
    assert outcome.scaled.demand == 1, "the envelope has the room: nothing is to be placed"


def test_users_of_a_plane_without_replicas_count_where_they_are_served() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8, "gcp": 0})
    settled(fleet, {"fra": 0.1, "gcp": 0.1})
    scaled = settled(fleet, {"fra": 0.1, "gcp": LOUD})
    assert (scaled.target("fra") or 0) >= 6  # as many as if its own users asked that much
    assert scaled.target("gcp") is None, "it has no place there"
    fleet.silent = {"gcp"}  # cut off, its users may still be there
    assert settled(fleet, {"fra": 0.1}, 30).target("fra") == scaled.target("fra")


def test_a_target_falls_after_the_delay_and_no_sooner() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8})
    high = settled(fleet, {"fra": LOUD}).target("fra")
    assert high is not None
    held = [settled(fleet, {"fra": 0.1}, 1).target("fra") for _ in range(9)]
    assert set(held) == {high}, "300 s"
    assert (settled(fleet, {"fra": 0.1}, 4).target("fra") or 0) < high


def test_a_new_leader_holds_what_its_predecessor_decided() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8})
    before = settled(fleet, {"fra": LOUD})
    fleet.rounds.forget()
    assert settled(fleet, {"fra": 0.0}, 9) == replace(before, wanted=before.wanted)


def test_silence_of_all_planes_lowers_nothing() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8, "gcp": 8})
    before = settled(fleet, {"fra": LOUD, "gcp": LOUD})
    fleet.silent = {"fra", "gcp"}
    fleet.running = {"fra": 0, "gcp": 0}  # whatever their last words were
    for _ in range(30):
        after = fleet.round({}).scaled
    assert dict(after.targets).keys() == dict(before.targets).keys()
    assert all((after.target(plane) or 0) >= many for plane, many in before.targets)


@pytest.mark.parametrize("how", ["silent", "uncounted"])
def test_a_plane_that_tells_no_loads_keeps_its_share_and_no_more(how: str) -> None:
    fleet = Fleet(scaling_deployment(most=20), {"fra": 8, "gcp": 8})
    before = settled(fleet, {"fra": LOUD, "gcp": LOUD})
    getattr(fleet, how).add("gcp")
    held = [settled(fleet, {"fra": 0.1, "gcp": 0.1}, 1) for _ in range(20)]
    assert {scaled.target("gcp") for scaled in held} == {before.target("gcp")}
    assert held[0].target("fra") == before.target("fra"), "no sooner than after the delay"
    assert held[-1].target("fra") == 1, "what it does not need goes"


def test_what_others_did_for_a_plane_that_falls_silent_they_still_do() -> None:
    fleet = Fleet(scaling_deployment(most=20), {"fra": 12, "gcp": 2})
    before = settled(fleet, {"gcp": LOUD})
    assert before.target("gcp") == 2
    fleet.silent = {"gcp"}  # its users may be there yet
    for _ in range(20):
        after = settled(fleet, {}, 1)
    assert sum(many for _, many in after.targets) >= 6


def test_a_plane_that_is_new_keeps_its_share_and_no_more() -> None:
    fleet = Fleet(scaling_deployment(most=20), {"fra": 8, "gcp": 8}, running={"gcp": 3})
    fleet.uncounted = {"gcp"}
    settled(fleet, {"fra": LOUD})
    settled(fleet, {"fra": 0.1}, 9)
    fleet.uncounted = set()
    held = [settled(fleet, {"fra": 0.1}, 1) for _ in range(8)]
    assert held[-1].target("fra") == 1, "it was watched for long enough"
    assert {scaled.target("gcp") for scaled in held} == {3}, "it was not"
    assert settled(fleet, {"fra": 0.1}, 6).target("gcp") == 0


def test_a_plane_that_cannot_count_keeps_what_it_runs() -> None:
    fleet = Fleet(scaling_deployment(least=2), {"fra": 8})
    settled(fleet, {"fra": LOUD})
    before = fleet.running["fra"]
    fleet.uncounted = {"fra"}
    for _ in range(20):
        fleet.round({})
        fleet.obey()
    assert fleet.running["fra"] == before


def test_what_no_envelope_has_room_for_is_to_be_placed_where_accelerators_are_free() -> None:
    fleet = Fleet(scaling_deployment(most=7), {"fra": 4})
    scaled = settled(fleet, {"fra": LOUD})
    # `fra` has four accelerators, one of them placed; no other plane has any.
    assert (scaled.wanted, scaled.target("fra"), scaled.demand) == (6, 4, 4)
    assert scaled.unmet == 2
    assert scaled.unmet_dollars_per_hour == pytest.approx(0.2)
    fleet.silent = {"fra"}
    later = settled(fleet, {}, 20)
    assert (later.wanted, later.unmet) == (6, 2), "silence needs no less"
    wider = Fleet(scaling_deployment(most=7), {"fra": 4, "gcp": 0})
    scaled = settled(wider, {"fra": LOUD})
    assert (scaled.demand, scaled.unmet) == (6, 0)


def test_growth_takes_no_place_of_what_others_are_promised() -> None:
    other = Demand(deployment=a_deployment("other", replicas=3))
    also = Placement(deployment="other", pool="fra--cpu", count=3)
    first = replace(scaling_deployment(most=7), policy=PlacementPolicy(priority=0))
    fleet = Fleet(first, {"fra": 1}, others=(other,), also=(also,))
    scaled = settled(fleet, {"fra": LOUD})
    assert (scaled.demand, scaled.unmet) == (1, 5)


def crowded(**others: Any) -> Fleet:
    """A fleet that lacks room in its envelope, beside `other`, of which one replica is placed."""
    other = Demand(deployment=a_deployment("other", replicas=1))
    also = Placement(deployment="other", pool="fra--cpu", count=1)
    first = replace(scaling_deployment(most=7), policy=PlacementPolicy(priority=0))
    return Fleet(first, {"fra": 1}, others=(other,), also=(also,), **others)


def test_growth_takes_no_accelerators_that_others_load_uses() -> None:
    # `fra` has four accelerators: one of `demo`, one placed of `other`.
    assert settled(crowded(), {"fra": LOUD}).demand == 3
    assert settled(crowded(also_running={"fra": 3}), {"fra": LOUD}).demand == 1
    grown = Envelope(deployment="other", pool="fra--cpu", floor=1, target=2, ceiling=4)
    assert settled(crowded(also_granted=(grown,)), {"fra": LOUD}).demand == 2
    both = crowded(also_running={"fra": 1}, also_granted=(grown,))
    assert settled(both, {"fra": LOUD}).demand == 2, "the most of them, not their sum"


def test_growth_may_place_what_runs_above_its_own_places_already() -> None:
    fleet = Fleet(scaling_deployment(most=7), {"fra": 4})
    settled(fleet, {"fra": 3.0})  # it runs four, of which one is placed
    scaled = settled(fleet, {"fra": LOUD})
    assert (fleet.running["fra"], scaled.demand) == (4, 4)
    assert scaled.unmet == scaled.wanted - 4


def test_a_record_names_so_many_planes_those_that_change_most_and_counts_the_rest() -> None:
    planes = [f"p{number:02d}" for number in range(40)]
    fleet = Fleet(scaling_deployment(most=60), dict.fromkeys(planes, 2))
    record = fleet.round({"p07": 2.5, "p31": 2.5}).record
    assert record is not None
    assert len(record.shares) == RECORD_PLANES_MAX
    assert record.more_planes == 40 - RECORD_PLANES_MAX
    assert {"p07", "p31"} <= {share.plane for share in record.shares}
    assert "28 more" in record.sentence, "twelve are named"
    fleet.uncounted = set(planes[1:])
    for _ in range(4):
        record = fleet.round({}).record
    assert record is not None
    assert len(record.unheard) == RECORD_PLANES_MAX
    assert "nothing heard from p01" in record.sentence
    assert len(record.sentence) < 1_000


def test_paused_stays_whatever_the_load() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8})
    before = settled(fleet, {"fra": LOUD})
    fleet.deployment = replace(
        fleet.deployment, scaling=replace(fleet.deployment.scaling, paused=True)
    )
    for _ in range(20):
        outcome = fleet.round({"fra": 0.0})
    assert replace(outcome.scaled, wanted=before.wanted) == before
    assert outcome.record is None, "told once"


def test_a_schedule_is_a_floor_that_is_placed() -> None:
    always = FloorSchedule(cron="* * * * *", seconds=120.0, min_replicas=3)
    fleet = Fleet(scaling_deployment(schedules=(always,)), {"fra": 8})
    scaled = settled(fleet, {"fra": 0.1})
    assert (scaled.floor, scaled.demand, scaled.target("fra")) == (3, 3, 3)


def test_what_a_floor_lacks_is_unmet_with_its_reason_and_still_asked_of_the_scheduler() -> None:
    always = FloorSchedule(cron="* * * * *", seconds=120.0, min_replicas=7)
    for strategy in Strategy:
        deployment = scaling_deployment(most=12, schedules=(always,), strategy=strategy)
        fleet = Fleet(deployment, {"fra": 4})  # four accelerators are all there are
        outcome = fleet.round({"fra": 0.1})
        record, scaled = outcome.record, outcome.scaled
        assert record is not None
        assert (record.floor, record.demand, record.wanted, record.unmet) == (7, 7, 7, 3)
        assert record.unmet_dollars_per_hour == pytest.approx(0.3)
        assert "the floor of 7 by the schedule lacks 3" in record.sentence
        assert (scaled.demand, scaled.unmet) == (7, 0), "the scheduler says why it places fewer"
        wide = Fleet(deployment, {"fra": 8})
        settled(wide, {"fra": 0.1}, 1)
        calm = wide.round({"fra": 0.1}).record
        assert calm is None or calm.unmet == 0


def test_without_a_floor_none_is_said_to_lack_and_what_the_load_needs_is_unmet_whole() -> None:
    other = Demand(deployment=a_deployment("other", replicas=4))
    also = Placement(deployment="other", pool="fra--cpu", count=4)
    deployment = scaling_deployment(least=0, most=7)
    fleet = Fleet(deployment, {"fra": 0}, is_placed=False, others=(other,), also=(also,))
    outcomes = [fleet.round({"fra": LOUD}) for _ in range(4)]
    record, scaled = outcomes[-1].record, outcomes[-1].scaled
    assert record is not None
    assert (record.floor, record.wanted, record.unmet, scaled.unmet) == (0, 6, 6, 6)
    assert scaled.demand == 1, "a place to come back to is asked for all the same"
    assert "floor" not in record.sentence
    assert "6 of 6 find no free accelerators (they would cost $0.60 an hour)." in record.sentence


def test_where_no_pool_may_run_it_at_all_free_accelerators_are_not_the_reason() -> None:
    elsewhere = a_deployment().revision
    elsewhere = replace(elsewhere, shapes=(ResourceShape(accelerator="H100-80G"),))
    always = FloorSchedule(cron="* * * * *", seconds=120.0, min_replicas=3)
    deployment = replace(scaling_deployment(schedules=(always,)), revision=elsewhere)
    record = Fleet(deployment, {"fra": 0}, is_placed=False).round({"fra": 0.1}).record
    assert record is not None
    assert record.unmet == 3
    assert record.unmet_dollars_per_hour is None
    assert "the floor of 3 by the schedule lacks 3: no pool may take them" in record.sentence


def test_what_a_plane_measured_corrects_the_profile_for_its_replicas() -> None:
    by_profile = settled(Fleet(scaling_deployment(most=40), {"fra": 40}), {"fra": LOUD})
    fleet = Fleet(scaling_deployment(most=40), {"fra": 40})
    fleet.costs = {"fra": (dearer(2.0),)}
    corrected = settled(fleet, {"fra": LOUD})
    assert (by_profile.target("fra"), corrected.target("fra")) == (6, 12)
    fleet.costs = {}  # its agent began anew: it says so again after some minutes of load
    assert settled(fleet, {"fra": LOUD}, 20).target("fra") == 12


def test_what_one_plane_measured_is_what_others_of_its_kind_cost_until_they_measure() -> None:
    fleet = Fleet(scaling_deployment(most=40), {"fra": 20, "gcp": 20})
    fleet.costs = {"fra": (dearer(2.0),)}
    settled(fleet, {"gcp": LOUD}, 1)
    scaled = settled(fleet, {"gcp": LOUD})
    assert sum(many for _, many in scaled.targets) == 12
    fleet.costs = {"fra": (dearer(2.0),), "gcp": (dearer(1.0),)}
    scaled = settled(fleet, {"gcp": LOUD}, 40)
    assert sum(many for _, many in scaled.targets) in (6, 7), "each plane's own word counts there"


def test_no_plane_makes_replicas_much_dearer_or_cheaper_than_they_were_measured() -> None:
    fleet = Fleet(scaling_deployment(most=60), {"fra": 60})
    fleet.costs = {"fra": (dearer(50.0),)}
    assert settled(fleet, {"fra": LOUD}).target("fra") == 23, "four times 5.71"
    cheap = Fleet(scaling_deployment(most=60), {"fra": 60})
    cheap.costs = {"fra": (dearer(0.001),)}
    assert settled(cheap, {"fra": LOUD}).target("fra") == 2, "a quarter of 5.71"


def dearer(times: float) -> Coefficients:
    """What tokens cost where they cost so many times what was measured."""
    return replace(
        COSTS,
        prefill_seconds_per_token=COSTS.prefill_seconds_per_token * times,
        decode_seconds_per_token=COSTS.decode_seconds_per_token * times,
        iteration_seconds=COSTS.iteration_seconds * times,
    )


def test_a_record_has_what_its_targets_cost_where_every_price_is_told() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 4, "gcp": 4})
    settled(fleet, {"fra": LOUD})
    record = fleet.round({"fra": LOUD}).record
    assert record is not None
    assert record.dollars_per_hour == sum((s.target or 0) * s.price_per_hour for s in record.shares)
    assert record.dollars_per_hour


def test_warm_spares_stand_above_the_need() -> None:
    bare = settled(Fleet(scaling_deployment(), {"fra": 8}), {"fra": 2.0})
    spared = settled(Fleet(scaling_deployment(warm_spares=2), {"fra": 8}), {"fra": 2.0})
    assert (spared.target("fra") or 0) == (bare.target("fra") or 0) + 2


def test_spare_replicas_stand_where_they_are_cheapest_and_planes_are_told_their_part() -> None:
    fleet = Fleet(scaling_deployment(warm_spares=2), {"fra": 4, "gcp": 4})
    fleet.round({"fra": 0.1})
    demand = fleet.snapshot.demands[0]
    snapshot = replace(fleet.snapshot, envelopes=fleet.envelopes)
    spares = spares_of(snapshot)
    told = {p: terms_of(demand, snapshot, p, fleet.envelopes, spares) for p in ("fra", "gcp")}
    assert sum(terms.warm_spares for terms in told.values() if terms is not None) == 2


def test_by_concurrency_each_plane_decides_and_what_it_wants_is_placed() -> None:
    fleet = Fleet(scaling_deployment(strategy=Strategy.CONCURRENCY, most=7), {"fra": 2, "gcp": 0})
    outcome = fleet.round({"fra": LOUD})
    assert outcome.scaled.targets == ()
    told = ToldDecision(
        decided_at=None,
        sentence="keep 2.",
        because="bounds",
        target=2,
        ready=2,
        starting=0,
        draining=0,
        floor=1,
        ceiling=2,
        concurrency=2.8,
    )
    fleet.told = {"fra": told}
    scaled = fleet.round({"fra": LOUD}).scaled
    assert (scaled.wanted, scaled.demand, scaled.targets) == (4, 4, ())
    outcome = fleet.round({"fra": LOUD})
    assert outcome.record is not None, "each round is recorded, though all stayed as it was"
    assert outcome.record.need is not None
    assert (outcome.record.need.work, outcome.record.need.replicas) == (2.8, 4)
    assert "work that keeps 2.80 replicas busy, at 70% utilisation: 4" in outcome.record.sentence
    fleet.told = {}
    assert [fleet.round({"fra": LOUD}).record is None for _ in range(3)] == [False, True, True]


def test_by_concurrency_what_a_full_plane_lacks_runs_where_there_is_room_for_it() -> None:
    deployment = scaling_deployment(strategy=Strategy.CONCURRENCY, most=7)
    fleet = Fleet(deployment, {"fra": 2, "gcp": 4})
    full = ToldDecision(
        decided_at=None,
        sentence="keep 2.",
        because="bounds",
        target=2,
        ready=2,
        starting=0,
        draining=0,
        floor=1,
        ceiling=2,
        concurrency=2.8,
    )
    idle = replace(full, because="steady", target=0, ready=0, floor=0, ceiling=4, concurrency=0.0)
    fleet.told = {"fra": full, "gcp": idle}
    assert fleet.round({"fra": LOUD}).scaled.targets == (("gcp", 2),), "4 are wanted, fra has 2"
    fleet.obey()
    fleet.told["gcp"] = replace(idle, target=2, because="granted")
    assert fleet.round({"fra": LOUD}).scaled.wanted == 4, "a grant is no want of its own"
    fleet.told["gcp"] = replace(idle, target=2, because="granted", concurrency=0.7)
    assert fleet.round({"fra": LOUD}).scaled.targets == (("gcp", 3),), "beside what it wants itself"
    fleet.silent = {"fra"}
    assert fleet.round({}).scaled.targets == (("gcp", 3),), "silence takes nothing"
    fleet.silent, fleet.told["fra"] = set(), replace(full, because="steady", concurrency=1.4)
    assert fleet.round({"fra": 2.0}).scaled.targets == ()


@pytest.mark.parametrize("strategy", Strategy)
def test_users_where_none_may_run_have_one_run_elsewhere_though_there_is_no_sum(
    strategy: Strategy,
) -> None:
    deployment = scaling_deployment(strategy=strategy, least=0, most=4)
    fleet = Fleet(deployment, {"fra": 2, "gcp": 0}, measured={})
    assert settled(fleet, {"gcp": 0.0}).floor == 0
    outcome = fleet.round({"gcp": 0.5})
    assert (outcome.scaled.floor, outcome.scaled.demand) == (1, 1)
    assert outcome.record is not None
    assert "one at least runs for users at gcp" in outcome.record.sentence
    assert settled(fleet, {"gcp": 0.0}, rounds=8).floor == 0, "they are gone for two minutes"


def test_where_costs_are_not_known_a_replica_is_for_what_its_plane_takes_it_for() -> None:
    fleet = Fleet(scaling_deployment(most=40), {"fra": 4, "gcp": 4}, measured={})
    slots = fleet.deployment.revision.engine.concurrent_requests
    told = ToldDecision(
        decided_at=None,
        sentence="keep 1.",
        because="steady",
        target=1,
        ready=1,
        starting=0,
        draining=0,
        floor=1,
        ceiling=4,
        concurrency=0.65 * slots,
        fallback=True,
    )
    fleet.told = {"fra": told}
    assert fleet.round({"fra": 1.0}).scaled.wanted == 1
    fleet.told = {"fra": replace(told, concurrency=2.5 * slots)}
    assert fleet.round({"fra": 1.0}).scaled.wanted == 4


def test_without_measured_costs_planes_are_left_alone_and_it_says_so() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8}, measured={})
    outcome = fleet.round({"fra": LOUD})
    assert outcome.scaled.targets == ()
    assert outcome.record is not None
    assert "skerry profile" in outcome.record.sentence


def test_one_that_may_be_scaled_to_nothing_keeps_a_place_and_runs_none() -> None:
    deployment = scaling_deployment(least=0, most=4)
    assert (demand_of(deployment, None), floor_of(deployment, None)) == (1, 0)
    fleet = Fleet(deployment, {"fra": 4})
    (tried,) = scaled_envelopes(fleet.envelopes, fleet.snapshot)
    assert (tried.floor, tried.target, tried.ceiling) == (1, 1, 4), "until its revision is"
    done = Rollout(deployment="demo", revision=1, stage=Stage.COMPLETE, since=T0)
    snapshot = replace(fleet.snapshot, rollouts=(done,))
    (envelope,) = scaled_envelopes(fleet.envelopes, snapshot)
    assert (envelope.floor, envelope.target, envelope.ceiling) == (0, 0, 4)


def test_what_a_plane_that_is_gone_was_to_run_starts_elsewhere_at_once() -> None:
    fleet = Fleet(scaling_deployment(most=8), {"fra": 4, "gcp": 4})
    scaled = settled(fleet, {"fra": LOUD})
    assert sum(many for _, many in scaled.targets) == 6
    left = tuple(one for one in fleet.envelopes if one.pool.startswith("gcp"))
    (envelope,) = scaled_envelopes(left, fleet.snapshot)
    assert (envelope.target, envelope.ceiling) == (4, 4), "as far as there is room"


def test_a_database_that_forgot_decisions_goes_by_what_planes_were_told() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8})
    scaled = settled(fleet, {"fra": LOUD})
    envelopes = scaled_envelopes(fleet.envelopes, fleet.snapshot)
    told = Assignment(
        deployment=fleet.deployment, envelopes=envelopes, scaling=ScalingTerms(fleet_target=True)
    )
    state = DesiredState(plane="fra", version=Version(epoch=1, generation=7), assignments=(told,))
    forgotten = replace(fleet.snapshot, scalings=(), desired=(state,))
    assert forgotten.fleet_target("demo", "fra") == scaled.target("fra") == 6
    assert scaled_envelopes(fleet.envelopes, forgotten)[0].target == 6


def test_a_fixed_number_is_as_the_scheduler_has_it() -> None:
    fleet = Fleet(a_deployment(replicas=3), {"fra": 4})
    assert scaled_envelopes(fleet.envelopes, fleet.snapshot) == fleet.envelopes
    assert terms_of(fleet.snapshot.demands[0], fleet.snapshot, "fra", fleet.envelopes, {}) is None


def test_a_plane_that_knows_no_autoscaling_runs_what_is_placed() -> None:
    older = tuple(one for one in FEATURES if one != AUTOSCALING)
    fleet = Fleet(scaling_deployment(least=0, most=4), {"fra": 4})
    view = a_plane_view("fra", report=a_report("fra", features=older))
    snapshot = a_snapshot(view, demands=fleet.snapshot.demands)
    assert scaled_envelopes(fleet.envelopes, snapshot) == fleet.envelopes


@pytest.mark.parametrize(
    ("policy", "floors"),
    [
        (PlacementPolicy(), {"a": 1, "b": 0, "c": 0}),
        (
            PlacementPolicy(spread=Spread(domain=FailureDomain.REGION, domains_min=3)),
            {"a": 1, "b": 1, "c": 1},
        ),
        (
            PlacementPolicy(tolerate=Tolerate(domain=FailureDomain.PLANE, keep=0.5)),
            {"a": 1, "b": 1, "c": 1},
        ),
    ],
)
def test_floors_out_of_what_is_placed_add_up_and_keep_what_is_spread(
    policy: PlacementPolicy, floors: dict[str, int]
) -> None:
    deployment = replace(scaling_deployment(), policy=policy)
    assert lowered_floors(deployment, 1, {"a": 3, "b": 2, "c": 1}) == floors


def test_planes_are_told_targets_and_terms_in_one_state() -> None:
    fleet = Fleet(scaling_deployment(), {"fra": 8})
    settled(fleet, {"fra": LOUD})
    snapshot = fleet.snapshot
    snapshot = replace(snapshot, envelopes=scaled_envelopes(fleet.envelopes, snapshot))
    conditions = {p.name: p.condition for p in snapshot.planes if p.condition is not None}
    snapshot = replace(
        snapshot,
        pools=tuple(replace(p, shape=replace(p.shape, nodes=4)) for p in snapshot.pools),
    )
    pushed = [one for one in plan_desired(snapshot, conditions) if hasattr(one, "desired")]
    (assignment,) = pushed[0].desired.assignments
    (envelope,) = assignment.envelopes
    assert (envelope.floor, envelope.target, envelope.ceiling) == (1, 6, 8)
    assert assignment.scaling is not None
    assert assignment.scaling.fleet_target


def test_other_figures_alone_are_no_move() -> None:
    before = Scaled(deployment="demo", demand=4, floor=1, targets=(("fra", 4),), wanted=6, unmet=2)
    more = replace(before, wanted=9, unmet=5, unmet_dollars_per_hour=0.5)
    assert not more.is_moved_from(before)
    assert not before.is_moved_from(before)
    assert before.is_moved_from(None)
    for moved in (
        replace(before, unmet=0),
        replace(before, targets=(("fra", 3),)),
        replace(before, floor=2),
        replace(before, demand=5),
        replace(before, cold_start_seconds=60.0),
    ):
        assert moved.is_moved_from(before)
