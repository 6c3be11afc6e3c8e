"""Who may do what through the operator API: roles, grants, and who a credential stands for.

The control plane decides by these (`control_plane/api/access`); the store keeps service tokens.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from skerry.fleet.names import check_name

# "Every project", said aloud: a grant that names none is a mistake and not a grant for all.
EVERY_PROJECT = "*"
# More names than a person writes; a wider grant is for every project, or for every plane.
SCOPE_NAMES_MAX = 100
# Long enough for a mail address or a service's full name; shown in every line of the change log.
ACTOR_CHARACTERS_MAX = 128
_ACTOR = re.compile(r"[a-z][a-z-]*:[!-~]+")


class Role(StrEnum):
    """What somebody may do at most."""

    PLANE = "plane"  # a program beside a plane: reads of that plane alone
    VIEWER = "viewer"
    AUDITOR = "auditor"  # a viewer who also sees who may do what
    OPERATOR = "operator"
    ADMIN = "admin"


# Which roles each role has in it. Not a line: an auditor changes nothing, an operator gives nobody
# any right and sees nobody's.
INCLUDES: Mapping[Role, frozenset[Role]] = MappingProxyType(
    {
        Role.PLANE: frozenset({Role.PLANE}),
        Role.VIEWER: frozenset({Role.PLANE, Role.VIEWER}),
        Role.AUDITOR: frozenset({Role.PLANE, Role.VIEWER, Role.AUDITOR}),
        Role.OPERATOR: frozenset({Role.PLANE, Role.VIEWER, Role.OPERATOR}),
        Role.ADMIN: frozenset(Role),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role in some projects; with `planes`, only for what is in those."""

    role: Role
    projects: tuple[str, ...]
    planes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a grant that does not say where it holds; ValueError says what is missing."""
        if not 1 <= len(self.projects) <= SCOPE_NAMES_MAX:
            raise ValueError(
                f"name 1 to {SCOPE_NAMES_MAX} projects, or {EVERY_PROJECT!r} for every one"
            )
        for project in self.projects:
            if project != EVERY_PROJECT:
                check_name(project, "project")
        if len(self.planes) > SCOPE_NAMES_MAX:
            raise ValueError(f"name at most {SCOPE_NAMES_MAX} planes; none stands for every one")
        for plane in self.planes:
            check_name(plane, "plane")
        if self.role is Role.PLANE and not self.planes:
            raise ValueError("role plane is for named planes; name them")

    def includes(self, role: Role) -> bool:
        """Say whether who may act in this role may act in that one."""
        return role in INCLUDES[self.role]

    def reaches(self, projects: frozenset[str]) -> bool:
        """Say whether it holds in all of these projects."""
        return EVERY_PROJECT in self.projects or projects <= frozenset(self.projects)

    def reaches_planes(self, planes: frozenset[str]) -> bool:
        """Say whether it holds for all of these planes; an empty set stands for the whole fleet."""
        return not self.planes or (bool(planes) and planes <= frozenset(self.planes))

    def spans(self, other: "Grant") -> bool:
        """Say whether it holds wherever the other one does, whatever their roles."""
        return self.reaches(frozenset(other.projects)) and self.reaches_planes(
            frozenset(other.planes)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls: the actor that is recorded, what was granted, and by which credential.

    An empty `credential` is a caller that nobody asked for one; its actor is what it says.
    """

    actor: str
    grants: tuple[Grant, ...]
    credential: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceToken:
    """A credential of a program, without its secret; times are aware."""

    name: str
    grant: Grant
    creator: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        """Say whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


def is_actor(text: str) -> bool:
    """Say whether the text may be recorded as an actor, e.g. `user:ada`."""
    return len(text) <= ACTOR_CHARACTERS_MAX and _ACTOR.fullmatch(text) is not None
