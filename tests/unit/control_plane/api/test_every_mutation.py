"""Every method with a request_id, found by server reflection: once is once, whoever repeats it.

A new one needs an example here of what it takes: the first test says which is missing.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from control_plane.store.changes import last_sequence
from control_plane.store.deployments import apply_deployment
from control_plane.store.placements import Decision
from control_plane.store.planes import set_condition
from control_plane.store.plans import Proposal, put_in_force
from control_plane.store.rollouts import put_rollouts
from skerry.client.catalogue_calls import PROFILES, entry_message
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Placement
from skerry.fleet.rollout import Rollout, Stage
from skerry.wire.deployments import deployment_to_proto
from tests.builders import a_deployment, a_profile
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator
from tests.unit.control_plane.api.test_every_method import _in_thread as methods_in_thread

pytestmark = pytest.mark.integration

PARENT = "projects/default"
DEMO, FRA = f"{PARENT}/deployments/demo", f"{PARENT}/planes/onprem-fra"
CPU = "onprem-fra--cpu"
SECONDS_MAX = 10.0
Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A request that is answered, others that differ from it, and what must be there before."""

    request: Json
    others: tuple[Json, ...]
    after: tuple[str, ...] = ()  # methods whose examples are called first


def a_spec(name: str, most: int = 3) -> Json:
    spec = deployment_to_proto(a_deployment(name))
    spec.scaling.max_replicas = most
    return json_format.MessageToDict(spec)


def entries(noun: str, field: str, name: str, told: Json, other: Json) -> dict[str, Example]:
    """Return the examples of an entry's Create, Update and Delete."""
    collection = f"{noun[0].lower()}{noun[1:]}s"
    full, camel = f"{PARENT}/{collection}/{name}", f"{noun[0].lower()}{noun[1:]}"
    create = Example(
        request={"parent": PARENT, f"{field}_id": name, camel: told},
        others=({camel: {**told, **other}},),
    )
    update = Example(
        request={camel: {**told, **other, "name": full}},
        others=(
            {camel: {**told, "name": full}},
            {camel: {**told, **other, "name": full, "etag": "other"}},
            {"update_mask": next(iter(other))},
            {"allow_missing": True},
        ),
        after=(f"Create{noun}",),
    )
    delete = Example(request={"name": full}, others=({"etag": "other"},), after=(f"Create{noun}",))
    return {f"Create{noun}": create, f"Update{noun}": update, f"Delete{noun}": delete}


def a_measured_profile() -> tuple[str, Json]:
    """Return the name of a profile, which follows from its fields, and the message without it."""
    message = entry_message("default", PROFILES, a_profile({1: 100.0}))
    told = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return str(told.pop("name")).rpartition("/")[2], told


PROFILE_NAME, PROFILE = a_measured_profile()
PRICE = {"pool": CPU, "price_per_accelerator_hour": 2.0, "valid_from": "2030-01-01T00:00:00Z"}
RESERVED = {
    "pool": CPU,
    "price_per_accelerator_hour": 1.0,
    "start_time": "2030-01-01T00:00:00Z",
    "end_time": "2031-01-01T00:00:00Z",
}
ROLLOUT = Rollout(deployment="demo", revision=2, stable=1, stage=Stage.CANARY, since=START)
TOKEN = {
    "parent": PARENT,
    "service_token_id": "ci",
    "service_token": {"role": "operator", "projects": ["default"]},
    "token_sha256": base64.b64encode(bytes(32)).decode(),
}
KEY = {
    "parent": PARENT,
    "api_key_id": "team-a",
    "api_key": {"deployments": ["demo"], "requests_per_minute": 60, "tokens_per_minute": 9},
    "key_sha256": base64.b64encode(bytes(32)).decode(),
}
INVITE = {
    "parent": PARENT,
    "plane_invite_id": "new-plane",
    "plane_invite": {"expire_time": (START + timedelta(hours=1)).isoformat()},
    "proof_sha256": base64.b64encode(bytes(32)).decode(),
}
EXAMPLES: dict[str, Example] = {
    "CreateProject": Example(request={"project_id": "team-a"}, others=({"project_id": "team-b"},)),
    "DeleteProject": Example(
        request={"name": "projects/team-a"},
        others=({"name": "projects/team-b"},),
        after=("CreateProject",),
    ),
    "CreateApiKey": Example(
        request=KEY,
        others=(
            {"api_key": {"deployments": ["*"]}},
            {"key_sha256": base64.b64encode(bytes([1]) * 32).decode()},
        ),
    ),
    "RevokeApiKey": Example(
        request={"name": f"{PARENT}/apiKeys/team-a"}, others=(), after=("CreateApiKey",)
    ),
    "CreatePlaneInvite": Example(
        request=INVITE,
        others=(
            {"plane_invite_id": "other-plane"},
            {"proof_sha256": base64.b64encode(bytes([1]) * 32).decode()},
        ),
    ),
    "DeletePlaneInvite": Example(
        request={"name": f"{PARENT}/planeInvites/new-plane"},
        others=(),
        after=("CreatePlaneInvite",),
    ),
    "RevokePlane": Example(request={"name": FRA}, others=()),
    "CreateServiceToken": Example(
        request=TOKEN,
        others=(
            {"service_token": {"role": "viewer", "projects": ["default"]}},
            {"token_sha256": base64.b64encode(bytes([1]) * 32).decode()},
        ),
    ),
    "RevokeServiceToken": Example(
        request={"name": f"{PARENT}/serviceTokens/ci"}, others=(), after=("CreateServiceToken",)
    ),
    "RecordDrill": Example(
        request={
            "parent": PARENT,
            "drill": "plane-killed",
            "target": "onprem-fra",
            "held": True,
            "report": '{"failed": 0}',
        },
        others=({"held": False}, {"report": '{"failed": 1}'}),
    ),
    "SteerRollout": Example(
        request={"name": f"{DEMO}/rollout", "action": "ACTION_PAUSE"},
        others=({"action": "ACTION_UNDO"},),
    ),
    "UpdatePool": Example(
        request={
            "name": f"{PARENT}/pools/{CPU}",
            "terms": {"capacity_class": "spot", "cordoned": True},
        },
        others=(
            {"terms": {"capacity_class": "spot"}},
            {"etag": "other"},
            {"update_mask": "terms.cordoned"},
        ),
    ),
    "ApplyDeployment": Example(
        request={"parent": PARENT, "spec": a_spec("new")},
        others=({"spec": a_spec("new", 4)}, {"etag": "other"}),
    ),
    "Apply": Example(
        request={
            "parent": PARENT,
            "specs": [a_spec("new")],
            "intents": [{"cloud": {"name": f"{PARENT}/clouds/acme", "description": "a"}}],
        },
        others=(
            {"specs": [a_spec("new", 4)]},
            {"specs": []},
            {"intents": []},
            {"etags": {"new": "other"}},
        ),
    ),
    "CreateDeployment": Example(
        request={"parent": PARENT, "deployment_id": "new", "deployment": {"spec": a_spec("new")}},
        others=({"deployment": {"spec": a_spec("new", 4)}},),
    ),
    "UpdateDeployment": Example(
        request={"deployment": {"name": DEMO, "spec": a_spec("demo", 5)}},
        others=(
            {"deployment": {"name": DEMO, "spec": a_spec("demo", 6)}},
            {"deployment": {"name": DEMO, "spec": a_spec("demo", 5), "etag": "other"}},
            {"update_mask": "spec.scaling"},
            {"allow_missing": True},
        ),
    ),
    "RollbackDeployment": Example(
        request={"name": DEMO, "revision": 1}, others=({"revision": 2}, {"etag": "other"})
    ),
    "DeleteDeployment": Example(request={"name": DEMO}, others=({"etag": "other"},)),
    "ApprovePlan": Example(
        request={"name": f"{PARENT}/plans/1"}, others=({"name": f"{PARENT}/plans/2"},)
    ),
    "RejectPlan": Example(
        request={"name": f"{PARENT}/plans/1"}, others=({"name": f"{PARENT}/plans/2"},)
    ),
    **entries("AcceleratorKind", "accelerator_kind", "h100", {"vendor": "x"}, {"description": "b"}),
    **entries("BaseModel", "base_model", "llama", {"uri": "hf://a/b"}, {"description": "b"}),
    **entries("Reservation", "reservation", "year", RESERVED, {"description": "b"}),
    **entries("Profile", "profile", PROFILE_NAME, PROFILE, {"software": "another"}),
    **entries("Cloud", "cloud", "acme", {"description": "a"}, {"description": "b"}),
    **entries("Region", "region", "acme/north", {"description": "a"}, {"description": "b"}),
    "SetPrice": Example(
        request={"parent": PARENT, "price": PRICE},
        others=({"price": {**PRICE, "price_per_accelerator_hour": 3.0}},),
    ),
    "DeletePrice": Example(
        request={"parent": PARENT, "pool": CPU, "valid_from": PRICE["valid_from"]},
        others=({"valid_from": "2031-01-01T00:00:00Z"}, {"pool": "gcp-x--cpu"}),
        after=("SetPrice",),
    ),
    "Cordon": Example(request={"name": FRA}, others=({"name": f"{PARENT}/pools/{CPU}"},)),
    "Uncordon": Example(
        request={"name": FRA}, others=({"name": f"{PARENT}/planes/gcp-x"},), after=("Cordon",)
    ),
    "Drain": Example(request={"name": FRA}, others=({"name": f"{PARENT}/planes/gcp-x"},)),
    "Failover": Example(
        request={"name": FRA},
        others=({"name": f"{PARENT}/clouds/onprem"}, {"even_if_serving": True}),
    ),
    "ApproveRecovery": Example(request={"name": f"{PARENT}/recovery"}, others=({"etag": "other"},)),
    "MoveReplica": Example(
        request={"name": DEMO, "from_pool": "gcp-x--cpu", "to_pool": CPU},
        others=({"replicas": 2}, {"from_pool": CPU, "to_pool": "gcp-x--cpu"}),
    ),
}


@pytest.fixture
async def busy(fleet: Operator) -> Operator:
    """A fleet with two revisions of a deployment, a plan that waits, and a plane that is silent."""
    for most in (2, 4):
        wanted = replace(a_deployment(), revision=replace(a_deployment().revision, number=1))
        model = replace(wanted.revision.base_model, uri=f"builtin://{most}")
        wanted = replace(wanted, revision=replace(wanted.revision, base_model=model))
        await fleet.database.run(apply_deployment, fleet.write(), wanted, "", "")
    decision = Decision(cost_per_hour=1.5, solver="exact", optimal=True, solve_seconds=0.1)
    placed = (Placement(deployment="demo", pool="gcp-x--cpu", count=2, reason="cheapest"),)
    nothing = Proposal(decision=decision, placements=(), summary="nothing moves")
    waits = Proposal(decision=decision, placements=placed, summary="demo moves")
    await fleet.database.run(put_in_force, fleet.write(), nothing, (), "inputs", waits)
    await fleet.database.run(put_rollouts, fleet.write(), [(ROLLOUT, None)])
    suspect = PlaneCondition(state=PlaneState.SUSPECT, since=START)
    connected = PlaneState.CONNECTED
    await fleet.database.run(set_condition, fleet.write(), "onprem-fra", suspect, connected)
    fleet.see(onprem_fra=PlaneState.SUSPECT)
    return fleet


async def mutations(operator: Operator) -> dict[str, MethodDescriptor]:
    """Return every method with a request_id that the server tells of itself, by its name."""
    return {
        method.name: method
        for method in await methods_in_thread(operator.address)
        if "request_id" in method.input_type.fields_by_name
    }


async def call(fleet: Operator, method: MethodDescriptor, told: Json, request_id: str) -> Any:
    """Return the answer's bytes, of a stream the first, or the error."""
    request = json_format.ParseDict(
        {**told, "request_id": request_id}, GetMessageClass(method.input_type)()
    )
    path = f"/{method.containing_service.full_name}/{method.name}"
    body = request.SerializeToString(deterministic=True)
    try:
        if not method.server_streaming:
            unary: Any = fleet.channel.unary_unary(path)
            return await unary(body, timeout=SECONDS_MAX)
        streaming: Any = fleet.channel.unary_stream(path)
        stream = streaming(body, timeout=SECONDS_MAX)
        first = await stream.read()
        stream.cancel()
        return first
    except grpc.aio.AioRpcError as error:
        return error


async def test_every_mutation_has_an_example(operator: Operator) -> None:
    found = set(await mutations(operator))
    assert found - set(EXAMPLES) == set(), "give these methods an Example in EXAMPLES"
    assert set(EXAMPLES) - found == set(), "the API has no such methods"


@pytest.mark.parametrize("name", EXAMPLES)
async def test_a_mutation_is_made_once_under_its_request_id(busy: Operator, name: str) -> None:
    found, example = await mutations(busy), EXAMPLES[name]
    for before in example.after:
        made = await call(busy, found[before], EXAMPLES[before].request, f"before-{before}")
        assert isinstance(made, bytes), f"{before}: {made}"
    read = busy.database.run_read
    untouched = await read(last_sequence)
    first = await call(busy, found[name], example.request, "once")
    assert isinstance(first, bytes), f"the example of {name} is refused: {first}"
    sequence = await read(last_sequence)
    assert sequence > untouched, f"the example of {name} changes nothing"
    assert await call(busy, found[name], example.request, "once") == first
    assert await read(last_sequence) == sequence
    for other in example.others:
        refused = await call(busy, found[name], {**example.request, **other}, "once")
        assert isinstance(refused, grpc.aio.AioRpcError), f"{other} is taken for the same call"
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT, f"{other}: {refused}"
        assert "different call" in (refused.details() or ""), f"{other}: {refused}"
    assert await read(last_sequence) == sequence
