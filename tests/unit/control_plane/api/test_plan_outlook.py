"""Plans say what they mean for each deployment, with the time that measured starts tell."""

from dataclasses import replace

import pytest

from control_plane.store.catalogue import PROFILES, create_entry
from control_plane.store.cold_starts import SightedStart, record_starts
from control_plane.store.deployments import apply_deployment
from control_plane.store.placements import Decision, record_decision, replace_placements
from control_plane.store.plans import Proposal, put_in_force
from control_plane.store.pools import set_terms
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.client.operator_rows import plan_preview
from skerry.client.rows import MoveRow
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Placement
from skerry.fleet.pool import PoolTerms
from skerry.wire.deployments import deployment_to_proto
from tests.builders import T0, a_deployment, a_profile, a_replica, a_report
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
CURRENT = pb.GetPlanRequest(name=f"{PARENT}/plans/current")
POOL = "onprem-fra--cpu"
BASIS = "p90 of 1 start of builtin://skerry-tiny with simulated on cpu: 41 s"
DECISION = Decision(cost_per_hour=1.0, solver="exact", optimal=True, solve_seconds=0.5)


async def measure(fleet: Operator, seconds: float = 41.0) -> None:
    """Have one start of the deployment `demo` measured."""
    await fleet.database.run(apply_deployment, fleet.write(), a_deployment(), "", "")
    start = SightedStart(
        plane="onprem-fra",
        replica="demo-r1-a",
        restarts=0,
        deployment="demo",
        revision=1,
        accelerator="cpu",
        seconds=seconds,
        seen_at=T0,
    )
    await fleet.database.run(record_starts, fleet.write(), (start,))


async def test_a_preview_tells_counts_cost_moves_and_when_it_is_ready(fleet: Operator) -> None:
    await measure(fleet)
    for pool, dollars in ((POOL, 0.5), ("gcp-x--cpu", 2.0)):
        terms = PoolTerms(price_per_accelerator_hour=dollars)
        await fleet.database.run(set_terms, fleet.write(), pool, terms, "", "")
    spec = deployment_to_proto(a_deployment())
    plan = await fleet.stub.PlanDeployment(pb.PlanDeploymentRequest(parent=PARENT, spec=spec))
    (demo,) = plan_preview(plan).deployments
    assert (demo.deployment, demo.replicas_before, demo.replicas_after) == ("demo", 2, 1)
    assert (demo.cost_per_hour_before, demo.cost_per_hour_after) == (4.0, 0.5)
    assert demo.moves == (
        MoveRow(deployment="demo", from_pool="gcp-x--cpu", to_pool=POOL, replicas=1),
    )
    assert (demo.ready_in_seconds, demo.ready_basis) == (41.0, BASIS)


async def test_a_profile_tells_throughput_and_time_to_ready_and_is_named(fleet: Operator) -> None:
    profile = a_profile({1: 100.0, 4: 250.0})
    await fleet.database.run(create_entry, fleet.write(), PROFILES, profile, "")
    fleet.clock.advance(2.0)
    spec = deployment_to_proto(a_deployment())
    request = pb.PlanDeploymentRequest(parent=PARENT, spec=spec)
    (demo,) = plan_preview(await fleet.stub.PlanDeployment(request)).deployments
    assert (demo.ready_in_seconds, demo.ready_source) == (12.5, "profile")
    (figure,) = demo.throughputs
    assert (demo.throughput_source, figure.tokens_per_second) == ("profile", 250.0)
    assert (figure.profile, figure.measured_at) == (profile.name, profile.measured_at)
    own = a_deployment()
    shapes = (replace(own.revision.shapes[0], throughput_tokens_per_second=7.0),)
    own = replace(own, revision=replace(own.revision, shapes=shapes))
    request = pb.PlanDeploymentRequest(parent=PARENT, spec=deployment_to_proto(own))
    (demo,) = plan_preview(await fleet.stub.PlanDeployment(request)).deployments
    assert demo.throughput_source == "deployment"
    assert demo.throughputs[0].tokens_per_second == 7.0
    assert demo.throughputs[0].measured_tokens_per_second == 250.0


async def test_with_nothing_measured_the_time_is_left_out_and_the_reason_told(
    fleet: Operator,
) -> None:
    spec = deployment_to_proto(a_deployment())
    plan = await fleet.stub.PlanDeployment(pb.PlanDeploymentRequest(parent=PARENT, spec=spec))
    (demo,) = plan.deployments
    assert not demo.HasField("ready_in_seconds")
    assert demo.ready_basis.startswith("no start like it was measured")


async def test_the_plan_in_force_changes_nothing_and_tells_what_is_still_to_start(
    fleet: Operator,
) -> None:
    await measure(fleet)
    placed = (Placement(deployment="demo", pool=POOL, count=2, reason="cheapest"),)
    await fleet.database.run(replace_placements, fleet.write(), placed, "why")
    await fleet.database.run(record_decision, fleet.write(), DECISION)
    replicas = (a_replica(name="a"), a_replica(name="b", state=ReplicaState.STARTING))
    observation = fleet.live.reports["onprem-fra"]
    for seen, seconds, basis in (
        (replicas, 41.0, f"{BASIS}; 1 of 1 on {POOL} start already"),
        ((replicas[0], replace(replicas[1], state=ReplicaState.READY)), None, ""),
    ):
        report = a_report(replicas=seen)
        fleet.live.reports["onprem-fra"] = replace(observation, report=report)
        fleet.clock.advance(1.0)
        (demo,) = plan_preview(await fleet.stub.GetPlan(CURRENT)).deployments
        assert (demo.replicas_before, demo.replicas_after, demo.moves) == (2, 2, ())
        assert (demo.ready_in_seconds, demo.ready_basis) == (seconds, basis)


async def test_a_plan_that_waits_tells_it_and_lists_of_plans_do_not(fleet: Operator) -> None:
    await measure(fleet)
    placed = (Placement(deployment="demo", pool=POOL, count=2, reason="cheapest"),)
    left = replace(DECISION, unplaced=(("demo", 1, "no room"),))
    nothing = Proposal(decision=DECISION, placements=(), summary="nothing moves")
    waits = Proposal(decision=left, placements=placed, summary="demo moves")
    await fleet.database.run(put_in_force, fleet.write(), nothing, (), "inputs", waits)
    (listed,) = (await fleet.stub.ListPlans(pb.ListPlansRequest(parent=PARENT))).plans
    assert not listed.deployments
    whole = await fleet.stub.GetPlan(pb.GetPlanRequest(name=listed.name))
    (demo,) = whole.deployments
    assert (demo.replicas_before, demo.replicas_after, demo.ready_in_seconds) == (0, 2, 41.0)
    assert (demo.replicas_unmet, demo.unmet_reason) == (1, "no room")
