"""The end of a recovery: what planes hold becomes what the database knows, all of it or nothing."""

import hashlib
from collections.abc import Iterable

from pydantic import TypeAdapter
from sqlalchemy import delete, insert, literal, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.catalogue import REGIONS, create_entry, find_entry
from control_plane.store.changes import Effect, append_change
from control_plane.store.desired import get_desired, put_held, raise_generation
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.placements import replace_placements
from control_plane.store.pools import get_terms, set_terms
from control_plane.store.requests import Asked, answered, keep_told
from control_plane.store.rollouts import list_rollouts, put_rollout
from control_plane.store.values import AdoptedDeployment, AdoptedPlane, Adoption, Told
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.plumbing.errors import Conflict

_DEPLOYMENT = TypeAdapter(Deployment)
_ETAG_CHARACTERS = 16
# Of one list in the change log; a thousand planes are megabytes otherwise.
TOLD_MAX = 200


def restored_because(session: Session) -> str:
    """Return why the database must recover before anything is decided; empty when it need not."""
    return session.execute(select(tables.recovery.c.reason)).scalar_one_or_none() or ""


def epoch_before_next(epoch: int, floor: int) -> int:
    """Return the epoch that is nobody's: not ours, and not below any that was seen."""
    return floor if floor > epoch else epoch + 1


def end_recovery(
    session: Session, write: WriteContext, adoption: Adoption | None, asked: Asked | None = None
) -> bool:
    """Take in what planes hold and end the recovery; False when the same call did so before.

    Without an adoption there was nothing to recover, which is recorded. With an `epoch_floor` the
    present epoch is over afterwards, and the next one is above it.
    """
    check_epoch(session, write.epoch)
    if asked is not None:
        if answered(session, write, asked) is not None:
            return False
        keep_told(session, write, asked)
    subject = full_name(DEFAULT_PROJECT, "recovery", "-")
    if adoption is None:
        append_change(session, write, "recovery.approved", subject, "there was nothing to recover")
        return True
    _supersede(session, write, adoption.superseded)
    _free_served_names(session, adoption.deployments)
    for one in adoption.deployments:
        _put_deployment(session, write, one)
    known = {rollout.deployment: rollout for rollout in list_rollouts(session)}
    for rollout in adoption.rollouts:
        put_rollout(session, write, rollout, known.get(rollout.deployment))
    for plane in adoption.planes:
        _put_plane(session, write, plane)
    for pool, terms in adoption.terms:
        if get_terms(session, pool) is None:
            set_terms(session, write, pool, terms, "", "")
    for region in adoption.regions:
        if find_entry(session, REGIONS, region.name) is None:
            create_entry(session, write, REGIONS, region, "")
    replace_placements(session, write, adoption.placements, adoption.summary)
    session.execute(delete(tables.recovery))
    details = {name: list(told[:TOLD_MAX]) for name, told in adoption.details.items() if told}
    effect = Effect(after={**details, "epoch_floor": adoption.epoch_floor})
    append_change(session, write, "recovery.ended", subject, adoption.summary, effect)
    if adoption.epoch_floor:
        _end_epoch(session, write, adoption.epoch_floor)
    return True


def _put_deployment(session: Session, write: WriteContext, one: AdoptedDeployment) -> None:
    """Store a deployment as planes hold it, under the revision's number that they know."""
    deployment, table = one.deployment, tables.deployments
    _check_served_name(session, deployment)
    text = f"{write.epoch} {write.now.isoformat()} ".encode() + _DEPLOYMENT.dump_json(deployment)
    values = {
        "project": deployment.project,
        "served_name": deployment.revision.base_model.served_name,
        "deployment": deployment,
        "etag": hashlib.sha256(text).hexdigest()[:_ETAG_CHARACTERS],
        "deleting": one.deleting,
        "updated_at": write.now,
    }
    query = select(table.c.deployment).where(table.c.name == deployment.name).with_for_update()
    held = session.execute(query).scalar_one_or_none()
    if held is None:
        first = {"name": deployment.name, "created_at": write.now, **values}
        session.execute(insert(table).values(first))
    else:
        session.execute(update(table).where(table.c.name == deployment.name).values(values))
    for revision in one.revisions:
        _put_revision(session, write, deployment.name, revision)
    effect = Effect(before=_told(held), after=_told(deployment))
    summary = f"revision {deployment.revision.number} as planes hold it"
    subject = full_name(deployment.project, "deployments", deployment.name)
    append_change(session, write, "deployment.adopted", subject, summary, effect)


def _put_revision(session: Session, write: WriteContext, name: str, revision: object) -> None:
    """Keep a revision; one of that number that was lost and given again was never run."""
    table, number = tables.revisions, getattr(revision, "number", 0)
    same = (table.c.deployment == name) & (table.c.number == number)
    session.execute(delete(table).where(same))
    values = {"deployment": name, "number": number, "revision": revision, "created_at": write.now}
    session.execute(insert(table).values(values))


def _free_served_names(session: Session, deployments: Iterable[AdoptedDeployment]) -> None:
    """Take the served names from those that are written anew, so that these can go round."""
    table = tables.deployments
    names = [one.deployment.name for one in deployments]
    nobodys = literal(" ") + table.c.name  # no served name begins with a space
    session.execute(update(table).where(table.c.name.in_(names)).values(served_name=nobodys))


def _supersede(session: Session, write: WriteContext, names: Iterable[str]) -> None:
    """Have deployments go whose served name another one has by now; nothing of them runs."""
    table = tables.deployments
    for name in names:
        gone = update(table).where(table.c.name == name)
        nobodys = literal(" ") + table.c.name
        session.execute(gone.values(deleting=True, served_name=nobodys, updated_at=write.now))
        subject = full_name(DEFAULT_PROJECT, "deployments", name)
        told = "its served name is another deployment's by now"
        append_change(session, write, "deployment.deleting", subject, told)


def _check_served_name(session: Session, deployment: Deployment) -> None:
    table, served = tables.deployments, deployment.revision.base_model.served_name
    query = select(table.c.name).where(
        table.c.served_name == served, table.c.name != deployment.name
    )
    other = session.execute(query).scalar()
    if other is not None:
        raise Conflict(
            f"planes hold {deployment.name!r} serving as {served!r}, which {other!r} does too:"
            " nothing was taken in; end one of them on its planes, or restore a newer backup"
        )


def _put_plane(session: Session, write: WriteContext, one: AdoptedPlane) -> None:
    if one.payload:
        told = Told(payload=one.payload, digest=one.digest, envelopes=one.envelopes)
        put_held(session, write, one.plane, told, one.version)
        return
    held = get_desired(session, one.plane)
    # Above what the plane holds: its content is not known, so that must not look like ours.
    if held is None or held.version.generation <= one.version.generation:
        raise_generation(session, write, one.plane, one.version.generation + 1)


def _end_epoch(session: Session, write: WriteContext, floor: int) -> None:
    """Depose ourselves, the next leader's epoch being above the floor."""
    row, term = tables.leadership, tables.leadership_terms
    session.execute(update(term).values(expires_at=None))
    session.execute(update(row).values(epoch=epoch_before_next(write.epoch, floor)))


def _told(deployment: Deployment | None) -> object:
    return None if deployment is None else _DEPLOYMENT.dump_python(deployment, mode="json")
