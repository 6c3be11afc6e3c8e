"""Scaling over the operator API of a real server: explained whole, paused and resumed alone."""

from dataclasses import replace
from typing import Any

import grpc
import pytest

from control_plane.store.deployments import apply_deployment
from control_plane.store.planes import record_report
from control_plane.store.scalings import ScalingStep, put_scalings
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.client import scaling
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.scaled import FleetRecord, Scaled, ShareRecord
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport, ToldDecision
from skerry.fleet.deployment import Scaling
from tests.builders import T0, a_deployment, a_report
from tests.unit.control_plane.api.conftest import Operator
from tests.unit.control_plane.autoscale_world import COSTS

pytestmark = pytest.mark.integration

DEMO = "projects/default/deployments/demo"
SCALED = Scaled(
    deployment="demo",
    demand=3,
    floor=1,
    targets=(("onprem-fra", 3),),
    wanted=5,
    unmet=2,
    unmet_dollars_per_hour=0.25,
)
RECORD = FleetRecord(
    deployment="demo",
    decided_at=T0,
    sentence="3 replicas (onprem-fra 3) in place of 1: need.",
    because="need",
    running=1,
    total=3,
    wanted=5,
    unmet=2,
    demand=3,
    floor=1,
    unmet_dollars_per_hour=0.25,
    dollars_per_hour=0.3,
    shares=(
        ShareRecord(
            plane="onprem-fra", running=1, floor=1, ceiling=4, target=3, price_per_hour=0.1
        ),
    ),
)
DECISION = ToldDecision(
    decided_at=T0,
    sentence="start 2, for 3.",
    because="granted",
    target=3,
    ready=1,
    starting=0,
    draining=0,
    floor=1,
    ceiling=4,
    granted=3,
)
OWN = (DECISION, replace(DECISION, because="steady", target=1, granted=None, concurrency=0.5))
READING = LoadReading(
    at=1.0,
    requests_total=9.0,
    prompt_tokens_total=900.0,
    finished_total=8.0,
    output_tokens_total=800.0,
    in_flight=1.0,
)


@pytest.fixture
async def scaled(operator: Operator) -> Operator:
    """A server that knows `demo`, its decision, and what a plane said of it."""
    run, write = operator.database.run, operator.write()
    await run(record_report, write, a_report("onprem-fra"))
    demo = a_deployment(scaling=Scaling(min_replicas=1, max_replicas=8))
    await run(apply_deployment, write, demo, "", "")
    await run(put_scalings, write, [ScalingStep(scaled=SCALED, before=None, record=RECORD)])
    load = DeploymentLoad(
        deployment="demo", reading=READING, decision=DECISION, coefficients=(COSTS,)
    )
    operator.live.counted = {"onprem-fra": LoadReport(loads=(load,))}
    operator.live.own = {"onprem-fra": OWN}
    return operator


async def explained(operator: Operator, **fields: Any) -> scaling.ScalingExplanation:
    request = pb.ExplainScalingRequest(name=DEMO, **fields)
    return scaling.explanation(await operator.stub.ExplainScaling(request))


async def test_a_decision_and_what_planes_say_come_back_whole(scaled: Operator) -> None:
    found = await explained(scaled)
    assert (found.sentence, found.decisions) == (RECORD.sentence, (RECORD,))
    assert (found.min_replicas, found.max_replicas, found.strategy) == (1, 8, "token_work")
    (plane,) = found.planes
    assert (plane.plane, plane.decision, plane.counts) == ("onprem-fra", DECISION, True)
    assert plane.decisions == OWN, "the newest first"
    assert plane.costs == (COSTS,)


async def test_the_deployment_tells_what_it_needs_and_what_is_short(scaled: Operator) -> None:
    found = await scaled.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))
    status = found.status
    assert (status.replicas_needed, status.replicas_short) == (5, 2)
    assert status.short_dollars_per_hour == 0.25
    assert status.replicas_wanted == 3, "what is meant to run"


async def test_pausing_changes_nothing_else(scaled: Operator) -> None:
    before = (await scaled.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))).spec
    for paused in (True, False):
        call = scaling.pause_scaling("default", "demo", f"request-{paused}", paused=paused)
        row = call.read(await scaled.stub.UpdateDeployment(call.request))
        assert row.deployment.scaling.paused is paused
        assert replace(row.deployment.scaling, paused=False) == Scaling(
            min_replicas=1, max_replicas=8
        )
        assert (await explained(scaled)).paused is paused
    after = (await scaled.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))).spec
    assert after == before


async def test_one_that_was_never_decided_says_why(operator: Operator) -> None:
    await operator.database.run(apply_deployment, operator.write(), a_deployment(), "", "")
    found = await explained(operator)
    assert found.decisions == ()
    assert "nothing to scale" in found.sentence


@pytest.mark.parametrize(
    ("name", "most", "code"),
    [
        ("demo", 0, grpc.StatusCode.INVALID_ARGUMENT),
        ("projects/default/deployments/nobody", 0, grpc.StatusCode.NOT_FOUND),
        (DEMO, -1, grpc.StatusCode.INVALID_ARGUMENT),
        (DEMO, 9_999, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    scaled: Operator, name: str, most: int, code: grpc.StatusCode
) -> None:
    request = pb.ExplainScalingRequest(name=name, decisions_max=most)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scaled.stub.ExplainScaling(request)
    assert caught.value.code() is code


async def test_a_mask_that_names_an_unset_delay_unsets_it(scaled: Operator) -> None:
    told = pb.UpdateDeploymentRequest(request_id="request-1")
    told.deployment.name = DEMO
    told.deployment.spec.scaling.scale_down_delay_seconds = 60.0
    told.update_mask.paths.append("spec.scaling.scale_down_delay_seconds")
    set_ = await scaled.stub.UpdateDeployment(told)
    assert set_.spec.scaling.scale_down_delay_seconds == 60.0
    told.deployment.spec.scaling.ClearField("scale_down_delay_seconds")
    told.request_id = "request-2"
    unset = await scaled.stub.UpdateDeployment(told)
    assert not unset.spec.scaling.HasField("scale_down_delay_seconds")
