"""Projects: calls and rows; `operator_methods` makes methods of clients of them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from skerry.api.operator.v1 import projects_pb2 as pb
from skerry.client.operator_calls import (
    PAGE_ROWS,
    WRITE_SECONDS_MAX,
    Call,
    Page,
    Which,
    page_call,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRow:
    """A project, and how many deployments it owns; no time of `default`, which always was."""

    name: str
    creator: str
    created_at: datetime | None
    deployments: int


def list_projects(token: str, which: Which) -> Call[Page[ProjectRow]]:
    """Return the call for a page of projects."""
    request = pb.ListProjectsRequest(page_size=PAGE_ROWS, page_token=token, **which.fields())
    return page_call("ListProjects", request, "projects", project_row)


def get_project(name: str) -> Call[ProjectRow]:
    """Return the call for one project."""
    request = pb.GetProjectRequest(name=f"projects/{name}")
    return Call(method="GetProject", request=request, read=project_row)


def create_project(name: str, request_id: str) -> Call[ProjectRow]:
    """Return the call that makes a project."""
    request = pb.CreateProjectRequest(project_id=name, request_id=request_id)
    return Call(
        method="CreateProject", request=request, read=project_row, seconds_max=WRITE_SECONDS_MAX
    )


def delete_project(name: str, request_id: str) -> Call[None]:
    """Return the call that forgets a project that owns nothing."""
    request = pb.DeleteProjectRequest(name=f"projects/{name}", request_id=request_id)
    return Call(
        method="DeleteProject",
        request=request,
        read=lambda _: None,
        seconds_max=WRITE_SECONDS_MAX,
    )


def project_row(message: Any) -> ProjectRow:
    """Return the row of a project's message."""
    made = message.create_time.ToDatetime(UTC) if message.HasField("create_time") else None
    return ProjectRow(
        name=message.name.rpartition("/")[2],
        creator=message.creator,
        created_at=made,
        deployments=message.deployments,
    )
