"""skerry.api.operator.v1.ProjectService: who owns deployments, API keys and service tokens.

Making and deleting projects is for credentials of every project; each sees those it is for.
"""

from collections import Counter
from typing import Any

from google.protobuf.empty_pb2 import Empty

from control_plane.api import validation
from control_plane.api.access.decision import sees_project
from control_plane.api.access.door import principal_of
from control_plane.api.listing import listed
from control_plane.api.projects import check_project
from control_plane.api.times import time_to_proto
from control_plane.api.views import FleetView, FleetViews
from control_plane.api.writing import Writing
from control_plane.store.engine import Database
from control_plane.store.projects import create_project, delete_project
from skerry.api.operator.v1 import projects_pb2 as pb
from skerry.api.operator.v1.projects_pb2_grpc import ProjectServiceServicer
from skerry.fleet.names import InvalidName, check_name
from skerry.fleet.project import ANY_PROJECT, DEFAULT, Project
from skerry.plumbing.errors import InvalidInput


class ProjectService(ProjectServiceServicer):
    """Projects of one control plane."""

    def __init__(self, database: Database, writing: Writing, views: FleetViews) -> None:
        """Keep projects in this store, and count what they own in these views."""
        self._database = database
        self._writing = writing
        self._views = views

    async def ListProjects(self, request: pb.ListProjectsRequest, context: Any) -> Any:
        """Return a page of the projects that the caller's grants reach, by name."""
        view, principal = await self._views.now(), principal_of(context)
        every = sorted((DEFAULT, *view.store.projects), key=lambda project: project.name)
        seen = [project for project in every if sees_project(principal, project.name)]
        counted = _deployments(view)
        page = listed(
            request,
            seen,
            lambda project: project.name,
            lambda project: project_to_proto(project, counted[project.name]),
            pb.Project,
        )
        return pb.ListProjectsResponse(projects=page.items, next_page_token=page.next_token)

    async def GetProject(self, request: pb.GetProjectRequest, context: Any) -> pb.Project:
        """Return one project."""
        name, view = _name_of(request.name), await self._views.now()
        check_project(view, name)
        found = next((one for one in view.store.projects if one.name == name), DEFAULT)
        return project_to_proto(found, _deployments(view)[name])

    async def CreateProject(self, request: pb.CreateProjectRequest, context: Any) -> pb.Project:
        """Make a project."""
        request_id = validation.check_opaque(request.request_id, "request_id")
        try:
            name = check_name(request.project_id, "project")
        except InvalidName as error:
            raise InvalidInput(str(error), field="project_id") from error
        write = self._writing.context(context)
        project = Project(name=name, creator=write.actor, created_at=write.now)
        with self._writing.done():
            made = await self._database.run(create_project, write, project, request_id)
        return project_to_proto(made, 0)

    async def DeleteProject(self, request: pb.DeleteProjectRequest, context: Any) -> Empty:
        """Forget a project that owns nothing."""
        name = _name_of(request.name)
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            await self._database.run(delete_project, write, name, request_id)
        return Empty()


def project_to_proto(project: Project, deployments: int) -> pb.Project:
    """Return the message of a project that owns so many deployments."""
    created = project.created_at
    return pb.Project(
        name=f"projects/{project.name}",
        create_time=time_to_proto(created) if created else None,
        creator=project.creator,
        deployments=deployments,
    )


def _name_of(full: str) -> str:
    name = validation.check_owner(full, "name")
    if name == ANY_PROJECT:
        raise InvalidInput(f"{full!r} names no one project", field="name")
    return name


def _deployments(view: FleetView) -> Counter[str]:
    return Counter(one.project for one in view.index.deployments.values())
