"""What updates of some fields promise, over a real server: none is lost, a repeat is no second."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from skerry.api.common.v1 import deployment_pb2 as spec_pb
from skerry.api.operator.v1 import (
    accelerator_kind_pb2,
    deployment_pb2,
    pool_pb2,
    reservation_pb2,
)
from skerry.api.operator.v1 import catalogue_service_pb2 as catalogue_pb
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.fleet.deployment import Scaling
from skerry.fleet.routing import Routing
from skerry.wire.deployments import deployment_from_proto, deployment_to_proto
from tests.builders import a_deployment
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
DEMO = f"{PARENT}/deployments/demo"
POOL = f"{PARENT}/pools/onprem-fra--cpu"
Code = grpc.StatusCode


def a_spec(most: int = 3) -> spec_pb.DeploymentSpec:
    spec = deployment_to_proto(a_deployment())
    spec.scaling.max_replicas = most
    return spec


async def apply(fleet: Operator, spec: spec_pb.DeploymentSpec) -> Any:
    return await fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))


async def refused_as(call: Any, code: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() is code


def a_masked_update(path: str, **fields: Any) -> pb.UpdateDeploymentRequest:
    told = deployment_pb2.Deployment(name=DEMO)
    told.spec.scaling.max_replicas = 7
    told.spec.policy.priority = 3
    mask = FieldMask(paths=[f"spec.{path}"])
    return pb.UpdateDeploymentRequest(deployment=told, update_mask=mask, **fields)


def a_masked_terms(*fields: str, **told: Any) -> pb.UpdatePoolRequest:
    request = pb.UpdatePoolRequest(name=POOL, terms=pool_pb2.PoolTerms(**told))
    request.update_mask.paths.extend(fields)
    return request


async def test_a_masked_update_of_a_pool_leaves_its_other_terms_alone(fleet: Operator) -> None:
    told: dict[str, Any] = {
        "capacity_class": "reserved",
        "price_per_accelerator_hour": 2.0,
        "cordoned": True,
    }
    await fleet.stub.UpdatePool(a_masked_terms(**told))
    price = a_masked_terms("terms.price_per_accelerator_hour", price_per_accelerator_hour=3.0)
    assert (await fleet.stub.UpdatePool(price)).terms == pool_pb2.PoolTerms(
        **told | {"price_per_accelerator_hour": 3.0}
    )
    forgotten = a_masked_terms("terms.price_per_accelerator_hour", "terms.cordoned")
    found = await fleet.stub.UpdatePool(forgotten)
    assert found.terms == pool_pb2.PoolTerms(capacity_class="reserved")
    whole = a_masked_terms("terms", **told)
    assert (await fleet.stub.UpdatePool(whole)).terms == pool_pb2.PoolTerms(**told)


async def test_a_masked_update_of_a_pool_without_terms_is_of_the_defaults(
    fleet: Operator,
) -> None:
    found = await fleet.stub.UpdatePool(a_masked_terms("terms.cordoned", cordoned=True))
    assert found.terms == pool_pb2.PoolTerms(capacity_class="on_demand", cordoned=True)


@pytest.mark.parametrize("path", ["price", "terms.price", "terms.", "terms.capacity_class"])
async def test_a_mask_of_what_a_pool_cannot_be_told_is_refused(fleet: Operator, path: str) -> None:
    await refused_as(fleet.stub.UpdatePool(a_masked_terms(path)), Code.INVALID_ARGUMENT)


async def test_a_repeated_masked_update_of_a_pool_is_one_change(fleet: Operator) -> None:
    request = a_masked_terms("terms.cordoned", cordoned=True)
    request.request_id = "once"
    first = await fleet.stub.UpdatePool(request)
    await fleet.stub.UpdatePool(a_masked_terms("terms.cordoned"))
    await fleet.stub.UpdatePool(request)
    found = await fleet.stub.GetPool(pb.GetPoolRequest(name=POOL))
    assert (first.terms.cordoned, found.terms.cordoned) == (True, False)
    request.update_mask.paths.append("terms.price_per_accelerator_hour")
    await refused_as(fleet.stub.UpdatePool(request), Code.INVALID_ARGUMENT)
    stale = a_masked_terms("terms.cordoned", cordoned=True)
    stale.etag = first.etag
    await refused_as(fleet.stub.UpdatePool(stale), Code.ABORTED)


async def test_a_repeated_masked_update_is_answered_as_the_first_though_the_etag_moved(
    fleet: Operator,
) -> None:
    await apply(fleet, a_spec(5))
    request = a_masked_update("scaling.max_replicas", request_id="once")
    first = await fleet.stub.UpdateDeployment(request)
    request.deployment.etag = first.etag
    await refused_as(fleet.stub.UpdateDeployment(request), Code.INVALID_ARGUMENT)
    request.deployment.etag = ""
    await apply(fleet, a_spec(9))
    assert await fleet.stub.UpdateDeployment(request) == first
    held = await fleet.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))
    assert held.spec.scaling.max_replicas == 9
    # The same spec with another mask asks for something else.
    other = a_masked_update("policy.priority", request_id="once")
    await refused_as(fleet.stub.UpdateDeployment(other), Code.INVALID_ARGUMENT)


async def test_a_mask_of_one_routing_field_leaves_the_others_at_their_defaults(
    fleet: Operator,
) -> None:
    await apply(fleet, a_spec(5))
    request = a_masked_update("routing.queue_requests_max")
    request.deployment.spec.routing.queue_requests_max = 0
    request.deployment.spec.routing.policy = "session"
    await fleet.stub.UpdateDeployment(request)
    held = await fleet.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))
    assert deployment_from_proto(held.spec).routing == Routing(queue_requests_max=0)
    assert held.spec.revision.number == 1, "another routing is no other revision"


async def test_masked_updates_at_once_are_all_kept(fleet: Operator) -> None:
    await apply(fleet, a_spec(5))
    await asyncio.gather(
        fleet.stub.UpdateDeployment(a_masked_update("scaling.max_replicas")),
        fleet.stub.UpdateDeployment(a_masked_update("policy.priority")),
    )
    held = await fleet.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))
    assert (held.spec.scaling.max_replicas, held.spec.policy.priority) == (7, 3)


async def test_a_masked_update_of_what_is_missing_creates_it_over_the_defaults(
    fleet: Operator,
) -> None:
    request = a_masked_update("scaling.max_replicas")
    await refused_as(fleet.stub.UpdateDeployment(request), Code.NOT_FOUND)
    request.allow_missing = True
    await refused_as(fleet.stub.UpdateDeployment(request), Code.INVALID_ARGUMENT)
    request.update_mask.paths.append("spec.revision")
    request.deployment.spec.revision.CopyFrom(a_spec().revision)
    made = await fleet.stub.UpdateDeployment(request)
    defaults = Scaling()
    assert made.spec.scaling.max_replicas == 7
    assert made.spec.scaling.min_replicas == defaults.min_replicas
    assert made.spec.policy.priority == 1
    assert made.spec.revision.number == 1
    assert made.spec.name == "demo"


async def test_a_masked_update_that_makes_no_deployment_is_refused_at_its_field(
    fleet: Operator,
) -> None:
    await apply(fleet, a_spec(5))
    request = a_masked_update("scaling.max_replicas")
    request.deployment.spec.scaling.max_replicas = -1
    await refused_as(fleet.stub.UpdateDeployment(request), Code.INVALID_ARGUMENT)
    request = a_masked_update("scaling.max_replicas")
    request.deployment.etag = "stale"
    await refused_as(fleet.stub.UpdateDeployment(request), Code.ABORTED)


def a_masked_entry(field: str, **fields: Any) -> catalogue_pb.UpdateAcceleratorKindRequest:
    name = f"{PARENT}/acceleratorKinds/h100"
    kind = accelerator_kind_pb2.AcceleratorKind(name=name, vendor="nvidia", description="fast")
    mask = FieldMask(paths=[field])
    return catalogue_pb.UpdateAcceleratorKindRequest(
        accelerator_kind=kind, update_mask=mask, **fields
    )


async def test_masked_updates_of_an_entry_at_once_are_all_kept(operator: Operator) -> None:
    update = operator.catalogue.UpdateAcceleratorKind
    await refused_as(update(a_masked_entry("vendor")), Code.NOT_FOUND)
    made = await update(a_masked_entry("vendor", allow_missing=True))
    assert (made.vendor, made.description) == ("nvidia", "")
    other = a_masked_entry("vendor")
    other.accelerator_kind.vendor = "other"
    await asyncio.gather(update(other), update(a_masked_entry("description")))
    held = await operator.catalogue.GetAcceleratorKind(
        catalogue_pb.GetAcceleratorKindRequest(name=made.name)
    )
    assert (held.vendor, held.description) == ("other", "fast")


async def test_a_repeated_masked_update_of_an_entry_is_answered_as_the_first(
    operator: Operator,
) -> None:
    update = operator.catalogue.UpdateAcceleratorKind
    request = a_masked_entry("vendor", allow_missing=True, request_id="once")
    first = await update(request)
    await update(a_masked_entry("description"))
    assert await update(request) == first
    other = a_masked_entry("description", allow_missing=True, request_id="once")
    await refused_as(update(other), Code.INVALID_ARGUMENT)


async def test_a_masked_update_that_leaves_out_what_must_be_said_creates_nothing(
    operator: Operator,
) -> None:
    told = reservation_pb2.Reservation(name=f"{PARENT}/reservations/q1", pool="onprem-fra--cpu")
    told.start_time.CopyFrom(Timestamp(seconds=1))
    told.end_time.CopyFrom(Timestamp(seconds=2))
    request = catalogue_pb.UpdateReservationRequest(
        reservation=told,
        update_mask=FieldMask(paths=["pool", "start_time"]),
        allow_missing=True,
    )
    await refused_as(operator.catalogue.UpdateReservation(request), Code.INVALID_ARGUMENT)
    request.update_mask.paths.append("end_time")
    made = await operator.catalogue.UpdateReservation(request)
    assert (made.pool, made.end_time.seconds) == ("onprem-fra--cpu", 2)
