"""The catalogue's API: entries by AIP, prices by time, cordons of domains."""

from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from control_plane.store.deployments import apply_deployment
from skerry.api.operator.v1 import (
    accelerator_kind_pb2,
    base_model_pb2,
    operator_service_pb2,
    price_pb2,
    reservation_pb2,
)
from skerry.api.operator.v1 import catalogue_service_pb2 as pb
from tests.builders import a_deployment
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
POOL = "onprem-fra--cpu"
Code = grpc.StatusCode


async def create(operator: Operator, name: str, **told: Any) -> Any:
    kind = accelerator_kind_pb2.AcceleratorKind(**told)
    request = pb.CreateAcceleratorKindRequest(
        parent=PARENT, accelerator_kind_id=name, accelerator_kind=kind
    )
    return await operator.catalogue.CreateAcceleratorKind(request)


async def listed(operator: Operator, **told: Any) -> list[str]:
    request = pb.ListAcceleratorKindsRequest(parent=PARENT, **told)
    found = await operator.catalogue.ListAcceleratorKinds(request)
    return [kind.name.rpartition("/")[2] for kind in found.accelerator_kinds]


def a_reservation(start: datetime, end: datetime, price: float = 0.5) -> Any:
    message = reservation_pb2.Reservation(pool=POOL, price_per_accelerator_hour=price)
    message.start_time.FromDatetime(start)
    message.end_time.FromDatetime(end)
    return message


async def reserve(operator: Operator, name: str, message: Any) -> Any:
    request = pb.CreateReservationRequest(parent=PARENT, reservation_id=name, reservation=message)
    return await operator.catalogue.CreateReservation(request)


async def pool(operator: Operator) -> Any:
    request = operator_service_pb2.GetPoolRequest(name=f"{PARENT}/pools/{POOL}")
    return await operator.stub.GetPool(request)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def test_an_entry_is_created_read_and_recorded(operator: Operator) -> None:
    made = await create(operator, "h100", vendor="nvidia", memory_bytes=80 * 2**30)
    request = pb.GetAcceleratorKindRequest(name=made.name)
    assert await operator.catalogue.GetAcceleratorKind(request) == made
    assert made.name == f"{PARENT}/acceleratorKinds/h100"
    changes = await operator.stub.ListChanges(
        operator_service_pb2.ListChangesRequest(parent=PARENT, newest_first=True, page_size=1)
    )
    assert changes.changes[0].kind == "accelerator-kind.created"
    told = await operator.stub.GetChange(
        operator_service_pb2.GetChangeRequest(name=changes.changes[0].name)
    )
    assert told.after.struct_value["vendor"] == "nvidia"
    assert not told.HasField("before")
    assert operator.reconciler.woken == [True]


async def test_a_name_that_is_taken_already_exists(operator: Operator) -> None:
    await create(operator, "h100")
    assert (await refused(create(operator, "h100"))).code() is Code.ALREADY_EXISTS


async def test_a_mask_changes_only_what_it_names(operator: Operator) -> None:
    made = await create(operator, "h100", vendor="nvidia", description="fast")
    changed = accelerator_kind_pb2.AcceleratorKind(name=made.name, description="faster")
    found = await operator.catalogue.UpdateAcceleratorKind(
        pb.UpdateAcceleratorKindRequest(
            accelerator_kind=changed, update_mask=FieldMask(paths=["description"])
        )
    )
    assert (found.vendor, found.description) == ("nvidia", "faster")
    assert found.etag != made.etag


async def test_a_mask_of_what_cannot_be_set_is_refused(operator: Operator) -> None:
    made = await create(operator, "h100")
    request = pb.UpdateAcceleratorKindRequest(
        accelerator_kind=made, update_mask=FieldMask(paths=["create_time"])
    )
    error = await refused(operator.catalogue.UpdateAcceleratorKind(request))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "description, memory_bytes, vendor" in (error.details() or "")


async def test_a_stale_etag_changes_and_deletes_nothing(operator: Operator) -> None:
    made = await create(operator, "h100")
    made.etag = "old"
    request = pb.UpdateAcceleratorKindRequest(accelerator_kind=made)
    error = await refused(operator.catalogue.UpdateAcceleratorKind(request))
    assert error.code() is Code.ABORTED
    gone = pb.DeleteAcceleratorKindRequest(name=made.name, etag="old")
    assert (await refused(operator.catalogue.DeleteAcceleratorKind(gone))).code() is Code.ABORTED
    assert await listed(operator) == ["h100"]


async def test_what_is_missing_is_created_only_when_allowed(operator: Operator) -> None:
    kind = accelerator_kind_pb2.AcceleratorKind(name=f"{PARENT}/acceleratorKinds/b200")
    request = pb.UpdateAcceleratorKindRequest(accelerator_kind=kind)
    assert (await refused(operator.catalogue.UpdateAcceleratorKind(request))).code() is (
        Code.NOT_FOUND
    )
    request.allow_missing = True
    assert (await operator.catalogue.UpdateAcceleratorKind(request)).name == kind.name


async def test_a_repeated_creation_is_one_effect_with_the_same_answer(operator: Operator) -> None:
    request = pb.CreateAcceleratorKindRequest(
        parent=PARENT,
        accelerator_kind_id="h100",
        accelerator_kind=accelerator_kind_pb2.AcceleratorKind(vendor="nvidia"),
        request_id="once",
    )
    first = await operator.catalogue.CreateAcceleratorKind(request)
    assert await operator.catalogue.CreateAcceleratorKind(request) == first
    request.accelerator_kind.vendor = "amd"
    error = await refused(operator.catalogue.CreateAcceleratorKind(request))
    assert error.code() is Code.INVALID_ARGUMENT


async def test_lists_are_filtered_ordered_and_paged(operator: Operator) -> None:
    for name, gib, vendor in (
        ("a100", 80, "nvidia"),
        ("b200", 192, "nvidia"),
        ("mi300", 192, "amd"),
    ):
        await create(operator, name, memory_bytes=gib * 2**30, vendor=vendor)
    assert await listed(operator, filter='vendor = "nvidia"') == ["a100", "b200"]
    assert await listed(operator, filter="NOT vendor:nvi OR name:a100") == ["a100", "mi300"]
    assert await listed(operator, order_by="memory_bytes desc, vendor") == ["mi300", "b200", "a100"]
    request = pb.ListAcceleratorKindsRequest(parent=PARENT, page_size=2, order_by="vendor desc")
    first = await operator.catalogue.ListAcceleratorKinds(request)
    request.page_token = first.next_page_token
    second = await operator.catalogue.ListAcceleratorKinds(request)
    names = [*first.accelerator_kinds, *second.accelerator_kinds]
    assert [kind.name.rpartition("/")[2] for kind in names] == ["a100", "b200", "mi300"]
    assert second.next_page_token == ""


async def test_what_is_in_use_is_not_deleted(fleet: Operator) -> None:
    made = await create(fleet, "cpu")
    request = pb.DeleteAcceleratorKindRequest(name=made.name)
    error = await refused(fleet.catalogue.DeleteAcceleratorKind(request))
    assert error.code() is Code.FAILED_PRECONDITION
    assert "gcp-x--cpu" in (error.details() or "")


async def test_a_model_that_is_served_is_not_deleted(fleet: Operator) -> None:
    deployment = a_deployment()
    await fleet.database.run(apply_deployment, fleet.write(), deployment, "", "")
    made = await fleet.catalogue.CreateBaseModel(
        pb.CreateBaseModelRequest(
            parent=PARENT,
            base_model_id="tiny",
            base_model=base_model_pb2.BaseModel(uri=deployment.revision.base_model.uri),
        )
    )
    request = pb.DeleteBaseModelRequest(name=made.name)
    error = await refused(fleet.catalogue.DeleteBaseModel(request))
    assert error.code() is Code.FAILED_PRECONDITION


async def test_a_pool_is_reserved_while_its_reservation_holds(fleet: Operator) -> None:
    day = timedelta(days=1)
    await reserve(fleet, "later", a_reservation(START + day, START + 2 * day))
    assert (await pool(fleet)).effective_terms.capacity_class == "on_demand"
    await reserve(fleet, "now", a_reservation(START - day, START + day))
    found = await pool(fleet)
    assert found.effective_terms.capacity_class == "reserved"
    assert found.effective_terms.price_per_accelerator_hour == 0.5
    assert found.terms.capacity_class == "on_demand"


async def test_a_reservation_that_ends_before_it_begins_is_refused(operator: Operator) -> None:
    error = await refused(reserve(operator, "never", a_reservation(START, START)))
    assert error.code() is Code.INVALID_ARGUMENT


async def test_the_latest_price_that_has_begun_counts(fleet: Operator) -> None:
    for hours, dollars in ((-2, 3.0), (-1, 2.0), (1, 1.0)):
        price = price_pb2.Price(pool=POOL, price_per_accelerator_hour=dollars)
        price.valid_from.FromDatetime(START + timedelta(hours=hours))
        await fleet.catalogue.SetPrice(pb.SetPriceRequest(parent=PARENT, price=price))
    assert (await pool(fleet)).effective_terms.price_per_accelerator_hour == 2.0
    found = await fleet.catalogue.ListPrices(pb.ListPricesRequest(parent=PARENT, pool=POOL))
    assert [price.price_per_accelerator_hour for price in found.prices] == [3.0, 2.0, 1.0]
    gone = pb.DeletePriceRequest(parent=PARENT, pool=POOL)
    gone.valid_from.FromDatetime(START - timedelta(hours=1))
    await fleet.catalogue.DeletePrice(gone)
    assert (await pool(fleet)).effective_terms.price_per_accelerator_hour == 3.0
    assert (await refused(fleet.catalogue.DeletePrice(gone))).code() is Code.NOT_FOUND


async def test_a_price_without_a_time_is_refused(operator: Operator) -> None:
    request = pb.SetPriceRequest(parent=PARENT, price=price_pb2.Price(pool=POOL))
    error = await refused(operator.catalogue.SetPrice(request))
    assert error.code() is Code.INVALID_ARGUMENT


async def cordons(operator: Operator) -> list[str]:
    found = await operator.catalogue.ListCordons(pb.ListCordonsRequest(parent=PARENT))
    return [cordon.name.split("/", 2)[2] for cordon in found.cordons]


@pytest.mark.parametrize("what", ["plane", "region", "cloud"])
async def test_a_cordoned_domain_closes_its_pools_until_it_is_ended(
    fleet: Operator, what: str
) -> None:
    plane = (
        await fleet.stub.GetPlane(
            operator_service_pb2.GetPlaneRequest(name=f"{PARENT}/planes/onprem-fra")
        )
    ).identity
    domain = {
        "plane": "planes/onprem-fra",
        "region": f"regions/{plane.cloud}/{plane.region}",
        "cloud": f"clouds/{plane.cloud}",
    }[what]
    request = pb.CordonRequest(name=f"{PARENT}/{domain}")
    assert (await fleet.catalogue.Cordon(request)).changed
    assert not (await fleet.catalogue.Cordon(request)).changed
    assert await cordons(fleet) == [domain]
    found = await pool(fleet)
    assert found.effective_terms.cordoned
    assert not found.terms.cordoned
    ended = pb.UncordonRequest(name=f"{PARENT}/{domain}")
    assert (await fleet.catalogue.Uncordon(ended)).changed
    assert not (await pool(fleet)).effective_terms.cordoned


@pytest.mark.parametrize(
    "name", ["", "x", f"{PARENT}/pools/a", f"{PARENT}/regions/only-cloud", f"{PARENT}/clouds/A"]
)
async def test_what_is_no_domain_is_not_cordoned(operator: Operator, name: str) -> None:
    error = await refused(operator.catalogue.Cordon(pb.CordonRequest(name=name)))
    assert error.code() is Code.INVALID_ARGUMENT


async def test_why_is_kept_with_the_change(operator: Operator) -> None:
    request = pb.CordonRequest(name=f"{PARENT}/clouds/acme")
    reason = "Wartung für Köln"
    await operator.catalogue.Cordon(request, metadata=(("x-skerry-reason-bin", reason.encode()),))
    found = await operator.catalogue.ListCordons(pb.ListCordonsRequest(parent=PARENT))
    assert found.cordons[0].reason == reason
    changes = await operator.stub.ListChanges(
        operator_service_pb2.ListChangesRequest(parent=PARENT, newest_first=True, page_size=1)
    )
    assert changes.changes[0].reason == reason


@pytest.mark.parametrize("reason", [b"\xff\xfe", b"a\nb", b"x" * 5_000])
async def test_a_reason_that_cannot_be_shown_is_refused(operator: Operator, reason: bytes) -> None:
    request = pb.CordonRequest(name=f"{PARENT}/clouds/acme")
    call = operator.catalogue.Cordon(request, metadata=(("x-skerry-reason-bin", reason),))
    assert (await refused(call)).code() is Code.INVALID_ARGUMENT
    assert await cordons(operator) == []


async def test_a_repeated_cordon_and_price_have_the_same_answer(fleet: Operator) -> None:
    cordon = pb.CordonRequest(name=f"{PARENT}/clouds/acme", request_id="once")
    assert (await fleet.catalogue.Cordon(cordon)).changed
    assert (await fleet.catalogue.Cordon(cordon)).changed
    price = price_pb2.Price(pool=POOL, price_per_accelerator_hour=1.0)
    price.valid_from.FromDatetime(START)
    await fleet.catalogue.SetPrice(pb.SetPriceRequest(parent=PARENT, price=price))
    gone = pb.DeletePriceRequest(parent=PARENT, pool=POOL, request_id="gone")
    gone.valid_from.FromDatetime(START)
    await fleet.catalogue.DeletePrice(gone)
    await fleet.catalogue.DeletePrice(gone)
