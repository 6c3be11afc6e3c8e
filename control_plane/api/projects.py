"""Whose what is: what a call finds of its project, and nothing of any other's.

`-` stands for whichever project; the door lets only credentials of every project say it.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from control_plane.api.answers import explanation_to_proto
from control_plane.api.ports import Answered, PlannedChange
from control_plane.api.validation import check_owned_name
from control_plane.api.views import FleetView
from control_plane.store.projects import no_such_project, taken_name
from control_plane.store.values import StoredDeployment
from scheduler.explain import Explanation
from scheduler.plan import PlacementPlan, Rejection, Shed, Unplaced
from skerry.api.operator.v1 import question_pb2
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.placement import Placement
from skerry.fleet.project import ANY_PROJECT
from skerry.plumbing.errors import Infeasible, InvalidInput, NotFound

Item = TypeVar("Item")
# As long as a name of anything may be: a pool's, which has a plane's in it, is one word.
_WORD = re.compile(r"[a-z0-9]+(?:-+[a-z0-9]+)*")
_OTHERS = "another project's"
_OfDeployment = TypeVar("_OfDeployment", Placement, Unplaced, Rejection, Shed)


def check_project(view: FleetView, project: str) -> str:
    """Return the project; NotFound where there is none of that name."""
    if project != ANY_PROJECT and project not in view.projects:
        raise no_such_project(project)
    return project


def check_one(view: FleetView, project: str) -> str:
    """Return the project that something is to be made in; InvalidInput for `-`."""
    if project == ANY_PROJECT:
        raise InvalidInput("name the one project that it is to be in", field="parent")
    return check_project(view, project)


def deployment_at(view: FleetView, full: str, field: str = "name") -> StoredDeployment:
    """Return the deployment of a full name; NotFound where it is none of that project."""
    return find_deployment(view, *check_owned_name(full, "deployments", field))


def find_deployment(view: FleetView, project: str, name: str) -> StoredDeployment:
    """Return a deployment of a project; NotFound where it is another's, as where there is none."""
    stored = view.stored.get(name)
    if stored is None or not is_in(project, stored.deployment.project):
        raise NotFound(f"deployment {name!r} does not exist; `skerry get deployments` lists them")
    return stored


def check_name_free(view: FleetView, wanted: Deployment) -> None:
    """Raise AlreadyExists where another project's deployment has the name; no more is told."""
    stored = view.stored.get(wanted.name)
    if stored is not None and stored.deployment.project != wanted.project:
        raise taken_name(wanted.name)


def owner_of(view: FleetView, full: str) -> str:
    """Return the project that a deployment of a full name is of, or is to be."""
    project, name = check_owned_name(full, "deployments")
    if project == ANY_PROJECT:
        return find_deployment(view, project, name).deployment.project
    return check_project(view, project)


def find_placement(view: FleetView, project: str, short: str) -> Placement | None:
    """Return the placement DEPLOYMENT--POOL of a project, None where it has none of that name."""
    names = [project] if project != ANY_PROJECT else view.projects
    found = (view.granted.placements.get(full_name(one, "placements", short)) for one in names)
    return next((placement for placement in found if placement is not None), None)


def is_in(project: str, owner: str) -> bool:
    """Say whether what `owner` has is found under a project."""
    return project in (owner, ANY_PROJECT)


def owned(
    view: FleetView, project: str, items: Iterable[Item], deployment_of: Callable[[Item], str]
) -> Sequence[Item]:
    """Return the items of a project's deployments.

    What is of none that is stored, as a replica that planes still end, is in `default`.
    """
    check_project(view, project)
    owners = view.index.owners
    if project == ANY_PROJECT or (project == DEFAULT_PROJECT and not owners):
        return tuple(items)
    return [item for item in items if owners.get(deployment_of(item), DEFAULT_PROJECT) == project]


async def explained(
    view: FleetView, deployment: Deployment, answer: Awaitable[Answered[Explanation]]
) -> question_pb2.Explanation:
    """Return an explanation; of a project's deployment, without names of others' deployments."""
    if deployment.project == DEFAULT_PROJECT:
        return explanation_to_proto(await answer)
    try:
        message = explanation_to_proto(await answer)
    except NotFound as error:
        if error.field != "name":
            raise
        # It would name those that there are.
        told = f"deployment {deployment.name!r} is not to be served any more"
        raise NotFound(told, field="name") from None
    others = _others(view, deployment.project)
    message.reasons[:] = [_without(others, reason) for reason in message.reasons]
    for way in message.ways:
        way.change = _without(others, way.change)
    return message


def infeasible(view: FleetView, project: str, error: Infeasible) -> Infeasible:
    """Return why something cannot be, as far as a project may know it."""
    if project == DEFAULT_PROJECT:
        return error
    return Infeasible(_without(_others(view, project), error.message), field=error.field)


def _others(view: FleetView, project: str) -> Collection[str]:
    return {name for name, one in view.index.deployments.items() if one.project != project}


def _without(names: Collection[str], text: str) -> str:
    """Return a sentence with others' deployments as such, and not by their names."""
    return _WORD.sub(lambda word: _OTHERS if word[0] in names else word[0], text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Narrowed:
    """A plan's part that is some deployments'."""

    plan: PlacementPlan
    before: tuple[Placement, ...]
    solve_seconds: float


def narrowed(
    view: FleetView, change: PlannedChange, project: str, wanted: Deployment | None = None
) -> PlannedChange:
    """Return what a plan does to a project's deployments, and to the one that is `wanted` anew.

    Whoever sees the fleet sees all of it: levels and prices of pools are sums over every project.
    """
    if project in (ANY_PROJECT, DEFAULT_PROJECT):
        return change
    names = {name for name, owner in view.index.owners.items() if owner == project}
    candidates = {} if wanted is None else {wanted.name: wanted}
    names |= candidates.keys()

    def own(items: Iterable[_OfDeployment]) -> tuple[_OfDeployment, ...]:
        return tuple(item for item in items if item.deployment in names)

    whole = change.plan
    placements = own(whole.placements)
    cost = sum(view.cost_per_hour(one, candidates.get(one.deployment)) for one in placements)
    shed = tuple(replace(one, taken_by=(), reason="") for one in own(whole.shed))
    plan = replace(
        whole,
        placements=placements,
        envelopes=(),
        unplaced=own(whole.unplaced),
        rejections=own(whole.rejections),
        shed=shed,
        levels=(),
        prices=(),
        cost_per_hour=cost,
    )
    return _Narrowed(plan=plan, before=own(change.before), solve_seconds=change.solve_seconds)
