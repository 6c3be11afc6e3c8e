"""What runs in a pool or region tells what operators had said of it."""

from dataclasses import replace

from control_plane.recovery.assess import Facts
from control_plane.recovery.terms import inferred_regions, inferred_terms
from scheduler.problem import RegionLatency
from skerry.fleet.deployment import LatencyLimit, PlacementPolicy
from skerry.fleet.pool import CapacityClass, PoolTerms
from tests.builders import a_deployment, a_snapshot
from tests.unit.control_plane.recovery.worlds import a_held_state, holding, told

STATE = a_held_state("onprem-fra", a_deployment("demo"), a_deployment("chat"))


def of(demo: PlacementPolicy, chat: PlacementPolicy | None = None) -> dict[str, PlacementPolicy]:
    return {"demo": demo, "chat": chat or PlacementPolicy()}


def test_a_pool_is_of_the_class_that_its_deployments_take() -> None:
    spot = PlacementPolicy(capacity_classes=("spot",))
    found = inferred_terms(of(spot), [told(STATE)])
    assert found == (("onprem-fra--cpu", PoolTerms(capacity_class=CapacityClass.SPOT)),)
    both = PlacementPolicy(capacity_classes=("spot", "reserved"))
    assert inferred_terms(of(spot, both), [told(STATE)]) == found


def test_nothing_is_said_where_the_default_will_do_or_nothing_agrees() -> None:
    usual = PlacementPolicy(capacity_classes=("on_demand", "spot"))
    assert inferred_terms(of(usual), [told(STATE)]) == ()
    spot = PlacementPolicy(capacity_classes=("spot",))
    reserved = PlacementPolicy(capacity_classes=("reserved",))
    assert inferred_terms(of(spot, reserved), [told(STATE)]) == ()
    assert inferred_terms(of(spot), []) == ()


def test_a_region_is_within_the_limits_of_what_runs_there() -> None:
    near = PlacementPolicy(latency=(LatencyLimit(client_region="eu", seconds_max=0.05),))
    far = PlacementPolicy(
        latency=(
            LatencyLimit(client_region="eu", seconds_max=0.2),
            LatencyLimit(client_region="us", seconds_max=0.3),
        )
    )
    snapshot = a_snapshot(holding(STATE))
    facts = Facts(snapshot=snapshot, epoch=1, told={"onprem-fra": told(STATE)})
    [region] = inferred_regions(facts, of(near, far))
    assert region.name == "onprem/fra"
    assert region.client_latency_seconds == (("eu", 0.05), ("us", 0.3))
    known = RegionLatency(client_region="eu", plane_region="fra", seconds=0.01)
    policy = replace(snapshot.policy, latencies=(known,))
    facts = replace(facts, snapshot=replace(snapshot, policy=policy))
    [region] = inferred_regions(facts, of(near, far))
    assert region.client_latency_seconds == (("us", 0.3),)
