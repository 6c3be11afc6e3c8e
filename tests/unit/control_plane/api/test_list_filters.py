"""Lists that are not of the fleet's view: filtered, ordered and paged as the others are."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from control_plane.api import long_lists
from control_plane.store.deployments import apply_deployment
from control_plane.store.placements import Decision, list_placements
from control_plane.store.plans import Proposal, put_in_force
from skerry.api.operator.v1 import catalogue_service_pb2 as catalogue_pb
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.fleet.placement import Placement
from tests.builders import a_deployment
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
POOLS = ("gcp-x--cpu", "onprem-fra--cpu")
Code = grpc.StatusCode


async def pages(method: Any, request: Any, field: str) -> list[list[Any]]:
    """Return the pages of a list, to the last one."""
    found = []
    while True:
        answer = await method(request)
        found.append(list(getattr(answer, field)))
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def rows(method: Any, request: Any, field: str) -> list[Any]:
    return [row for page in await pages(method, request, field) for row in page]


async def refused(call: Any, code: Any = Code.INVALID_ARGUMENT) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() is code
    return error.value.details() or ""


async def change(operator: Operator, count: int) -> None:
    """Record changes of the clouds c-0, c-1 ..., a cordon each."""
    for number in range(count):
        name = f"{PARENT}/clouds/c-{number}"
        await operator.catalogue.Cordon(catalogue_pb.CordonRequest(name=name))


async def decide(operator: Operator, number: int) -> None:
    decision = Decision(
        cost_per_hour=float(number % 3), solver="exact", optimal=True, solve_seconds=0.5
    )
    placed = (Placement(deployment="demo", pool=POOLS[0], count=number, reason="near"),)
    told = Proposal(decision=decision, placements=placed, summary=f"{number} replicas")

    def put(session: Any) -> None:
        put_in_force(session, operator.write(), told, list_placements(session), str(number), None)

    await operator.database.run(put)


async def test_revisions_are_filtered_and_ordered(fleet: Operator) -> None:
    for number in range(1, 5):
        model = replace(a_deployment().revision.base_model, uri=f"hf://org/model-{number}")
        revision = replace(a_deployment().revision, base_model=model)
        wanted = replace(a_deployment(), revision=revision)
        await fleet.database.run(apply_deployment, fleet.write(), wanted, "", "")

    async def numbers(**asked: Any) -> list[int]:
        request = pb.ListRevisionsRequest(parent=f"{PARENT}/deployments/demo", page_size=1, **asked)
        return [one.revision.number for one in await rows(list_, request, "revisions")]

    list_ = fleet.stub.ListRevisions
    assert await numbers() == [4, 3, 2, 1]
    assert await numbers(filter="current = true") == [4]
    assert await numbers(filter="revision.number < 4") == [3, 2, 1]
    assert await numbers(order_by="revision.number") == [1, 2, 3, 4]


async def test_prices_and_cordons_are_filtered_and_ordered(fleet: Operator) -> None:
    for hours, pool in enumerate((POOLS[0], POOLS[1], POOLS[0])):
        request = catalogue_pb.SetPriceRequest(parent=PARENT)
        request.price.pool, request.price.price_per_accelerator_hour = pool, 3.0 - hours
        request.price.valid_from.FromDatetime(START + timedelta(hours=hours))
        await fleet.catalogue.SetPrice(request)
    await change(fleet, 3)

    async def prices(**asked: Any) -> list[float]:
        request = catalogue_pb.ListPricesRequest(parent=PARENT, page_size=1, **asked)
        found = await rows(fleet.catalogue.ListPrices, request, "prices")
        return [price.price_per_accelerator_hour for price in found]

    async def cordons(**asked: Any) -> list[str]:
        request = catalogue_pb.ListCordonsRequest(parent=PARENT, page_size=2, **asked)
        found = await rows(fleet.catalogue.ListCordons, request, "cordons")
        return [cordon.name.rpartition("/")[2] for cordon in found]

    assert await prices() == [3.0, 1.0, 2.0]
    assert await prices(filter="price_per_accelerator_hour >= 2") == [3.0, 2.0]
    assert await prices(order_by="valid_from desc") == [1.0, 2.0, 3.0]
    assert await prices(pool=POOLS[0], order_by="price_per_accelerator_hour") == [1.0, 3.0]
    assert await cordons(order_by="name desc") == ["c-2", "c-1", "c-0"]
    assert await cordons(filter='name = "*c-1" AND draining = false') == ["c-1"]


async def test_a_token_is_of_the_prices_of_one_pool(fleet: Operator) -> None:
    for hours in range(2):
        request = catalogue_pb.SetPriceRequest(parent=PARENT)
        request.price.pool, request.price.price_per_accelerator_hour = POOLS[0], 1.0
        request.price.valid_from.FromDatetime(START + timedelta(hours=hours))
        await fleet.catalogue.SetPrice(request)
    asked = catalogue_pb.ListPricesRequest(parent=PARENT, pool=POOLS[0], page_size=1)
    asked.page_token = (await fleet.catalogue.ListPrices(asked)).next_page_token
    asked.pool = POOLS[1]
    await refused(fleet.catalogue.ListPrices(asked))


async def test_plans_are_filtered_and_ordered(
    fleet: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_lists, "PLANS_AT_ONCE", 2)
    for number in range(1, 6):
        await decide(fleet, number)

    async def plans(**asked: Any) -> list[str]:
        request = pb.ListPlansRequest(parent=PARENT, page_size=2, **asked)
        found = await rows(fleet.stub.ListPlans, request, "plans")
        return [plan.name.rpartition("/")[2] for plan in found]

    assert await plans() == ["5", "4", "3", "2", "1"]
    assert await plans(filter="cost_per_hour_after >= 1") == ["5", "4", "2", "1"]
    assert await plans(order_by="cost_per_hour_after desc") == ["5", "2", "4", "1", "3"]
    assert await plans(filter="state = applied AND summary:3") == ["3"]
    request = pb.ListPlansRequest(parent=PARENT, filter="placements:*")
    assert "do not tell 'placements'" in await refused(fleet.stub.ListPlans(request))


@pytest.mark.parametrize("order", ["", "sequence", "sequence desc"])
async def test_changes_are_filtered_over_the_whole_log_in_bounded_pieces(
    fleet: Operator, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    await change(fleet, 20)
    everything = await rows(fleet.stub.ListChanges, pb.ListChangesRequest(parent=PARENT), "changes")
    monkeypatch.setattr(long_lists, "CHANGES_AT_ONCE", 3)
    monkeypatch.setattr(long_lists, "CHANGES_READ_MAX", 6)
    request = pb.ListChangesRequest(
        parent=PARENT,
        page_size=2,
        filter='kind = "domain.*" AND subject = "*/c-1*"',
        order_by=order,
    )
    found = await pages(fleet.stub.ListChanges, request, "changes")
    wanted = [one for one in everything if "/clouds/c-1" in one.subject]
    assert len(wanted) == 11
    assert [row for page in found for row in page] == (
        wanted[::-1] if order == "sequence desc" else wanted
    )
    assert max(map(len, found)) == 2
    assert [] in found, "a page may be empty while more follow"


async def test_changes_that_pass_are_read_from_a_sequence_on(fleet: Operator) -> None:
    await change(fleet, 4)
    request = pb.ListChangesRequest(parent=PARENT, newest_first=True, filter="kind:cordoned")
    found = await rows(fleet.stub.ListChanges, request, "changes")
    assert len(found) == 4
    request.from_sequence = found[2].sequence
    request.page_token = ""
    assert await rows(fleet.stub.ListChanges, request, "changes") == found[:2]


@pytest.mark.parametrize(
    "asked",
    [
        {"order_by": "time"},
        {"order_by": "sequence, time"},
        {"order_by": "sequence", "newest_first": True},
        {"filter": "after:x"},
        {"filter": "before.state:x"},
        {"filter": "nothing = 1"},
    ],
)
async def test_what_the_log_is_not_asked_is_refused(
    operator: Operator, asked: dict[str, Any]
) -> None:
    request = pb.ListChangesRequest(parent=PARENT, **asked)
    await refused(operator.stub.ListChanges(request))


async def test_a_token_is_of_one_filter_of_changes(fleet: Operator) -> None:
    await change(fleet, 3)
    request = pb.ListChangesRequest(parent=PARENT, page_size=1, filter="kind:cordoned")
    request.page_token = (await fleet.stub.ListChanges(request)).next_page_token
    assert request.page_token
    request.filter = "kind:uncordoned"
    await refused(fleet.stub.ListChanges(request))
