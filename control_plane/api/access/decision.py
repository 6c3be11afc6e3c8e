"""May this principal call this method for what its request names? Pure; the door asks.

What a caller may not do at all is Denied. What it may do, but not there, is NotFound, whether it is
there or not: nobody learns which projects and planes others have.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.api.access.matrix import KNOWN, MATRIX, OPEN, Entry, Scope
from skerry.fleet.access import EVERY_PROJECT, Grant, Principal, Role
from skerry.plumbing.errors import Denied, InvalidInput, NotFound, SkerryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The projects and planes that a request names, wherever in it."""

    projects: frozenset[str] = frozenset()
    planes: frozenset[str] = frozenset()


def needs_credential(method: str) -> bool:
    """Say whether a method, `/package.Service/Method`, is closed to who shows none."""
    return method not in OPEN


def needs_names(principal: Principal, method: str) -> bool:
    """Say whether it matters what the request names; it never does for grants of everything."""
    return method in MATRIX and any(
        grant.planes or not _is_all(grant) for grant in principal.grants
    )


def refusal_of(
    principal: Principal, method: str, named: Named, matrix: Mapping[str, Entry] = MATRIX
) -> SkerryError | None:
    """Return why the principal may not call the method, None where it may."""
    if method in OPEN or method in KNOWN:
        return None
    name = method.rpartition("/")[2]
    entry = matrix.get(method)
    if entry is None:
        return Denied(f"{name} is open to nobody: the access matrix has no line for it")
    able = [grant for grant in principal.grants if _may(grant, entry)]
    if not able:
        return _lacking(principal, name, entry)
    if any(_is_all(grant) and not grant.planes for grant in able):
        return None
    if entry.scope is Scope.OWN:
        return None
    if entry.scope is Scope.FLEET:
        return Denied(
            f"{name} is about the whole fleet, and {principal.actor} is for some projects;"
            " ask with a credential for every project"
        )
    if not named.projects:
        return InvalidInput(
            f"{name} must name a project, as in projects/PROJECT, for a credential of some projects"
        )
    if any(_is_there(grant, entry, named) for grant in able):
        return None
    return NotFound(
        "what the request names does not exist for this credential;"
        f" it is for {'; '.join(_where(grant) for grant in able)}"
    )


def may_grant(principal: Principal, told: Grant) -> bool:
    """Say whether the principal has itself, in one grant, all that it would give away."""
    return any(grant.includes(told.role) and grant.spans(told) for grant in principal.grants)


def may_see(principal: Principal, told: Grant) -> bool:
    """Say whether one of the principal's grants holds wherever this one does."""
    return any(grant.spans(told) for grant in principal.grants)


def sees_project(principal: Principal, project: str) -> bool:
    """Say whether a viewer's grant holds in the whole of a project."""
    return any(
        grant.includes(Role.VIEWER) and not grant.planes and grant.reaches(frozenset({project}))
        for grant in principal.grants
    )


def _may(grant: Grant, entry: Entry) -> bool:
    return grant.includes(entry.role) and (not grant.planes or entry.scope is Scope.PLANE)


def _is_there(grant: Grant, entry: Entry, named: Named) -> bool:
    planes = named.planes if entry.scope is Scope.PLANE else frozenset()
    return grant.reaches(named.projects) and grant.reaches_planes(planes)


def _is_all(grant: Grant) -> bool:
    return EVERY_PROJECT in grant.projects


def _lacking(principal: Principal, name: str, entry: Entry) -> Denied:
    if any(grant.includes(entry.role) for grant in principal.grants):
        return Denied(
            f"{name} is about more than single planes, and {principal.actor} has a role only for"
            " planes; ask with a credential for the whole project"
        )
    held = ", ".join(sorted({grant.role.value for grant in principal.grants})) or "none"
    return Denied(
        f"{name} needs role {entry.role.value}; {principal.actor} has {held};"
        " an admin gives roles: `skerry token create`, or `operator_access.oidc.grants`"
    )


def _where(grant: Grant) -> str:
    projects = ", ".join(grant.projects)
    return f"projects {projects}, planes {', '.join(grant.planes)}" if grant.planes else projects
