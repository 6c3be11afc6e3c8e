"""Each call of the operator API as a value: method, request, deadline, and how to read the answer.

The sync and the asyncio client of `skerry.client.operator` make the same calls through it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from skerry.api.common.v1 import deployment_pb2
from skerry.api.operator.v1 import operator_service_pb2 as messages
from skerry.client import operator_rows as read
from skerry.client import question_rows, questions, rows
from skerry.fleet.deployment import Deployment, FailureDomain
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.pool import PoolTerms
from skerry.wire.deployments import deployment_to_proto
from skerry.wire.enums import from_number

Answer = TypeVar("Answer")
Row = TypeVar("Row")

READ_SECONDS_MAX = 10.0
# Planning solves a placement problem, and applying may wait for the store's only writer.
WRITE_SECONDS_MAX = 30.0
# A question takes up to four turns of the solver; the server ends each after 45 s, and says so.
QUESTION_SECONDS_MAX = 200.0
PAGE_ROWS = 500
# Of a list that is held whole: 1,000 planes x 100 replicas fit twice.
PAGES_MAX = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Answer]):
    """One call: `read` turns the answer's message into a value."""

    method: str
    request: Any
    read: Callable[[Any], Answer]
    seconds_max: float = READ_SECONDS_MAX  # of the whole call, with all its attempts

    @property
    def is_repeatable(self) -> bool:
        """Say whether making the call twice has the effect of making it once."""
        # What has no such field changes nothing; of a write the answer is kept under its id.
        return bool(getattr(self.request, "request_id", "a read"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row]):
    """Some rows and the token of the next page; empty at the end."""

    rows: tuple[Row, ...]
    next_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which of a list, by an AIP-160 filter, in which AIP-132 order; empty: all, by name."""

    passes: str = ""
    order: str = ""

    def fields(self) -> dict[str, Any]:
        """Return the fields of a request for a list."""
        return {"filter": self.passes, "order_by": self.order}


EVERY = Which()


def list_planes(project: str, token: str, which: Which = EVERY) -> Call[Page[rows.PlaneRow]]:
    """Return the call for a page of planes."""
    request = messages.ListPlanesRequest(**page_fields(project, token), **which.fields())
    return page_call("ListPlanes", request, "planes", read.plane_row)


def list_pools(project: str, token: str, which: Which = EVERY) -> Call[Page[rows.PoolRow]]:
    """Return the call for a page of pools that planes have reported."""
    request = messages.ListPoolsRequest(**page_fields(project, token), **which.fields())

    def read_page(message: messages.ListPoolsResponse) -> Page[rows.PoolRow]:
        # Without a shape are those whose terms wait for their plane.
        reported = (pool for pool in message.pools if pool.HasField("shape"))
        return Page(rows=tuple(map(read.pool_row, reported)), next_token=message.next_page_token)

    return Call(method="ListPools", request=request, read=read_page)


def list_deployments(
    project: str, token: str, which: Which = EVERY
) -> Call[Page[rows.DeploymentRow]]:
    """Return the call for a page of deployments."""
    request = messages.ListDeploymentsRequest(**page_fields(project, token), **which.fields())
    return page_call("ListDeployments", request, "deployments", read.deployment_row)


def list_placements(
    project: str, token: str, which: Which = EVERY
) -> Call[Page[rows.PlacementRow]]:
    """Return the call for a page of placements."""
    request = messages.ListPlacementsRequest(**page_fields(project, token), **which.fields())
    return page_call("ListPlacements", request, "placements", read.placement_row)


def list_replicas(project: str, token: str, which: Which = EVERY) -> Call[Page[rows.ReplicaRow]]:
    """Return the call for a page of replicas."""
    request = messages.ListReplicasRequest(**page_fields(project, token), **which.fields())
    return page_call("ListReplicas", request, "replicas", read.replica_row)


def list_changes(
    project: str,
    token: str,
    from_sequence: int,
    *,
    newest_first: bool,
    page_rows: int = PAGE_ROWS,
    passes: str = "",
) -> Call[Page[rows.ChangeRow]]:
    """Return the call for a page of changes with a higher sequence that pass a filter."""
    request = messages.ListChangesRequest(
        parent=f"projects/{project}",
        page_size=page_rows,
        page_token=token,
        from_sequence=from_sequence,
        newest_first=newest_first,
        filter=passes,
    )
    return page_call("ListChanges", request, "changes", read.change_row)


def watch_request(project: str, from_sequence: int) -> messages.WatchChangesRequest:
    """Return the request for every change above a sequence, without end."""
    return messages.WatchChangesRequest(parent=f"projects/{project}", from_sequence=from_sequence)


def watched(message: messages.WatchChangesResponse) -> rows.ChangeRow:
    """Return the change that a watch's message brings."""
    return read.change_row(message.change)


def get_change(project: str, sequence: int) -> Call[rows.ChangeRow]:
    """Return the call for one change with what it did."""
    request = messages.GetChangeRequest(name=full_name(project, "changes", str(sequence)))
    return Call(method="GetChange", request=request, read=read.change_row)


def get_plane(project: str, name: str) -> Call[rows.PlaneRow]:
    """Return the call for one plane."""
    request = messages.GetPlaneRequest(name=full_name(project, "planes", name))
    return Call(method="GetPlane", request=request, read=read.plane_row)


def get_pool(project: str, name: str) -> Call[rows.PoolRow]:
    """Return the call for one pool, `name` the fleet-wide id."""
    request = messages.GetPoolRequest(name=full_name(project, "pools", name))
    return Call(method="GetPool", request=request, read=read.pool_row)


def get_deployment(project: str, name: str) -> Call[rows.DeploymentRow]:
    """Return the call for one deployment."""
    request = messages.GetDeploymentRequest(name=full_name(project, "deployments", name))
    return Call(method="GetDeployment", request=request, read=read.deployment_row)


def update_pool(
    project: str,
    name: str,
    terms: PoolTerms,
    etag: str,
    request_id: str,
    only: Collection[str] = (),
) -> Call[rows.PoolRow]:
    """Return the call that sets a pool's terms, if its etag is still that (empty: any)."""
    request = messages.UpdatePoolRequest(
        name=full_name(project, "pools", name),
        terms=read.terms_message(terms),
        etag=etag,
        request_id=request_id,
    )
    request.update_mask.paths.extend(f"terms.{field}" for field in sorted(only))
    return Call(
        method="UpdatePool", request=request, read=read.pool_row, seconds_max=WRITE_SECONDS_MAX
    )


def spec_of(deployment: Deployment) -> deployment_pb2.DeploymentSpec:
    """Return a deployment's spec; of no project, which its call names, where it says none."""
    spec = deployment_to_proto(deployment)
    if deployment.project == DEFAULT_PROJECT:
        spec.ClearField("project")
    return spec


def apply_deployment(
    project: str, deployment: Deployment, request_id: str
) -> Call[tuple[rows.DeploymentRow, rows.ApplyOutcome]]:
    """Return the call that creates or revises a deployment."""
    request = messages.ApplyDeploymentRequest(
        parent=f"projects/{project}", spec=spec_of(deployment), request_id=request_id
    )
    return Call(
        method="ApplyDeployment", request=request, read=_applied, seconds_max=WRITE_SECONDS_MAX
    )


def apply_all(
    project: str, deployments: Sequence[Deployment], request_id: str, *, validate_only: bool
) -> Call[tuple[rows.AppliedRow, ...]]:
    """Return the call that applies all or none, or says what that would do."""
    request = messages.ApplyRequest(
        parent=f"projects/{project}",
        specs=map(spec_of, deployments),
        request_id=request_id,
        validate_only=validate_only,
    )
    return Call(
        method="Apply", request=request, read=read.applied_rows, seconds_max=WRITE_SECONDS_MAX
    )


def plan_deployment(project: str, deployment: Deployment) -> Call[rows.PlanPreview]:
    """Return the call that shows what applying would do."""
    request = messages.PlanDeploymentRequest(parent=f"projects/{project}", spec=spec_of(deployment))
    return Call(
        method="PlanDeployment",
        request=request,
        read=read.plan_preview,
        seconds_max=WRITE_SECONDS_MAX,
    )


def get_plan(project: str, number: int | None = None) -> Call[rows.PlanPreview]:
    """Return the call for the decision in force, or for a plan by its number."""
    name = full_name(project, "plans", "current" if number is None else str(number))
    request = messages.GetPlanRequest(name=name)
    return Call(method="GetPlan", request=request, read=read.plan_preview)


def list_plans(project: str, token: str, which: Which = EVERY) -> Call[Page[rows.PlanRow]]:
    """Return the call for a page of plans, the newest first unless ordered."""
    request = messages.ListPlansRequest(**page_fields(project, token), **which.fields())
    return page_call("ListPlans", request, "plans", read.plan_row)


def settle_plan(
    project: str, number: int, request_id: str, *, approved: bool
) -> Call[rows.PlanRow]:
    """Return the call that approves or rejects a plan that waits."""
    verb = "Approve" if approved else "Reject"
    name = full_name(project, "plans", str(number))
    request = getattr(messages, f"{verb}PlanRequest")(name=name, request_id=request_id)
    return Call(
        method=f"{verb}Plan",
        request=request,
        read=read.plan_row,
        seconds_max=WRITE_SECONDS_MAX,
    )


def explain(project: str, deployment: str, pool: str | None) -> Call[questions.Explanation]:
    """Return the call that asks why a deployment is where it is, or is or is not on a pool."""
    request = messages.ExplainRequest(
        name=full_name(project, "deployments", deployment), pool=pool or ""
    )
    return Call(
        method="Explain",
        request=request,
        read=question_rows.explanation,
        seconds_max=QUESTION_SECONDS_MAX,
    )


def what_if(project: str, changes: Sequence[questions.Hypothesis]) -> Call[questions.Consequences]:
    """Return the call that asks what some changes would do."""
    request = messages.WhatIfRequest(
        parent=f"projects/{project}", changes=map(question_rows.hypothesis_message, changes)
    )
    return Call(
        method="WhatIf",
        request=request,
        read=question_rows.consequences,
        seconds_max=QUESTION_SECONDS_MAX,
    )


def survive(project: str, domains: Sequence[FailureDomain]) -> Call[tuple[questions.LossRow, ...]]:
    """Return the call that asks what each loss would leave; no domain means every kind."""
    request = messages.SurviveRequest(parent=f"projects/{project}", domains=domains)
    return Call(
        method="Survive",
        request=request,
        read=question_rows.losses,
        seconds_max=QUESTION_SECONDS_MAX,
    )


def list_revisions(
    project: str, name: str, token: str, which: Which = EVERY
) -> Call[Page[rows.RevisionRow]]:
    """Return the call for a page of a deployment's revisions, the newest first unless ordered."""
    request = messages.ListRevisionsRequest(
        parent=full_name(project, "deployments", name),
        page_size=PAGE_ROWS,
        page_token=token,
        **which.fields(),
    )
    return page_call("ListRevisions", request, "revisions", read.revision_row)


def rollback_deployment(
    project: str, name: str, revision: int, request_id: str
) -> Call[rows.DeploymentRow]:
    """Return the call that makes an earlier revision the present one; 0: the one before."""
    request = messages.RollbackDeploymentRequest(
        name=full_name(project, "deployments", name), revision=revision, request_id=request_id
    )
    return Call(
        method="RollbackDeployment",
        request=request,
        read=read.deployment_row,
        seconds_max=WRITE_SECONDS_MAX,
    )


def delete_deployment(project: str, name: str, request_id: str) -> Call[None]:
    """Return the call that deletes a deployment."""
    request = messages.DeleteDeploymentRequest(
        name=full_name(project, "deployments", name), request_id=request_id
    )
    return Call(
        method="DeleteDeployment",
        request=request,
        read=lambda _: None,
        seconds_max=WRITE_SECONDS_MAX,
    )


def page_fields(project: str, token: str) -> dict[str, Any]:
    """Return the fields that every request for a page has."""
    return {"parent": f"projects/{project}", "page_size": PAGE_ROWS, "page_token": token}


def page_call(
    method: str, request: Any, field: str, read_row: Callable[[Any], Row]
) -> Call[Page[Row]]:
    """Return the call for a page whose rows are in that field of the answer."""

    def read_page(message: Any) -> Page[Row]:
        entries: Sequence[Any] = getattr(message, field)
        return Page(rows=tuple(map(read_row, entries)), next_token=message.next_page_token)

    return Call(method=method, request=request, read=read_page)


def _applied(
    message: messages.ApplyDeploymentResponse,
) -> tuple[rows.DeploymentRow, rows.ApplyOutcome]:
    outcome = from_number(read.OUTCOMES, message.outcome, "outcome")
    return read.deployment_row(message.deployment), outcome
