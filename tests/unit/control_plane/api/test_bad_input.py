"""Whatever is sent, the answer is a code that says what to do: never UNKNOWN, never INTERNAL."""

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from control_plane.store.leadership import take_leadership
from skerry.api.common.v1 import deployment_pb2 as spec_pb
from skerry.api.common.v1 import supply_pb2
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.api.operator.v1 import pool_pb2, question_pb2
from skerry.plumbing.errors import FieldViolation
from skerry.wire.deployments import deployment_to_proto
from tests.builders import a_deployment
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
DEMO = f"{PARENT}/deployments/demo"
POOL = f"{PARENT}/pools/onprem-fra--cpu"
SERVICE = "/skerry.api.operator.v1.OperatorService"
Code = grpc.StatusCode
FUZZED_CALLS = 400  # about a second; the long fuzz is a benchmark's business
Break = Callable[[spec_pb.DeploymentSpec], Any]


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


def paths_of(error: grpc.aio.AioRpcError) -> list[str]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                fields = error_details_pb2.BadRequest()
                if detail.Unpack(fields):
                    return [violation.field for violation in fields.field_violations]
    return []


def setting(path: str, value: Any) -> Break:
    """Return what sets one field of a spec, by its path in the message."""
    *parents, last = path.split(".")

    def set_it(spec: spec_pb.DeploymentSpec) -> None:
        part: Any = spec
        for name in parents:
            part = part[int(name)] if name.isdigit() else getattr(part, name)
        setattr(part, last, value)

    return set_it


def both_degrees(spec: spec_pb.DeploymentSpec) -> None:
    spec.revision.engine.parallelism.tensor = 3
    spec.revision.shapes[0].accelerators = 4


def drafts_without_model(spec: spec_pb.DeploymentSpec) -> None:
    spec.revision.engine.speculative.method = "eagle3"
    spec.revision.engine.speculative.draft_tokens = 3


def continues_trtllm(spec: spec_pb.DeploymentSpec) -> None:
    spec.revision.engine.name = "tensorrt-llm"
    spec.revision.engine.version = "1.4"
    spec.revision.engine.protocol = "trtllm"
    spec.routing.continuation = True


BROKEN_SPECS: list[tuple[str, Break]] = [
    ("metadata.name", setting("name", "")),
    ("metadata.name", setting("name", "x" * 10_000)),
    ("metadata.name", setting("name", "../../etc")),
    ("metadata.name", setting("name", "dem\u043e")),  # Cyrillic о
    ("metadata.name", setting("name", "a\nb")),
    ("metadata.project", setting("project", "other")),
    ("metadata.labels['team']", lambda s: s.labels.update({"team": "a\x1b[31m"})),
    ("metadata.labels", lambda s: s.labels.update({f"k{n}": "v" for n in range(1_000)})),
    ("spec.baseModel.uri", setting("revision.base_model.uri", "")),
    ("spec.baseModel.uri", setting("revision.base_model.uri", "file:///a/../../etc/passwd")),
    ("spec.baseModel.uri", setting("revision.base_model.uri", "hf://a\x00b")),
    ("spec.baseModel.servedName", setting("revision.base_model.served_name", "../admin")),
    ("spec.baseModel.servedName", setting("revision.base_model.served_name", "<script>")),
    ("spec.baseModel.servedName", setting("revision.base_model.served_name", "skerry\u200e-tiny")),
    ("spec.engine.name", setting("revision.engine.name", "vlmm")),
    ("spec.engine.contextTokens", setting("revision.engine.context_tokens", -1)),
    ("spec.engine.concurrentRequests", setting("revision.engine.concurrent_requests", 0)),
    ("spec.engine.parallelism.tensor", setting("revision.engine.parallelism.tensor", -2)),
    ("spec.resources[0].count", both_degrees),
    ("spec.engine.speculativeDecoding.draftModelUri", drafts_without_model),
    ("spec.routing.continuation", continues_trtllm),
    ("spec.resources", lambda s: s.revision.ClearField("shapes")),
    ("spec.resources", lambda s: s.revision.shapes.extend([s.revision.shapes[0]] * 100)),
    ("spec.resources[1].accelerator", lambda s: s.revision.shapes.append(s.revision.shapes[0])),
    ("spec.resources[0].count", setting("revision.shapes.0.accelerators", 0)),
    ("spec.resources[0].hostMemory", setting("revision.shapes.0.host_memory_bytes", -(2**63))),
    (
        "spec.resources[0].throughputTokensPerSecond",
        setting("revision.shapes.0.throughput_tokens_per_second", math.nan),
    ),
    ("spec.objective.ttft", setting("revision.objective.ttft_seconds", -1.0)),
    ("spec.scaling.minReplicas", setting("scaling.min_replicas", 9)),
    ("spec.scaling.minReplicas", setting("scaling.min_replicas", -1)),
    ("spec.scaling.maxReplicas", setting("scaling.max_replicas", 2**31 - 1)),
    ("spec.scaling.window", setting("scaling.window_seconds", math.inf)),
    ("spec.scaling.scaleDownDelay", setting("scaling.scale_down_delay_seconds", -0.1)),
    ("spec.scaling.targetUtilization", setting("scaling.target_utilization", 1.5)),
    ("spec.placement.priority", setting("policy.priority", 4)),
    ("spec.placement.costPerHourMax", setting("policy.cost_per_hour_max", math.nan)),
    ("spec.placement.clouds[0]", lambda s: s.policy.clouds.append("aws\u202egcp")),
    ("spec.placement.clouds", lambda s: s.policy.clouds.extend(["aws"] * 10_000)),
    ("spec.placement.capacityClasses[0]", lambda s: s.policy.capacity_classes.append("free")),
    ("spec.placement.spread.domain", setting("policy.spread.domains_min", 2)),
    ("spec.placement.tolerate.keep", setting("policy.tolerate.keep", 2.0)),
    ("spec.routing.policy", setting("routing.policy", "cleverest")),
    ("spec.routing.queue.requestsMax", setting("routing.queue_requests_max", -1)),
    ("spec.routing.queue.secondsMax", setting("routing.queue_seconds_max", math.inf)),
]


@pytest.mark.parametrize(("path", "damage"), BROKEN_SPECS, ids=[path for path, _ in BROKEN_SPECS])
async def test_a_broken_spec_is_refused_at_its_field_and_changes_nothing(
    fleet: Operator, path: str, damage: Break
) -> None:
    spec = deployment_to_proto(a_deployment())
    damage(spec)
    for method, kind in (
        (fleet.stub.ApplyDeployment, pb.ApplyDeploymentRequest),
        (fleet.stub.PlanDeployment, pb.PlanDeploymentRequest),
    ):
        error = await refusal(method(kind(parent=PARENT, spec=spec)))
        assert error.code() is Code.INVALID_ARGUMENT, error.details()
        assert path in paths_of(error)
        assert all(ord(character) >= 32 for character in error.details() or "")
    listed = await fleet.stub.ListDeployments(pb.ListDeploymentsRequest(parent=PARENT))
    assert not listed.deployments
    assert not fleet.reconciler.woken


async def test_an_accelerator_that_no_pool_has_is_named_beside_those_there_are(
    fleet: Operator,
) -> None:
    spec = deployment_to_proto(a_deployment())
    spec.revision.shapes.add(accelerator="H100-80G", accelerators=1)
    error = await refusal(
        fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))
    )
    assert error.code() is Code.INVALID_ARGUMENT
    assert paths_of(error) == ["spec.resources[1].accelerator"]
    assert "there are cpu" in (error.details() or "")


async def test_before_any_plane_reported_no_accelerator_is_refused(operator: Operator) -> None:
    spec = deployment_to_proto(a_deployment())
    await operator.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))


async def test_what_the_engine_refuses_is_refused_here(fleet: Operator) -> None:
    fleet.refusals.append(FieldViolation(path="spec.engine.options", message="no such option"))
    spec = deployment_to_proto(a_deployment())
    error = await refusal(
        fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))
    )
    assert (error.code(), paths_of(error)) == (Code.INVALID_ARGUMENT, ["spec.engine.options"])


async def test_a_served_name_that_is_taken_already_exists(fleet: Operator) -> None:
    spec = deployment_to_proto(a_deployment())
    await fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))
    spec.name = "rival"
    for call in (
        fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec)),
        fleet.stub.PlanDeployment(pb.PlanDeploymentRequest(parent=PARENT, spec=spec)),
    ):
        error = await refusal(call)
        assert error.code() is Code.ALREADY_EXISTS
        assert paths_of(error) == ["spec.baseModel.servedName"]


def terms(**fields: Any) -> pool_pb2.PoolTerms:
    return pool_pb2.PoolTerms(**{"capacity_class": "spot", **fields})


def a_loss(domain: str = "plane", name: str = "fra") -> question_pb2.Hypothesis:
    return question_pb2.Hypothesis(lose=question_pb2.LostDomain(domain=domain, name=name))


def priced(factor: float, pool: str = "") -> question_pb2.Hypothesis:
    return question_pb2.Hypothesis(price=question_pb2.PriceFactor(factor=factor, pool=pool))


def loaded(factor: float, deployment: str = "") -> question_pb2.Hypothesis:
    demand = question_pb2.DemandFactor(factor=factor, deployment=deployment)
    return question_pb2.Hypothesis(demand=demand)


def a_new_pool(price: float | None = None, **plane: Any) -> question_pb2.Hypothesis:
    pool = question_pb2.NewPool(terms=terms(price_per_accelerator_hour=price))
    pool.plane.MergeFrom(supply_pb2.PlaneIdentity(**{"name": "new", **plane}))
    pool.shape.MergeFrom(
        supply_pb2.PoolShape(name="cpu", accelerator="cpu", nodes=1, accelerators_per_node=4)
    )
    return question_pb2.Hypothesis(pool=pool)


BAD_CALLS: list[tuple[str, Any, grpc.StatusCode, str]] = [
    ("ListPlanes", pb.ListPlanesRequest(), Code.INVALID_ARGUMENT, "parent"),
    ("ListPlanes", pb.ListPlanesRequest(parent="projects/A B"), Code.INVALID_ARGUMENT, "parent"),
    ("ListPlanes", pb.ListPlanesRequest(parent="projects/other"), Code.NOT_FOUND, ""),
    (
        "ListPools",
        pb.ListPoolsRequest(parent=PARENT, page_size=-1),
        Code.INVALID_ARGUMENT,
        "page_size",
    ),
    (
        "ListDeployments",
        pb.ListDeploymentsRequest(parent=PARENT, page_token="forged"),
        Code.INVALID_ARGUMENT,
        "page_token",
    ),
    (
        "ListReplicas",
        pb.ListReplicasRequest(parent=PARENT, page_token="W10="),
        Code.INVALID_ARGUMENT,
        "page_token",
    ),
    (
        "ListChanges",
        pb.ListChangesRequest(parent=PARENT, page_token="\u0436" * 5_000),
        Code.INVALID_ARGUMENT,
        "page_token",
    ),
    (
        "ListChanges",
        pb.ListChangesRequest(parent=PARENT, from_sequence=-1),
        Code.INVALID_ARGUMENT,
        "from_sequence",
    ),
    ("GetPlane", pb.GetPlaneRequest(name="planes/x"), Code.INVALID_ARGUMENT, "name"),
    ("GetPlane", pb.GetPlaneRequest(name=f"{PARENT}/planes/nowhere"), Code.NOT_FOUND, ""),
    ("GetPlane", pb.GetPlaneRequest(name=f"{PARENT}/planes/../x"), Code.INVALID_ARGUMENT, "name"),
    ("GetPool", pb.GetPoolRequest(name=f"{PARENT}/pools/nodashes"), Code.INVALID_ARGUMENT, "name"),
    ("GetPool", pb.GetPoolRequest(name=f"{PARENT}/pools/a--b"), Code.NOT_FOUND, ""),
    ("UpdatePool", pb.UpdatePoolRequest(name=POOL), Code.INVALID_ARGUMENT, "terms"),
    (
        "UpdatePool",
        pb.UpdatePoolRequest(name=POOL, terms=terms(capacity_class="free")),
        Code.INVALID_ARGUMENT,
        "terms.capacity_class",
    ),
    (
        "UpdatePool",
        pb.UpdatePoolRequest(name=POOL, terms=terms(price_per_accelerator_hour=math.nan)),
        Code.INVALID_ARGUMENT,
        "terms.price_per_accelerator_hour",
    ),
    (
        "UpdatePool",
        pb.UpdatePoolRequest(name=POOL, terms=terms(price_per_accelerator_hour=-1)),
        Code.INVALID_ARGUMENT,
        "terms.price_per_accelerator_hour",
    ),
    (
        "UpdatePool",
        pb.UpdatePoolRequest(name=POOL, terms=terms(), etag="old"),
        Code.ABORTED,
        "etag",
    ),
    (
        "UpdatePool",
        pb.UpdatePoolRequest(name=POOL, terms=terms(), request_id="x" * 1_000),
        Code.INVALID_ARGUMENT,
        "request_id",
    ),
    ("GetDeployment", pb.GetDeploymentRequest(name=DEMO), Code.NOT_FOUND, ""),
    ("DeleteDeployment", pb.DeleteDeploymentRequest(name=DEMO), Code.NOT_FOUND, ""),
    (
        "ApplyDeployment",
        pb.ApplyDeploymentRequest(parent=PARENT),
        Code.INVALID_ARGUMENT,
        "metadata.name",
    ),
    (
        "UpdatePool",
        pb.UpdatePoolRequest(name=POOL, terms=terms(price_per_accelerator_hour=50_000)),
        Code.INVALID_ARGUMENT,
        "terms.price_per_accelerator_hour",
    ),
    ("GetPlan", pb.GetPlanRequest(name=f"{PARENT}/plans/next"), Code.INVALID_ARGUMENT, "name"),
    ("GetPlan", pb.GetPlanRequest(name=f"{PARENT}/plans/9"), Code.NOT_FOUND, ""),
    ("GetPlan", pb.GetPlanRequest(name=f"{PARENT}/plans/current"), Code.NOT_FOUND, ""),
    ("GetPlan", pb.GetPlanRequest(name="current"), Code.INVALID_ARGUMENT, "name"),
    ("Explain", pb.ExplainRequest(), Code.INVALID_ARGUMENT, "name"),
    ("Explain", pb.ExplainRequest(name=f"{PARENT}/pools/a--b"), Code.INVALID_ARGUMENT, "name"),
    ("Explain", pb.ExplainRequest(name=DEMO, pool="cpu"), Code.INVALID_ARGUMENT, "pool"),
    ("Explain", pb.ExplainRequest(name=DEMO, pool="a--\x1b"), Code.INVALID_ARGUMENT, "pool"),
    ("WhatIf", pb.WhatIfRequest(changes=[a_loss()]), Code.INVALID_ARGUMENT, "parent"),
    ("WhatIf", pb.WhatIfRequest(parent=PARENT), Code.INVALID_ARGUMENT, "changes"),
    *(
        ("WhatIf", pb.WhatIfRequest(parent=PARENT, changes=changes), Code.INVALID_ARGUMENT, path)
        for changes, path in (
            ([a_loss()] * 17, "changes"),
            ([a_loss(), question_pb2.Hypothesis()], "changes[1]"),
            ([a_loss(domain="planet")], "changes[0].lose.domain"),
            ([a_loss(name="")], "changes[0].lose.name"),
            ([a_loss(name="a\nb")], "changes[0].lose.name"),
            ([a_loss(name="x" * 1_000)], "changes[0].lose.name"),
            ([priced(math.nan)], "changes[0].price.factor"),
            ([priced(-1.0)], "changes[0].price.factor"),
            ([priced(1e9)], "changes[0].price.factor"),
            ([priced(2.0, pool="cpu")], "changes[0].price.pool"),
            ([loaded(math.inf)], "changes[0].demand.factor"),
            ([loaded(2.0, deployment="De mo")], "changes[0].demand.deployment"),
            ([a_new_pool()], "changes[0].pool.terms.price_per_accelerator_hour"),
            ([a_new_pool(1.0)], "changes[0].pool.plane.cloud"),
            ([a_new_pool(1.0, cloud="c", region="r", name="A")], "changes[0].pool"),
            ([a_new_pool(1.0, cloud="c", region="r\n")], "changes[0].pool.plane.region"),
            (
                [a_new_pool(math.nan, cloud="c", region="r")],
                "changes[0].pool.terms.price_per_accelerator_hour",
            ),
        )
    ),
    ("Survive", pb.SurviveRequest(), Code.INVALID_ARGUMENT, "parent"),
    (
        "Survive",
        pb.SurviveRequest(parent=PARENT, domains=["plane", "moon"]),
        Code.INVALID_ARGUMENT,
        "domains[1]",
    ),
]


@pytest.mark.parametrize(("method", "request_", "code", "path"), BAD_CALLS)
async def test_a_bad_call_says_which_field(
    fleet: Operator, method: str, request_: Any, code: grpc.StatusCode, path: str
) -> None:
    error = await refusal(getattr(fleet.stub, method)(request_))
    assert error.code() is code, error.details()
    assert paths_of(error) == ([path] if path else []) or path in paths_of(error)


async def test_a_stale_etag_is_aborted(fleet: Operator) -> None:
    spec = deployment_to_proto(a_deployment())
    await fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))
    for call in (
        fleet.stub.ApplyDeployment(
            pb.ApplyDeploymentRequest(parent=PARENT, spec=spec, etag="stale")
        ),
        fleet.stub.DeleteDeployment(pb.DeleteDeploymentRequest(name=DEMO, etag="stale")),
    ):
        assert (await refusal(call)).code() is Code.ABORTED


async def test_a_request_id_used_for_another_body_is_refused(fleet: Operator) -> None:
    for replicas, code in ((1, None), (2, Code.INVALID_ARGUMENT)):
        spec = deployment_to_proto(a_deployment(replicas=replicas))
        request = pb.ApplyDeploymentRequest(parent=PARENT, spec=spec, request_id="r-1")
        if code is None:
            await fleet.stub.ApplyDeployment(request)
        else:
            error = await refusal(fleet.stub.ApplyDeployment(request))
            assert (error.code(), paths_of(error)) == (code, ["request_id"])


async def test_changing_what_is_being_deleted_fails_as_a_precondition(fleet: Operator) -> None:
    spec = deployment_to_proto(a_deployment())
    await fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))
    await fleet.stub.DeleteDeployment(pb.DeleteDeploymentRequest(name=DEMO))
    error = await refusal(
        fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))
    )
    assert error.code() is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("actor", "code"),
    [
        ("control-plane:reconcile", Code.PERMISSION_DENIED),
        ("plane:onprem-fra", Code.PERMISSION_DENIED),
        ("root", Code.INVALID_ARGUMENT),
        ("user:", Code.INVALID_ARGUMENT),
        ("user:a b", Code.INVALID_ARGUMENT),
        ("user:" + "x" * 200, Code.INVALID_ARGUMENT),
    ],
)
async def test_an_actor_that_is_not_a_callers_is_refused(
    fleet: Operator, actor: str, code: grpc.StatusCode
) -> None:
    request = pb.UpdatePoolRequest(name=POOL, terms=terms())
    call = fleet.stub.UpdatePool(request, metadata=(("x-skerry-actor", actor),))
    assert (await refusal(call)).code() is code


async def test_a_standby_and_a_deposed_leader_send_the_caller_on(fleet: Operator) -> None:
    request = pb.UpdatePoolRequest(name=POOL, terms=terms())
    await fleet.database.run(take_leadership, "cp-2", START)
    deposed = await refusal(fleet.stub.UpdatePool(request))
    fleet.reconciler.epoch = 0
    standby = await refusal(fleet.stub.UpdatePool(request))
    for error in (deposed, standby):
        assert error.code() is Code.UNAVAILABLE
        assert "another" in (error.details() or "")
    await fleet.stub.ListPools(pb.ListPoolsRequest(parent=PARENT))  # reading goes on


async def test_a_watch_from_the_future_or_before_the_first_is_refused(fleet: Operator) -> None:
    for sequence, code in ((-1, Code.INVALID_ARGUMENT), (2**62, Code.OUT_OF_RANGE)):
        request = pb.WatchChangesRequest(parent=PARENT, from_sequence=sequence)
        assert (await refusal(fleet.stub.WatchChanges(request).read())).code() is code


@pytest.mark.parametrize(
    "method", [m.name for m in pb.DESCRIPTOR.services_by_name["OperatorService"].methods]
)
@pytest.mark.parametrize(
    "garbage", [b"\xff" * 40, b"\x0a\x02\xff\xfe", b"\x0a\xff\xff\xff\xff\x0f"]
)
async def test_bytes_that_are_no_message_are_an_invalid_argument(
    fleet: Operator, method: str, garbage: bytes
) -> None:
    if method == "WatchChanges":
        stream: Any = fleet.channel.unary_stream(f"{SERVICE}/{method}")
        error = await refusal(stream(garbage).read())
    else:
        unary: Any = fleet.channel.unary_unary(f"{SERVICE}/{method}")
        error = await refusal(unary(garbage))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "DecodeError" not in (error.details() or "")


async def test_what_is_too_large_is_refused_before_it_is_read(fleet: Operator) -> None:
    huge = pb.ListPlanesRequest(parent="x" * (64 << 20))
    # A channel without our own limits; the second request is 64 kB on the wire.
    options = (("grpc.max_send_message_length", -1),)
    async with grpc.aio.insecure_channel(fleet.address, options=options) as channel:
        method: Any = channel.unary_unary(
            f"{SERVICE}/ListPlanes", request_serializer=pb.ListPlanesRequest.SerializeToString
        )
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            error = await refusal(method(huge, compression=compression))
            assert error.code() is Code.RESOURCE_EXHAUSTED


async def test_a_deadline_leaves_no_half_effect(fleet: Operator) -> None:
    spec = deployment_to_proto(a_deployment())
    request = pb.ApplyDeploymentRequest(parent=PARENT, spec=spec, request_id="r-1")
    # Whether it was in time or not, the repeat is answered as the one effect.
    hurried = fleet.stub.ApplyDeployment(request, timeout=0.002)
    assert await hurried.code() in (Code.OK, Code.DEADLINE_EXCEEDED)
    async with asyncio.timeout(10):
        applied = await fleet.stub.ApplyDeployment(request)
        log = await fleet.stub.ListChanges(pb.ListChangesRequest(parent=PARENT))
    assert applied.outcome == pb.ApplyDeploymentResponse.OUTCOME_CREATED
    assert [c.kind for c in log.changes].count("deployment.applied") == 1


async def test_a_closed_database_is_unavailable_and_says_when_to_come_back(
    fleet: Operator,
) -> None:
    fleet.database.close()
    error = await refusal(fleet.stub.ListPlanes(pb.ListPlanesRequest(parent=PARENT)))
    assert error.code() is Code.UNAVAILABLE


def damaged(good: bytes, chance: random.Random) -> bytes:
    """Return bytes with some flipped, cut, doubled and spliced."""
    data = bytearray(good)
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                del data[place : place + chance.randrange(1, 4)]
            case 2:
                data[place:place] = data[place : place + 8]
            case _:
                data[place] ^= 1 << chance.randrange(8)
    return bytes(data)


async def test_damaged_requests_never_end_in_unknown_or_internal(fleet: Operator) -> None:
    """A seeded fuzz of applying and planning."""
    chance = random.Random(20260101)
    spec = deployment_to_proto(a_deployment())
    spec.policy.tolerate.keep, spec.policy.tolerate.domain = 0.5, "cloud"
    spec.revision.engine.speculative.draft_tokens = 2
    good = pb.ApplyDeploymentRequest(parent=PARENT, spec=spec).SerializeToString()
    apply: Any = fleet.channel.unary_unary(f"{SERVICE}/ApplyDeployment")
    plan: Any = fleet.channel.unary_unary(f"{SERVICE}/PlanDeployment")
    seen: set[grpc.StatusCode] = set()
    for _ in range(FUZZED_CALLS):
        seen.add(await chance.choice((apply, plan))(damaged(good, chance)).code())
    assert seen <= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS}


async def test_damaged_questions_never_end_in_unknown_or_internal(fleet: Operator) -> None:
    """A seeded fuzz of what-if; few damaged ones get as far as being solved."""
    chance = random.Random(20260102)
    new = a_new_pool(1.0, cloud="c", region="r")
    changes = [a_loss(), priced(2.0, "aws--cpu"), loaded(1.5, "last"), new]
    good = pb.WhatIfRequest(parent=PARENT, changes=changes).SerializeToString()
    ask: Any = fleet.channel.unary_unary(f"{SERVICE}/WhatIf")
    seen = {await ask(damaged(good, chance)).code() for _ in range(FUZZED_CALLS // 2)}
    assert seen <= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND}
