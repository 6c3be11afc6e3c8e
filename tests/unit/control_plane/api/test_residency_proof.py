"""GetResidencyProof over a real server: what is proven, what left, and what is asked wrongly."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest

from control_plane.store.deployments import apply_deployment
from control_plane.store.residency import Told, keep_residency
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.fleet.residency import Record, Row, Way, link_of
from tests.builders import a_deployment
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

AT = int(START.timestamp() * 1000)
ROW = Row(
    minute=AT // 60_000,
    deployment="demo",
    way=Way.SENT,
    plane="b",
    zones=("us",),
    allowed=("eu",),
    generation="1.7",
    count=2,
)


def asked(since: datetime, until: datetime | None, **fields: Any) -> pb.GetResidencyProofRequest:
    request = pb.GetResidencyProofRequest(parent="projects/default", **fields)
    request.since.FromDatetime(since)
    if until is not None:
        request.until.FromDatetime(until)
    return request


async def told(operator: Operator, *rows: Row) -> None:
    deployment = a_deployment()
    policy = replace(deployment.policy, residency_zones=("eu",))
    await operator.database.run(
        apply_deployment, operator.write(), replace(deployment, policy=policy), "", ""
    )
    first = AT - 3_600_000
    record = Record(sequence=1, chain="c", from_ms=first, to_ms=AT + 3_600_000, rows=rows)
    evidence = Told(plane="a", chain="c", links=(link_of(record, None),))
    await operator.database.run(keep_residency, operator.write(), (evidence,))


async def test_what_stayed_is_proven(operator: Operator) -> None:
    await told(operator, replace(ROW, zones=("eu",)))
    request = asked(START - timedelta(minutes=5), START + timedelta(minutes=5))
    proof = await operator.stub.GetResidencyProof(request)
    planes = {gap.plane for gap in proof.unproved} - {"a"}
    (demo,) = proof.deployments
    assert (demo.deployment, demo.inside_count, demo.outside_count) == ("demo", 2, 0)
    assert demo.proven == (not planes), "whoever told nothing is named"


async def test_what_left_is_named(operator: Operator) -> None:
    await told(operator, ROW)
    request = asked(START - timedelta(minutes=5), START + timedelta(minutes=5), deployment="demo")
    (demo,) = (await operator.stub.GetResidencyProof(request)).deployments
    (left,) = demo.outside
    assert (demo.proven, demo.outside_count, left.gateway, left.plane) == (False, 2, "a", "b")
    assert (list(left.zones), list(left.allowed_zones), left.version) == (["us"], ["eu"], "1.7")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (asked(START, START), grpc.StatusCode.INVALID_ARGUMENT),
        (asked(START - timedelta(days=99), START), grpc.StatusCode.INVALID_ARGUMENT),
        (
            asked(START - timedelta(hours=1), START, deployment="none"),
            grpc.StatusCode.NOT_FOUND,
        ),
        (pb.GetResidencyProofRequest(parent="projects/default"), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_answered_says_why(
    operator: Operator, request_: pb.GetResidencyProofRequest, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.stub.GetResidencyProof(request_)
    assert refused.value.code() is code
    assert refused.value.details()
