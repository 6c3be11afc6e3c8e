"""Clouds and regions in the API: those that are registered, and those that planes report."""

from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from control_plane.store.planes import record_report
from skerry.api.operator.v1 import catalogue_service_pb2 as pb
from skerry.api.operator.v1 import cloud_pb2, operator_service_pb2, region_pb2
from tests.builders import a_report, an_identity
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
FRA = f"{PARENT}/regions/onprem/fra"  # where the fleet's plane onprem-fra is
Code = grpc.StatusCode


async def register(operator: Operator, name: str, **latencies: float) -> Any:
    told = {client.replace("_", "-"): seconds for client, seconds in latencies.items()}
    region = region_pb2.Region(description="near", client_latency_seconds=told)
    request = pb.CreateRegionRequest(parent=PARENT, region_id=name, region=region)
    return await operator.catalogue.CreateRegion(request)


async def listed(operator: Operator, **told: Any) -> dict[str, Any]:
    found = await operator.catalogue.ListRegions(pb.ListRegionsRequest(parent=PARENT, **told))
    return {region.name.split("/", 3)[3]: region for region in found.regions}


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def test_a_region_that_is_reported_is_there_before_it_is_registered(fleet: Operator) -> None:
    found = await fleet.catalogue.GetRegion(pb.GetRegionRequest(name=FRA))
    assert found == region_pb2.Region(name=FRA, planes=["onprem-fra"])
    assert not found.HasField("create_time")
    assert set(await listed(fleet)) == {"gcp/x", "onprem/fra"}


async def test_a_registered_region_has_its_latencies_and_its_planes(fleet: Operator) -> None:
    made = await register(fleet, "onprem/fra", eu_west=0.012, us_east=0.09)
    assert dict(made.client_latency_seconds) == {"eu-west": 0.012, "us-east": 0.09}
    assert list(made.planes) == ["onprem-fra"]
    assert made.etag
    assert await fleet.catalogue.GetRegion(pb.GetRegionRequest(name=FRA)) == made
    assert (await listed(fleet))["onprem/fra"] == made
    assert fleet.reconciler.woken == [True]
    changes = await fleet.stub.ListChanges(
        operator_service_pb2.ListChangesRequest(parent=PARENT, newest_first=True, page_size=1)
    )
    assert changes.changes[0].kind == "region.created"
    assert changes.changes[0].subject == FRA


async def test_a_region_may_be_registered_before_its_first_plane(operator: Operator) -> None:
    longest = f"{'a' * 63}/{'b' * 63}"
    made = await register(operator, longest)
    assert made.name == f"{PARENT}/regions/{longest}"
    assert list(made.planes) == []


async def test_a_mask_changes_only_what_it_names(fleet: Operator) -> None:
    made = await register(fleet, "onprem/fra", eu=0.012)
    changed = region_pb2.Region(name=FRA, client_latency_seconds={"us": 0.1})
    request = pb.UpdateRegionRequest(
        region=changed, update_mask=FieldMask(paths=["client_latency_seconds"])
    )
    found = await fleet.catalogue.UpdateRegion(request)
    assert (found.description, dict(found.client_latency_seconds)) == ("near", {"us": 0.1})
    assert found.etag != made.etag
    assert list(found.planes) == ["onprem-fra"]


async def test_a_reported_region_is_registered_by_an_update_that_may_create(
    fleet: Operator,
) -> None:
    request = pb.UpdateRegionRequest(
        region=region_pb2.Region(name=FRA, description="ours"),
        update_mask=FieldMask(paths=["description"]),
    )
    assert (await refused(fleet.catalogue.UpdateRegion(request))).code() is Code.NOT_FOUND
    request.allow_missing = True
    found = await fleet.catalogue.UpdateRegion(request)
    assert (found.description, found.HasField("create_time")) == ("ours", True)


async def test_deleting_forgets_what_was_registered_and_not_the_planes(fleet: Operator) -> None:
    made = await register(fleet, "onprem/fra", eu=0.012)
    stale = pb.DeleteRegionRequest(name=FRA, etag="old")
    assert (await refused(fleet.catalogue.DeleteRegion(stale))).code() is Code.ABORTED
    await fleet.catalogue.DeleteRegion(pb.DeleteRegionRequest(name=FRA, etag=made.etag))
    assert (await listed(fleet))["onprem/fra"] == region_pb2.Region(name=FRA, planes=["onprem-fra"])
    again = await refused(fleet.catalogue.DeleteRegion(pb.DeleteRegionRequest(name=FRA)))
    assert again.code() is Code.NOT_FOUND


@pytest.mark.parametrize("name", ["fra", "onprem/fra/1", "onprem/", "onprem/FRA", "", "/"])
async def test_what_is_no_region_is_refused(operator: Operator, name: str) -> None:
    error = await refused(register(operator, name))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "CLOUD/REGION" in (error.details() or "") or "region" in (error.details() or "")
    request = pb.GetRegionRequest(name=f"{PARENT}/regions/{name}")
    assert (await refused(operator.catalogue.GetRegion(request))).code() is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 11.0])
async def test_a_latency_that_cannot_be_names_its_field(operator: Operator, seconds: float) -> None:
    error = await refused(register(operator, "onprem/fra", eu=seconds))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "client_latency_seconds from 'eu' must be 0..10 seconds" in (error.details() or "")


async def test_what_neither_is_registered_nor_reported_does_not_exist(fleet: Operator) -> None:
    region = pb.GetRegionRequest(name=f"{PARENT}/regions/onprem/nowhere")
    assert (await refused(fleet.catalogue.GetRegion(region))).code() is Code.NOT_FOUND
    cloud = pb.GetCloudRequest(name=f"{PARENT}/clouds/nowhere")
    assert (await refused(fleet.catalogue.GetCloud(cloud))).code() is Code.NOT_FOUND


async def test_regions_are_filtered_ordered_and_paged_with_the_reported_ones(
    fleet: Operator,
) -> None:
    await register(fleet, "aws/eu", de=0.005)
    assert list(await listed(fleet)) == ["aws/eu", "gcp/x", "onprem/fra"]
    assert list(await listed(fleet, filter='planes:"onprem-fra"')) == ["onprem/fra"]
    assert list(await listed(fleet, filter="client_latency_seconds.de < 0.01")) == ["aws/eu"]
    assert list(await listed(fleet, order_by="name desc")) == ["onprem/fra", "gcp/x", "aws/eu"]
    request = pb.ListRegionsRequest(parent=PARENT, page_size=2)
    first = await fleet.catalogue.ListRegions(request)
    request.page_token = first.next_page_token
    second = await fleet.catalogue.ListRegions(request)
    assert [len(first.regions), len(second.regions)] == [2, 1]


async def test_a_cloud_is_registered_described_and_forgotten(fleet: Operator) -> None:
    name = f"{PARENT}/clouds/onprem"
    request = pb.CreateCloudRequest(
        parent=PARENT, cloud_id="onprem", cloud=cloud_pb2.Cloud(description="our own")
    )
    made = await fleet.catalogue.CreateCloud(request)
    assert (made.name, made.description, list(made.planes)) == (name, "our own", ["onprem-fra"])
    assert (await refused(fleet.catalogue.CreateCloud(request))).code() is Code.ALREADY_EXISTS
    found = await fleet.catalogue.ListClouds(pb.ListCloudsRequest(parent=PARENT))
    assert [cloud.name.rpartition("/")[2] for cloud in found.clouds] == ["gcp", "onprem"]
    await fleet.catalogue.DeleteCloud(pb.DeleteCloudRequest(name=name))
    left = await fleet.catalogue.GetCloud(pb.GetCloudRequest(name=name))
    assert left == cloud_pb2.Cloud(name=name, planes=["onprem-fra"])


async def test_a_place_that_cannot_be_named_in_the_api_is_left_out(fleet: Operator) -> None:
    odd = replace(a_report("odd"), identity=an_identity("odd", cloud="My Cloud", region=""))
    await fleet.database.run(record_report, fleet.write(), odd)
    assert set(await listed(fleet)) == {"gcp/x", "onprem/fra"}
    found = await fleet.catalogue.ListClouds(pb.ListCloudsRequest(parent=PARENT))
    assert [cloud.name.rpartition("/")[2] for cloud in found.clouds] == ["gcp", "onprem"]
