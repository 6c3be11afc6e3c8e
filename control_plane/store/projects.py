"""Projects: a row for each but `default`, and whose each deployment is.

The API's project service writes them. Who writes what a project owns holds its row until the end of
the transaction, so that none is deleted meanwhile.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from pydantic import TypeAdapter
from sqlalchemy import RowMapping, Select, delete, func, insert, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.requests import Asked, answered, keep_told
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.project import ANY_PROJECT, Project
from skerry.plumbing.errors import AlreadyExists, Exhausted, Infeasible, NotFound

# Each look at the store reads all of them; a company's teams, and not its users.
PROJECTS_MAX = 1_000
NAMES_OF_QUERY_MAX = 400  # both databases take fewer bound values than a fleet has deployments
_NAMES_SHOWN_MAX = 5  # of what a project owns: who deletes one wants to know what, not all of it

_PROJECT = TypeAdapter(Project)


def create_project(
    session: Session, write: WriteContext, project: Project, request_id: str
) -> Project:
    """Make a project and return it; AlreadyExists for its name, Exhausted past 1,000."""
    check_epoch(session, write.epoch)
    asked = Asked(request_id=request_id, kind="create project", body=project.name)
    if (earlier := answered(session, write, asked)) is not None:
        return _PROJECT.validate_json(earlier)
    table = tables.projects
    if project.name == DEFAULT_PROJECT or _find(session, project.name) is not None:
        raise AlreadyExists(
            f"there is a project {project.name!r} already; take another name", field="project_id"
        )
    held = session.execute(select(func.count()).select_from(table)).scalar_one()
    if held >= PROJECTS_MAX:
        raise Exhausted(
            f"there are {held} projects, as many as may be; delete those that nobody uses:"
            " `skerry project list` shows what each owns"
        )
    _put(session, project)
    keep_told(session, write, replace(asked, answer=_PROJECT.dump_json(project)))
    effect = Effect(after=_PROJECT.dump_python(project, mode="json"))
    subject = f"projects/{project.name}"
    append_change(session, write, "project.created", subject, "owns nothing yet", effect)
    return project


def delete_project(session: Session, write: WriteContext, name: str, request_id: str) -> None:
    """Forget a project that owns nothing; NotFound without it, Infeasible while it owns something.

    A credential that is for it counts as owned, whosever it is: it would open a later project of
    the same name.
    """
    check_epoch(session, write.epoch)
    asked = Asked(request_id=request_id, kind="delete project", body=name)
    if answered(session, write, asked) is not None:
        return
    if name == DEFAULT_PROJECT:
        raise Infeasible(f"project {name!r} is the fleet's own and always exists")
    table = tables.projects
    query = select(table).where(table.c.name == name).with_for_update()
    row = session.execute(query).mappings().one_or_none()
    if row is None:
        raise no_such_project(name)
    if owned := _owned(session, name):
        raise Infeasible(
            f"project {name!r} owns {'; '.join(owned)}; delete those first: `skerry delete"
            " deployment`, `skerry key revoke`, `skerry token revoke`"
        )
    session.execute(delete(table).where(table.c.name == name))
    keep_told(session, write, asked)
    effect = Effect(before=_PROJECT.dump_python(_project(row), mode="json"))
    append_change(session, write, "project.deleted", f"projects/{name}", "owned nothing", effect)


def adopt_projects(session: Session, write: WriteContext, names: Iterable[str]) -> None:
    """Make the projects of these that are not there: planes hold something of them."""
    check_epoch(session, write.epoch)
    known = {DEFAULT_PROJECT, *(one.name for one in list_projects(session))}
    for name in sorted(set(names) - known):
        project = Project(name=name, creator=write.actor, created_at=write.now)
        _put(session, project)
        effect = Effect(after=_PROJECT.dump_python(project, mode="json"))
        told = "planes hold something of it"
        append_change(session, write, "project.adopted", f"projects/{name}", told, effect)


def list_projects(session: Session) -> tuple[Project, ...]:
    """Return every project but `default`, by name."""
    rows = session.execute(select(tables.projects)).mappings()
    # Sorted here: PostgreSQL's collation may order `-` unlike Python does.
    return tuple(sorted(map(_project, rows), key=lambda project: project.name))


def hold_project(session: Session, name: str) -> None:
    """Raise NotFound without the project; nobody can delete it before the transaction ends."""
    if name == DEFAULT_PROJECT:
        return
    assert name != ANY_PROJECT, "what is written is one project's"
    table = tables.projects
    query = select(table.c.name).where(table.c.name == name)
    if session.execute(query.with_for_update(read=True)).one_or_none() is None:
        raise no_such_project(name)


def share_projects(session: Session, names: Collection[str]) -> None:
    """Have nobody delete those of the projects that are there before the transaction ends."""
    table = tables.projects
    query = select(table.c.name).where(table.c.name.in_(sorted(names))).order_by(table.c.name)
    session.execute(query.with_for_update(read=True)).all()


def projects_of(session: Session, deployments: Sequence[str]) -> Mapping[str, str]:
    """Return whose each of these deployments is, as far as they are there."""
    table = tables.deployments
    found: dict[str, str] = {}
    for start in range(0, len(deployments), NAMES_OF_QUERY_MAX):
        some = table.c.name.in_(deployments[start : start + NAMES_OF_QUERY_MAX])
        query = select(table.c.name, table.c.project).where(some)
        found |= {row.name: row.project for row in session.execute(query)}
    return found


def no_such_project(name: str) -> NotFound:
    """Return the error for a project that is not there."""
    return NotFound(f"there is no project {name!r}; `skerry project list` shows those there are")


def taken_name(name: str) -> AlreadyExists:
    """Return the error for a deployment's name that is another project's; not by what it is."""
    return AlreadyExists(f"the name {name!r} is taken; choose another", field="metadata.name")


def _owned(session: Session, name: str) -> list[str]:
    """Return what a project owns, in words; empty where it is nothing."""
    deployments, keys, tokens = tables.deployments, tables.api_keys, tables.service_tokens
    of_project = select(deployments.c.name).where(deployments.c.project == name)
    of_keys = select(keys.c.name).where(keys.c.project == name, keys.c.revoked_at.is_(None))
    found = {
        "deployments": _names(session, of_project),
        "API keys": _names(session, of_keys),
    }
    grants = session.execute(select(tokens.c.name, tokens.c.project, tokens.c.grant)).all()
    found["service tokens"] = sorted(
        row.name for row in grants if row.project == name or name in row.grant.projects
    )
    return [f"{what} {_listed(names)}" for what, names in found.items() if names]


def _names(session: Session, query: Select[str]) -> list[str]:
    return sorted(session.execute(query).scalars())


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN_MAX
    told = ", ".join(names[:_NAMES_SHOWN_MAX])
    return f"{told} and {more} more" if more > 0 else told


def _put(session: Session, project: Project) -> None:
    row = {"name": project.name, "creator": project.creator, "created_at": project.created_at}
    session.execute(insert(tables.projects).values(row))


def _find(session: Session, name: str) -> Project | None:
    table = tables.projects
    row = session.execute(select(table).where(table.c.name == name)).mappings().one_or_none()
    return None if row is None else _project(row)


def _project(row: RowMapping) -> Project:
    return Project(**row)
