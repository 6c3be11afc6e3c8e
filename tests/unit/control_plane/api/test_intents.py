"""What `Apply` promises of intents: every fault told at once, all or none, what differs told."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from control_plane.api.intents import INTENTS_MAX
from control_plane.store.prices import list_prices
from skerry.api.operator.v1 import catalogue_service_pb2 as catalogue_pb
from skerry.api.operator.v1 import intent_pb2
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.client.context import Context
from skerry.client.operator import AsyncOperatorClient
from skerry.client.rows import ApplyOutcome, FieldDiffRow
from skerry.fleet.cordon import Part, Scope
from skerry.fleet.intent import CordonIntent, PoolIntent
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from tests.builders import T0, a_deployment
from tests.unit.control_plane.api.conftest import Operator
from tests.unit.control_plane.api.test_applying import (
    PARENT,
    Outcome,
    a_spec,
    outcomes_of,
    state_of,
)
from tests.unit.control_plane.api.test_bad_input import paths_of, refusal

pytestmark = pytest.mark.integration

POOL = "onprem-fra--cpu"
Code = grpc.StatusCode


def intent(kind: str, **fields: Any) -> intent_pb2.Intent:
    return intent_pb2.Intent(**{kind: fields})


def a_pool(price: float = 2.0, name: str = POOL, **fields: Any) -> intent_pb2.Intent:
    terms = {"capacity_class": "spot", "price_per_accelerator_hour": price}
    return intent("pool", name=f"{PARENT}/pools/{name}", terms=terms, **fields)


def a_price(dollars: float = 0.5, hours: int = 0) -> intent_pb2.Intent:
    valid_from = T0 + timedelta(hours=hours)
    return intent("price", pool=POOL, valid_from=valid_from, price_per_accelerator_hour=dollars)


def a_reservation(**fields: Any) -> intent_pb2.Intent:
    told: dict[str, Any] = {
        "name": f"{PARENT}/reservations/gpu-2026",
        "pool": POOL,
        "price_per_accelerator_hour": 1.5,
        "start_time": T0,
        "end_time": T0 + timedelta(days=1),
    }
    return intent("reservation", **{**told, **fields})


def a_kind(**fields: Any) -> intent_pb2.Intent:
    return intent("accelerator_kind", name=f"{PARENT}/acceleratorKinds/h100", **fields)


def a_region(**latencies: float) -> intent_pb2.Intent:
    name = f"{PARENT}/regions/gcp/west"
    return intent("region", name=name, client_latency_seconds=latencies)


def asking(*intents: intent_pb2.Intent, **fields: Any) -> pb.ApplyRequest:
    return pb.ApplyRequest(parent=PARENT, intents=intents, **fields)


EVERYTHING = (
    intent("cordon", name=f"{PARENT}/clouds/gcp", reason="leaving", draining=True),
    a_price(),
    a_reservation(),
    a_pool(),
    intent("base_model", name=f"{PARENT}/baseModels/tiny", uri="builtin://tiny"),
    a_kind(vendor="nvidia"),
    a_region(eu=0.02),
    intent("cloud", name=f"{PARENT}/clouds/gcp", description="rented"),
)


def told(answer: pb.ApplyResponse) -> list[tuple[str, int]]:
    return [(one.name.removeprefix(f"{PARENT}/"), one.outcome) for one in answer.intents]


def diffs(answer: pb.ApplyResponse) -> list[list[tuple[str, str, str]]]:
    return [[(d.path, d.before, d.after) for d in one.diffs] for one in answer.intents]


async def test_intents_and_deployments_are_applied_together_and_told_in_their_order(
    fleet: Operator,
) -> None:
    answer = await fleet.stub.Apply(asking(*EVERYTHING, specs=[a_spec("demo")]))
    created = Outcome.OUTCOME_CREATED
    assert outcomes_of(answer) == [created]
    assert told(answer) == [
        ("clouds/gcp", created),
        (f"pools/{POOL}/prices/2026-01-01T00:00:00Z", created),
        ("reservations/gpu-2026", created),
        (f"pools/{POOL}", created),
        ("baseModels/tiny", created),
        ("acceleratorKinds/h100", created),
        ("regions/gcp/west", created),
        ("clouds/gcp", created),
    ]
    assert diffs(answer) == [[]] * 8
    pool = await fleet.stub.GetPool(pb.GetPoolRequest(name=f"{PARENT}/pools/{POOL}"))
    assert (pool.terms.capacity_class, pool.terms.price_per_accelerator_hour) == ("spot", 2.0)
    assert len(fleet.reconciler.woken) == 1
    before = await state_of(fleet)
    again = await fleet.stub.Apply(asking(*EVERYTHING, specs=[a_spec("demo")]))
    assert {one.outcome for one in again.intents} == {Outcome.OUTCOME_UNCHANGED}
    assert (await state_of(fleet))[:2] == before[:2]


@pytest.mark.parametrize("validate_only", [False, True])
async def test_what_differs_is_told_by_field(validate_only: bool, fleet: Operator) -> None:
    await fleet.stub.Apply(asking(*EVERYTHING))
    before = await state_of(fleet)
    answer = await fleet.stub.Apply(
        asking(
            a_region(eu=0.05, us=0.1),
            a_pool(2.5),
            a_price(0.75),
            a_reservation(end_time=T0 + timedelta(days=2)),
            intent("cordon", name=f"{PARENT}/clouds/gcp", reason="leaving"),
            a_kind(vendor="nvidia"),
            validate_only=validate_only,
        )
    )
    updated, unchanged = Outcome.OUTCOME_UPDATED, Outcome.OUTCOME_UNCHANGED
    assert [one.outcome for one in answer.intents] == [updated] * 5 + [unchanged]
    assert diffs(answer) == [
        [
            ("client_latency_seconds[eu]", "0.02", "0.05"),
            ("client_latency_seconds[us]", "", "0.1"),
        ],
        [("terms.price_per_accelerator_hour", "2", "2.5")],
        [("price_per_accelerator_hour", "0.5", "0.75")],
        [("end_time", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z")],
        [("draining", "true", "false")],
        [],
    ]
    assert (await state_of(fleet) == before) is validate_only


async def test_every_fault_of_every_intent_is_told_at_once(fleet: Operator) -> None:
    shapeless = a_spec("shapeless")
    del shapeless.revision.shapes[:]
    wild = intent("pool", name=f"{PARENT}/pools/{POOL}", terms={"capacity_class": "cheap"})
    before = await state_of(fleet)
    error = await refusal(
        fleet.stub.Apply(
            asking(
                intent_pb2.Intent(),
                a_reservation(pool="UPPER"),
                a_reservation(name="gpu"),
                a_price(-1.0),
                wild,
                intent("pool", name=f"{PARENT}/pools/{POOL}"),
                intent("cordon", name=f"{PARENT}/galaxies/x"),
                intent("cordon", name=f"{PARENT}/clouds/x", reason="\x07"),
                a_kind(memory_bytes=-1),
                a_region(eu=-1.0),
                a_price(1.0),
                a_kind(),
                a_price(2.0),
                a_kind(etag="\n"),
                intent("price", pool=POOL, price_per_accelerator_hour=1.0),
                specs=[shapeless],
            )
        )
    )
    assert error.code() is Code.INVALID_ARGUMENT
    assert paths_of(error) == [
        "specs[0].spec.resources",
        "intents[0]",
        "intents[1].reservation.pool",
        "intents[2].reservation.name",
        "intents[3].price.price_per_accelerator_hour",
        "intents[4].pool.terms.capacity_class",
        "intents[5].pool.terms",
        "intents[6].cordon.name",
        "intents[7].cordon.reason",
        "intents[8].accelerator_kind.memory_bytes",
        "intents[9].region.client_latency_seconds",
        "intents[13].accelerator_kind.etag",
        "intents[14].price.valid_from",
        "intents[12].price",
    ]
    assert await state_of(fleet) == before


REFUSALS: dict[str, tuple[Callable[[], pb.ApplyRequest], Code, str]] = {
    "stale etag of a pool": (
        lambda: asking(a_kind(), a_pool(etag="stale")),
        Code.ABORTED,
        "intents[1].pool.etag",
    ),
    "stale etag of an entry": (
        lambda: asking(a_price(), a_kind(etag="stale")),
        Code.ABORTED,
        "intents[1].accelerator_kind.etag",
    ),
    "served name taken": (
        lambda: asking(a_kind(), specs=[a_spec("a"), a_spec("b", served="held")]),
        Code.ALREADY_EXISTS,
        "specs[1].spec.baseModel.servedName",
    ),
    "nothing": (asking, Code.INVALID_ARGUMENT, "specs"),
    "too many": (
        lambda: asking(*(a_price(hours=hours) for hours in range(INTENTS_MAX + 1))),
        Code.INVALID_ARGUMENT,
        "intents",
    ),
    "another project": (
        lambda: asking(intent("cloud", name="projects/other/clouds/x")),
        Code.NOT_FOUND,
        "",
    ),
}


@pytest.mark.parametrize("what", sorted(REFUSALS))
@pytest.mark.parametrize("validate_only", [False, True])
async def test_what_is_refused_leaves_nothing_behind(
    what: str, validate_only: bool, fleet: Operator
) -> None:
    await fleet.stub.Apply(asking(specs=[a_spec("held")]))
    make, code, path = REFUSALS[what]
    asked = make()
    asked.validate_only = validate_only
    before = await state_of(fleet)
    error = await refusal(fleet.stub.Apply(asked))
    assert (error.code(), paths_of(error)) == (code, [path] if path else []), error.details()
    assert await state_of(fleet) == before


async def test_as_many_as_are_allowed_are_applied(fleet: Operator) -> None:
    answer = await fleet.stub.Apply(asking(*(a_price(hours=hours) for hours in range(INTENTS_MAX))))
    assert {one.outcome for one in answer.intents} == {Outcome.OUTCOME_CREATED}
    held = await fleet.database.run_read(list_prices)
    assert len(held[POOL]) == INTENTS_MAX


async def test_a_standby_says_what_would_be_done_and_refuses_to_do_it(fleet: Operator) -> None:
    fleet.reconciler.epoch = 0
    asked = asking(*EVERYTHING, validate_only=True)
    answer = await fleet.stub.Apply(asked)
    assert {one.outcome for one in answer.intents} == {Outcome.OUTCOME_CREATED}
    asked.validate_only = False
    assert (await refusal(fleet.stub.Apply(asked))).code() is Code.UNAVAILABLE


async def test_a_repeat_is_one_effect_with_one_answer(fleet: Operator) -> None:
    await fleet.stub.Apply(asking(*EVERYTHING))
    asked = asking(a_pool(2.5), a_price(0.75), specs=[a_spec("demo")], request_id="r-1")
    first = await fleet.stub.Apply(asked)
    before = await state_of(fleet)
    assert await fleet.stub.Apply(asked) == first
    assert (await state_of(fleet))[:2] == before[:2]
    asked.intents[0].pool.terms.cordoned = True
    error = await refusal(fleet.stub.Apply(asked))
    assert paths_of(error) == ["request_id"]


async def test_terms_that_wait_for_their_pool_are_listed_without_a_shape(fleet: Operator) -> None:
    await fleet.stub.Apply(asking(a_pool(name="aws-x--gpu"), a_pool()))
    answer = await fleet.stub.ListPools(pb.ListPoolsRequest(parent=PARENT))
    assert [(p.name.rpartition("/")[2], p.HasField("shape")) for p in answer.pools] == [
        ("aws-x--gpu", False),
        ("gcp-x--cpu", True),
        (POOL, True),
    ]
    first = await fleet.stub.ListPools(pb.ListPoolsRequest(parent=PARENT, page_size=1))
    assert first.pools[0] == await fleet.stub.GetPool(pb.GetPoolRequest(name=first.pools[0].name))


async def test_a_cordon_has_the_reason_it_is_given_or_else_the_calls(fleet: Operator) -> None:
    named = intent("cordon", name=f"{PARENT}/planes/gcp-x", reason="its own")
    bare = intent("cordon", name=f"{PARENT}/planes/onprem-fra")
    metadata = (("x-skerry-reason-bin", b"the call's"),)
    await fleet.stub.Apply(asking(named, bare), metadata=metadata)
    listed = await fleet.catalogue.ListCordons(catalogue_pb.ListCordonsRequest(parent=PARENT))
    assert [c.reason for c in listed.cordons] == ["its own", "the call's"]


async def test_the_client_applies_everything_and_reads_what_was_said(fleet: Operator) -> None:
    context = Context(endpoints=(fleet.address,))
    waiting = PoolIntent(pool="aws-x--gpu", terms=PoolTerms(price_per_accelerator_hour=2.0))
    closed = CordonIntent(
        part=Part(scope=Scope.NODE, name="gcp-x--n1"), reason="bad fan", draining=True
    )
    async with AsyncOperatorClient(context, SystemIds(SystemClock()), "user:ana") as client:
        done = await client.apply_everything([a_deployment("demo")], [closed, waiting])
        assert [row.deployment.name for row in done.deployments] == ["demo"]
        assert [(row.intent, row.outcome) for row in done.intents] == [
            (closed, ApplyOutcome.CREATED),
            (waiting, ApplyOutcome.CREATED),
        ]
        dearer = PoolIntent(pool=waiting.pool, terms=PoolTerms(price_per_accelerator_hour=3.0))
        told = await client.apply_everything([], [dearer], validate_only=True)
        (row,) = told.intents
        assert (row.outcome, row.diffs) == (
            ApplyOutcome.UPDATED,
            (FieldDiffRow(path="terms.price_per_accelerator_hour", before="2", after="3"),),
        )
        assert await client.list_pool_intents() == (waiting,)
        assert await client.list_cordon_intents() == (closed,)
        assert [pool.name for pool in await client.list_pools()] == ["gcp-x--cpu", POOL]
        pool = await client.get_pool("aws-x--gpu")
        assert (pool.plane, pool.shape, pool.terms) == ("aws-x", None, waiting.terms)
