"""Questions over a real server: what reaches the scheduler, and what comes back of its answer."""

from dataclasses import replace

import pytest

from control_plane.api.answers import explanation_to_proto
from control_plane.reconcile.decision import decision_of
from control_plane.reconcile.questions import Answered
from control_plane.store.deployments import apply_deployment
from control_plane.store.placements import record_decision, replace_placements
from scheduler.explain import explain
from scheduler.reasons import Way
from scheduler.solve import solve
from scheduler.survival import survive
from scheduler.whatif import DemandFactor, Lose, NewPools, PriceFactor, what_if
from skerry.api.common.v1 import supply_pb2
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.api.operator.v1 import pool_pb2, question_pb2
from skerry.client import question_rows
from skerry.client.operator_calls import get_plan
from skerry.client.operator_calls import what_if as what_if_call
from skerry.client.operator_rows import plan_preview
from skerry.client.questions import Lose as ClientLose
from skerry.client.questions import ScaleDemand, ScalePrice
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.pool import PoolTerms
from tests.builders import a_deployment, a_pool
from tests.unit.control_plane.api.conftest import PROBLEM, Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
LOST = Lose(domain=FailureDomain.PLANE, name="fra")


async def test_an_explanation_comes_back_whole(operator: Operator) -> None:
    await operator.database.run(apply_deployment, operator.write(), a_deployment("last"), "", "")
    request = pb.ExplainRequest(name=f"{PARENT}/deployments/last")
    message = await operator.stub.Explain(request)
    found, expected = question_rows.explanation(message), explain(PROBLEM, solve(PROBLEM), "last")
    assert expected.conflict
    assert expected.ways
    assert (found.deployment, found.pool, found.replicas) == ("last", None, expected.replicas)
    assert found.reasons == expected.reasons
    assert found.conflict == tuple(family.value for family in expected.conflict)
    assert [(way.change, way.dollars_per_hour) for way in found.ways] == [
        (way.change, way.dollars_per_hour) for way in expected.ways
    ]
    assert message.solve_seconds == 0.5
    request.pool = "aws--cpu"
    there = question_rows.explanation(await operator.stub.Explain(request))
    assert there.pool == "aws--cpu"
    assert operator.questions.asked == [("last", None), ("last", "aws--cpu")]


async def test_a_price_that_nobody_knows_is_not_a_price_of_nothing() -> None:
    unknown = Way(change="par--gpu had a price (unknown)", dollars_per_hour=None)
    free = Way(change="regions dropped", dollars_per_hour=0.0)
    told = replace(explain(PROBLEM, solve(PROBLEM), "last"), ways=(free, unknown))
    message = explanation_to_proto(Answered(value=told, seconds=0.5))
    found = question_rows.explanation(message)
    assert [way.dollars_per_hour for way in found.ways] == [0.0, None]


async def test_every_kind_of_change_arrives_as_it_was_meant(operator: Operator) -> None:
    added = a_pool("gcp", price=0.5)
    changes = [
        question_rows.hypothesis_message(hypothesis)
        for hypothesis in (
            ClientLose(domain=FailureDomain.REGION, name="cloud-fra/region-fra"),
            ScalePrice(factor=2.0),
            ScalePrice(factor=0.5, pool="aws--cpu"),
            ScaleDemand(factor=1.5),
            ScaleDemand(factor=0.0, deployment="last"),
        )
    ]
    plane = supply_pb2.PlaneIdentity(name="gcp", cloud="gcp", region="gcp")
    shape = supply_pb2.PoolShape(
        name="cpu",
        accelerator="cpu",
        accelerator_memory_bytes=added.shape.accelerator_memory_bytes,
        nodes=1,
        accelerators_per_node=4,
        host_memory_bytes=added.shape.host_memory_bytes,
    )
    terms = pool_pb2.PoolTerms(capacity_class="on_demand", price_per_accelerator_hour=0.5)
    pool = question_pb2.NewPool(plane=plane, shape=shape, terms=terms)
    changes.append(question_pb2.Hypothesis(pool=pool))
    await operator.stub.WhatIf(pb.WhatIfRequest(parent=PARENT, changes=changes))
    expected_pool = replace(added, terms=PoolTerms(price_per_accelerator_hour=0.5))
    assert operator.questions.asked == [
        (
            Lose(domain=FailureDomain.REGION, name="cloud-fra/region-fra"),
            PriceFactor(factor=2.0),
            PriceFactor(factor=0.5, pool="aws--cpu"),
            DemandFactor(factor=1.5),
            DemandFactor(factor=0.0, deployment="last"),
            NewPools(pools=(expected_pool,)),
        )
    ]


async def test_consequences_come_back_whole(operator: Operator) -> None:
    call = what_if_call("default", (ClientLose(domain=FailureDomain.PLANE, name="fra"),))
    found = call.read(await operator.stub.WhatIf(call.request))
    expected = what_if(PROBLEM, LOST)
    assert expected.evicted
    assert [(p.deployment, p.pool, p.replicas, p.reason) for p in found.evicted] == [
        (p.deployment, p.pool, p.count, p.reason) for p in expected.evicted
    ]
    assert [(m.deployment, m.from_pool, m.to_pool, m.replicas) for m in found.moved] == [
        (m.deployment, m.from_pool, m.to_pool, m.count) for m in expected.diff.move
    ]
    assert [(s.deployment, s.replicas, s.taken_by) for s in found.shed] == [
        (s.deployment, s.replicas, s.taken_by) for s in expected.shed
    ]
    assert [(u.deployment, u.replicas) for u in found.unplaced] == [
        (u.deployment, u.replicas) for u in expected.unmet
    ]
    assert [u.replicas for u in found.unplaced_before] == [
        u.replicas for u in expected.before.unplaced
    ]
    delta = found.cost_per_hour_after - found.cost_per_hour_before
    assert delta == pytest.approx(expected.cost_delta_per_hour)
    assert [level.value for level in found.levels] == [v.value for v in expected.plan.levels]


async def test_the_matrix_comes_back_whole(operator: Operator) -> None:
    request = pb.SurviveRequest(parent=PARENT, domains=["plane"])
    found = question_rows.losses(await operator.stub.Survive(request))
    expected = survive(PROBLEM, solve(PROBLEM), (FailureDomain.PLANE,))
    assert [(loss.domain, loss.name, loss.holds) for loss in found] == [
        (FailureDomain.PLANE, "aws", True),
        (FailureDomain.PLANE, "fra", False),
    ]
    for loss, told in zip(found, expected, strict=True):
        assert [
            (s.deployment, s.wanted, s.left, s.promised, s.shortfall, s.unmet_after)
            for s in loss.survivors
        ] == [
            (s.deployment, s.wanted, s.left, s.promised, s.shortfall, s.unmet_after)
            for s in told.survivors
        ]
    await operator.stub.Survive(pb.SurviveRequest(parent=PARENT))
    assert operator.questions.asked == [(FailureDomain.PLANE,), tuple(FailureDomain)]


async def test_the_plan_in_force_shows_all_that_was_decided(operator: Operator) -> None:
    plan = replace(solve(PROBLEM), solver_reason="cp-sat: late")
    write = operator.write()
    await operator.database.run(replace_placements, write, plan.placements, "placed")
    await operator.database.run(record_decision, write, decision_of(plan, 0.25))
    call = get_plan("default")
    found = plan_preview(await operator.stub.GetPlan(call.request))
    assert [(p.pool, p.replicas_before, p.replicas_after, p.reason) for p in found.placements] == [
        (p.pool, p.count, p.count, p.reason) for p in plan.placements
    ]
    assert plan.shed
    assert plan.prices
    assert plan.unplaced
    assert [(s.deployment, s.taken_by, s.reason) for s in found.shed] == [
        (s.deployment, s.taken_by, s.reason) for s in plan.shed
    ]
    assert [(v.level, v.value, v.bound, v.gap, v.unit) for v in found.levels] == [
        (v.level, v.value, v.bound, v.gap, v.unit) for v in plan.levels
    ]
    assert [(p.pool, p.dollars_per_hour) for p in found.prices] == [
        (p.pool, p.dollars_per_hour) for p in plan.prices
    ]
    assert (found.solver_reason, found.solve_seconds) == ("cp-sat: late", 0.25)
    assert [u.reason for u in found.unplaced] == [u.reason for u in plan.unplaced]
