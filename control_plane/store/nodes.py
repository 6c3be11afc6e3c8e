"""Nodes as planes last reported them; a report without any says nothing of them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.fencing import WriteContext
from control_plane.store.values import StoredNode
from skerry.fleet.node import Node, digest_of_nodes, node_name
from skerry.plumbing.errors import NotFound

# Named in the one line of a change; which others there were, the nodes themselves say.
NODES_TOLD_MAX = 5


def record_nodes(
    session: Session, write: WriteContext, plane: str, nodes: tuple[Node, ...]
) -> list[str]:
    """Keep a plane's nodes as it reports them; return what is new, for people.

    Part of recording its report, which fences the write and logs the change. A node that is no
    longer in a report which names others is gone; a report that names none leaves all as they were.
    """
    if not nodes:
        return []
    held = {stored.node.name: stored.node for stored in list_nodes(session, plane)}
    told = {node.name: node for node in nodes}
    table, told_now = tables.nodes, []
    for name in sorted(held.keys() - told.keys()):
        session.execute(delete(table).where(table.c.name == node_name(plane, name)))
        told_now.append(f"node {name} gone")
    new = [told[name] for name in sorted(told.keys() - held.keys())]
    if new:
        rows = [
            {
                "name": node_name(plane, node.name),
                "plane": plane,
                "node": node,
                "updated_at": write.now,
            }
            for node in new
        ]
        session.execute(insert(table), rows)
        told_now += [f"node {node.name} of pool {node.pool}" for node in new]
    for name in sorted(held.keys() & told.keys()):
        node = told[name]
        if node != held[name]:
            renewed = update(table).where(table.c.name == node_name(plane, name))
            session.execute(renewed.values(node=node, updated_at=write.now))
            fit = "fit for work" if node.ready else f"not fit for work: {node.message or 'untold'}"
            told_now.append(f"node {name} {fit}")
    digest = digest_of_nodes(nodes)
    planes = tables.planes
    session.execute(update(planes).where(planes.c.name == plane).values(nodes_digest=digest))
    return _shortened(told_now)


def list_nodes(session: Session, plane: str | None = None) -> tuple[StoredNode, ...]:
    """Return the nodes of a plane, or of all, by their fleet-wide ids."""
    table = tables.nodes
    query = select(table)
    if plane is not None:
        query = query.where(table.c.plane == plane)
    found = map(_stored, session.execute(query).all())
    return tuple(sorted(found, key=lambda stored: stored.name))


def get_node(session: Session, name: str) -> StoredNode:
    """Return a node by its fleet-wide id; NotFound when no plane reports it."""
    row = session.execute(select(tables.nodes).where(tables.nodes.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"node {name!r} was not reported; `skerry get nodes` lists those that are")
    return _stored(row)


def _stored(row: Any) -> StoredNode:
    return StoredNode(name=row.name, plane=row.plane, node=row.node, updated_at=row.updated_at)


def _shortened(told: Sequence[str]) -> list[str]:
    shown = list(told[:NODES_TOLD_MAX])
    more = len(told) - len(shown)
    return [*shown, f"and {more} more nodes"] if more > 0 else shown
