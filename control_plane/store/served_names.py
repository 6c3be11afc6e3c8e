"""Names under which gateways serve: each is one deployment's of the whole fleet.

`deployments` asks as it writes; planes' routes are by these names.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import literal, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from skerry.fleet.deployment import Deployment
from skerry.plumbing.errors import AlreadyExists


def check_served_name(
    session: Session, deployment: Deployment, besides: Sequence[str] = ()
) -> None:
    """Raise AlreadyExists when another deployment, not among `besides`, has the served name."""
    table = tables.deployments
    served = deployment.revision.base_model.served_name
    query = select(table.c.name, table.c.project).where(
        table.c.served_name == served, table.c.name.not_in((deployment.name, *besides))
    )
    other = session.execute(query).one_or_none()
    if other is not None:
        own = other.project == deployment.project
        raise taken_served_name(served, other.name if own else None)


def taken_served_name(served: str, other: str | None) -> AlreadyExists:
    """Return the error for a served name that another deployment has.

    `other` names that one, and is None where it is another project's: who asks learns no more than
    that the name is taken.
    """
    told = f"served name {served!r} is taken" if other is None else ""
    return AlreadyExists(
        f"{told or f'deployment {other!r} serves as {served!r} already'}; choose another served"
        " name",
        field="spec.baseModel.servedName",
    )


def free_served_names(session: Session, names: Iterable[str]) -> None:
    """Take their served names from deployments that get others, so that these can go round."""
    table = tables.deployments
    # No served name begins with a space, and each of these rows is written again before the end.
    nobodys = literal(" ") + table.c.name
    session.execute(update(table).where(table.c.name.in_(tuple(names))).values(served_name=nobodys))
