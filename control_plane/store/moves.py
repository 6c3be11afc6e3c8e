"""Moves of replicas that an operator asked for: a plan put in force under a request_id."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from control_plane.store.fencing import WriteContext
from control_plane.store.plans import Proposal, put_in_force
from control_plane.store.requests import Asked, answered, keep_told
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.placement import Placement


def put_moved(
    session: Session,
    write: WriteContext,
    told: Proposal,
    seen: Sequence[Placement],
    inputs: str,
    asked: Asked,
) -> bool:
    """Put a move in force and keep its answer; return False when that was done before.

    StaleGeneration unless the placements are those `seen` when it was made.
    """
    if answered(session, write, asked) is not None:
        return False
    # A plan is of the whole fleet, whosever the replicas are that are moved.
    put_in_force(session, replace(write, project=DEFAULT_PROJECT), told, seen, inputs, None)
    keep_told(session, write, asked)
    return True
