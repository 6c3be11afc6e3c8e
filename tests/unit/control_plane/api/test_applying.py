"""What `Apply` promises: every fault told at once, all or none, and what differs by field."""

from dataclasses import replace
from typing import Any

import grpc
import pytest

from control_plane.api.applying import DIFFS_MAX, SPECS_MAX, diffs_between
from skerry.api.common.v1 import deployment_pb2 as spec_pb
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.client.context import Context
from skerry.client.operator import AsyncOperatorClient
from skerry.client.rows import ApplyOutcome, FieldDiffRow
from skerry.fleet.deployment import FailureDomain, ResourceShape, Tolerate
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.wire.deployments import deployment_to_proto
from tests.builders import a_deployment
from tests.unit.control_plane.api.conftest import Operator
from tests.unit.control_plane.api.test_bad_input import paths_of, refusal

pytestmark = pytest.mark.integration

PARENT = "projects/default"
Outcome = pb.ApplyDeploymentResponse
Code = grpc.StatusCode


def a_spec(name: str, served: str = "", **fields: Any) -> spec_pb.DeploymentSpec:
    spec = deployment_to_proto(a_deployment(name, **fields))
    spec.revision.base_model.served_name = served or name
    return spec


def asking(*specs: spec_pb.DeploymentSpec, **fields: Any) -> pb.ApplyRequest:
    return pb.ApplyRequest(parent=PARENT, specs=specs, **fields)


async def state_of(fleet: Operator) -> tuple[Any, ...]:
    """Return all that applying could change, the waking of the loop too."""
    changes = await fleet.stub.ListChanges(pb.ListChangesRequest(parent=PARENT))
    held = await fleet.stub.ListDeployments(pb.ListDeploymentsRequest(parent=PARENT))
    return changes, held, len(fleet.reconciler.woken)


def outcomes_of(answer: pb.ApplyResponse) -> list[int]:
    return [item.outcome for item in answer.deployments]


async def test_all_are_applied_with_a_change_each_and_a_repeat_is_one_effect(
    fleet: Operator,
) -> None:
    request = asking(a_spec("a"), a_spec("b"), request_id="r-1")
    first = await fleet.stub.Apply(request)
    assert outcomes_of(first) == [Outcome.OUTCOME_CREATED] * 2
    assert [item.deployment.name for item in first.deployments] == [
        f"{PARENT}/deployments/{name}" for name in ("a", "b")
    ]
    changes, held, woken = await state_of(fleet)
    assert [c.kind for c in changes.changes][-2:] == ["deployment.applied"] * 2
    assert woken == 1
    assert await fleet.stub.Apply(request) == first
    assert (await state_of(fleet))[:2] == (changes, held)


async def test_every_fault_of_every_spec_is_told_at_once(fleet: Operator) -> None:
    await fleet.stub.Apply(asking(a_spec("held")))
    nameless, shapeless = a_spec("nameless"), a_spec("shapeless")
    nameless.name = "UPPER"
    del shapeless.revision.shapes[:]
    shapeless.scaling.window_seconds = -1
    taken, twice = a_spec("taken", served="held"), a_spec("good")
    before = await state_of(fleet)
    error = await refusal(
        fleet.stub.Apply(asking(a_spec("good"), nameless, shapeless, taken, twice))
    )
    assert error.code() is Code.INVALID_ARGUMENT
    assert paths_of(error) == [
        "specs[1].metadata.name",
        "specs[2].spec.scaling.window",
        "specs[2].spec.resources",
        "specs[4].metadata.name",
        "specs[4].spec.baseModel.servedName",
        "specs[3].spec.baseModel.servedName",
    ]
    assert await state_of(fleet) == before


async def _delete(fleet: Operator) -> None:
    name = f"{PARENT}/deployments/held"
    await fleet.stub.DeleteDeployment(pb.DeleteDeploymentRequest(name=name))


REFUSALS: dict[str, tuple[pb.ApplyRequest, Code, str]] = {
    "served name taken": (
        asking(a_spec("a"), a_spec("b", served="held")),
        Code.ALREADY_EXISTS,
        "specs[1].spec.baseModel.servedName",
    ),
    "stale etag": (
        asking(a_spec("a"), a_spec("held", replicas=1), etags={"held": "stale"}),
        Code.ABORTED,
        "specs[1].etag",
    ),
    "deleting": (asking(a_spec("a"), a_spec("held")), Code.FAILED_PRECONDITION, "specs[1]"),
    "etag of another": (asking(a_spec("a"), etags={"b": "x"}), Code.INVALID_ARGUMENT, "etags"),
    "wild etag": (asking(a_spec("a"), etags={"a": "\n"}), Code.INVALID_ARGUMENT, "etags"),
    "wild request_id": (asking(a_spec("a"), request_id="\n"), Code.INVALID_ARGUMENT, "request_id"),
    "none": (asking(), Code.INVALID_ARGUMENT, "specs"),
    "too many": (
        asking(*(a_spec(f"d-{index}") for index in range(SPECS_MAX + 1))),
        Code.INVALID_ARGUMENT,
        "specs",
    ),
}


@pytest.mark.parametrize("what", sorted(REFUSALS))
@pytest.mark.parametrize("validate_only", [False, True])
async def test_what_is_refused_leaves_nothing_behind(
    what: str, validate_only: bool, fleet: Operator
) -> None:
    await fleet.stub.Apply(asking(a_spec("held")))
    if what == "deleting":
        await _delete(fleet)
    request, code, path = REFUSALS[what]
    asked = pb.ApplyRequest()
    asked.CopyFrom(request)
    asked.validate_only = validate_only
    before = await state_of(fleet)
    error = await refusal(fleet.stub.Apply(asked))
    assert (error.code(), paths_of(error)) == (code, [path]), error.details()
    assert await state_of(fleet) == before


async def test_as_many_as_are_allowed_are_applied(fleet: Operator) -> None:
    specs = [a_spec(f"d-{index}") for index in range(SPECS_MAX)]
    answer = await fleet.stub.Apply(asking(*specs))
    assert outcomes_of(answer) == [Outcome.OUTCOME_CREATED] * SPECS_MAX


async def test_served_names_may_go_round(fleet: Operator) -> None:
    await fleet.stub.Apply(asking(a_spec("a"), a_spec("b")))
    answer = await fleet.stub.Apply(asking(a_spec("a", served="b"), a_spec("b", served="a")))
    assert outcomes_of(answer) == [Outcome.OUTCOME_UPDATED] * 2
    assert [
        (diff.path, diff.before, diff.after) for item in answer.deployments for diff in item.diffs
    ] == [("revision.base_model.served_name", *pair) for pair in (("a", "b"), ("b", "a"))]


async def test_validating_only_answers_and_changes_nothing(fleet: Operator) -> None:
    await fleet.stub.Apply(asking(a_spec("held"), a_spec("same")))
    before = await state_of(fleet)
    wanted = a_spec("held", replicas=7)
    request = asking(a_spec("new"), wanted, a_spec("same"), validate_only=True, request_id="r-1")
    answer = await fleet.stub.Apply(request)
    assert outcomes_of(answer) == [
        Outcome.OUTCOME_CREATED,
        Outcome.OUTCOME_UPDATED,
        Outcome.OUTCOME_UNCHANGED,
    ]
    new, held, _ = answer.deployments
    assert (new.deployment.etag, new.deployment.HasField("create_time"), list(new.diffs)) == (
        "",
        False,
        [],
    )
    assert [(d.path, d.before, d.after) for d in held.diffs] == [
        ("scaling.min_replicas", "3", "7"),
        ("scaling.max_replicas", "3", "7"),
    ]
    assert await state_of(fleet) == before
    fleet.reconciler.epoch = 0  # a standby answers too: nothing is written
    assert await fleet.stub.Apply(request) == answer


def test_diffs_name_each_leaf_field_by_its_path() -> None:
    before = a_deployment(labels=(("team", "search"), ("tier", "1")))
    shapes = (*before.revision.shapes, ResourceShape(accelerator="h100"))
    policy = replace(
        before.policy,
        cost_per_hour_max=2.5,
        tolerate=Tolerate(domain=FailureDomain.PLANE, keep=0.5),
    )
    after = replace(
        before,
        labels=(("team", "x" * 200),),
        revision=replace(before.revision, number=9, shapes=shapes),
        policy=policy,
    )
    found = {diff.path: (diff.before, diff.after) for diff in diffs_between(before, after)}
    assert found == {
        "labels[team]": ("search", "x" * 119 + "\N{HORIZONTAL ELLIPSIS}"),
        "labels[tier]": ("1", ""),
        "revision.shapes[1].accelerator": ("", "h100"),
        "revision.shapes[1].accelerators": ("", "1"),
        "revision.shapes[1].host_memory_bytes": ("", "0"),
        "policy.tolerate.domain": ("", "plane"),
        "policy.tolerate.keep": ("", "0.5"),
        "policy.cost_per_hour_max": ("", "2.5"),
    }
    assert diffs_between(after, after) == []


def test_no_more_diffs_are_told_than_anybody_reads() -> None:
    before, after = (
        a_deployment(labels=tuple((f"l-{index:03}", text) for index in range(DIFFS_MAX + 50)))
        for text in ("a", "b")
    )
    assert len(diffs_between(before, after)) == DIFFS_MAX


async def test_the_client_applies_all_and_reads_what_that_did(fleet: Operator) -> None:
    context = Context(endpoints=(fleet.address,))
    async with AsyncOperatorClient(context, SystemIds(SystemClock()), "user:ana") as client:
        await client.apply_all([a_deployment("demo")])
        (row,) = await client.apply_all([a_deployment("demo", replicas=4)], validate_only=True)
        assert (row.outcome, row.deployment.name) == (ApplyOutcome.UPDATED, "demo")
        assert row.diffs[0] == FieldDiffRow(path="scaling.min_replicas", before="3", after="4")
        (row,) = await client.apply_all([a_deployment("demo")])
        assert (row.outcome, row.diffs) == (ApplyOutcome.UNCHANGED, ())
