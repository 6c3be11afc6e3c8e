"""The end of a recovery: what planes hold becomes what the database knows.

Of a few planes all of it or nothing. Thousands would hold the store's only thread, and the epoch's
row, for longer than a leader's term: theirs are taken in by batches. What their states tell
together is taken in first, with a mark by which whoever leads next goes on with who is left.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from pydantic import TypeAdapter
from sqlalchemy import delete, insert, literal, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.api_keys import adopt_api_keys
from control_plane.store.catalogue import REGIONS, create_entry, find_entry
from control_plane.store.changes import Effect, append_change
from control_plane.store.desired import get_desired, put_held, raise_generation
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.joining import adopt_revoked_planes
from control_plane.store.leadership import end_epoch, hold_epoch
from control_plane.store.placements import replace_placements
from control_plane.store.pools import get_terms, set_terms
from control_plane.store.projects import adopt_projects, projects_of
from control_plane.store.removals import forget_removals
from control_plane.store.requests import Asked, answered, keep_told
from control_plane.store.rollouts import list_rollouts, put_rollouts
from control_plane.store.values import (
    TAKING_IN,
    AdoptedDeployment,
    AdoptedPlane,
    Adoption,
    StoredDesired,
    Told,
)
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.plumbing.errors import Conflict

_DEPLOYMENT = TypeAdapter(Deployment)
_ETAG_CHARACTERS = 16
# Of one list in the change log; a thousand planes are megabytes otherwise.
TOLD_MAX = 200
# A plane's state is some statements: so many take some tenths of a second.
PLANES_AT_ONCE = 100
_NOBODYS = " "  # no served name begins with a space


def restored_because(session: Session) -> str:
    """Return why the database must recover before anything is decided; empty when it need not."""
    return session.execute(select(tables.recovery.c.reason)).scalar_one_or_none() or ""


def epoch_before_next(epoch: int, floor: int) -> int:
    """Return the epoch that is nobody's: not ours, and not below any that was seen."""
    return floor if floor > epoch else epoch + 1


def needs_batches(adoption: Adoption) -> bool:
    """Say whether there are too many planes for one transaction."""
    return len(adoption.planes) > PLANES_AT_ONCE


def in_batches(planes: Sequence[AdoptedPlane]) -> Iterator[Sequence[AdoptedPlane]]:
    """Yield the planes in as many as go into one transaction, in their order."""
    for begin in range(0, len(planes), PLANES_AT_ONCE):
        yield planes[begin : begin + PLANES_AT_ONCE]


def begin_adoption(session: Session, write: WriteContext, adoption: Adoption) -> None:
    """Take in all but the planes' own states; the recovery goes on until `end_recovery`.

    From then on the stored deployments and placements are those of all planes, and a plane that was
    taken in is one that the database knows: what is left is told by `TAKING_IN`.
    """
    check_epoch(session, write.epoch)
    _take_in(session, write, adoption)
    mark = tables.recovery
    session.execute(delete(mark))
    session.execute(insert(mark).values(id=1, since=write.now, reason=TAKING_IN))


def adopt_planes(session: Session, write: WriteContext, planes: Sequence[AdoptedPlane]) -> None:
    """Take in the states of some planes; done again, it changes nothing."""
    check_epoch(session, write.epoch)
    for plane in planes:
        _put_plane(session, write, plane)


def end_recovery(
    session: Session, write: WriteContext, adoption: Adoption | None, asked: Asked | None = None
) -> bool:
    """Take in what planes hold and end the recovery; False when the same call did so before.

    Without an adoption there was nothing to recover, which is recorded. With an `epoch_floor` the
    present epoch is over afterwards, and the next one is above it.
    """
    if adoption is not None and adoption.epoch_floor:
        hold_epoch(session, write.epoch)
    check_epoch(session, write.epoch)
    if asked is not None:
        if answered(session, write, asked) is not None:
            return False
        keep_told(session, write, asked)
    subject = full_name(DEFAULT_PROJECT, "recovery", "-")
    if adoption is None:
        append_change(session, write, "recovery.approved", subject, "there was nothing to recover")
        return True
    if not adoption.is_begun:
        _take_in(session, write, adoption)
    adopt_planes(session, write, adoption.planes)
    forget_removals(session, write, adoption.quarantined)
    session.execute(delete(tables.recovery))
    details = {name: list(told[:TOLD_MAX]) for name, told in adoption.details.items() if told}
    effect = Effect(after={**details, "epoch_floor": adoption.epoch_floor})
    append_change(session, write, "recovery.ended", subject, adoption.summary, effect)
    if adoption.epoch_floor:
        end_epoch(session, epoch_before_next(write.epoch, adoption.epoch_floor))
    return True


def _take_in(session: Session, write: WriteContext, adoption: Adoption) -> None:
    """Store what planes' states tell together: deployments, rollouts, terms, placements."""
    superseded = frozenset(adoption.superseded)
    written = {one.deployment.name for one in adoption.deployments}
    _free_served_names(session, written | superseded)
    projects = {one.deployment.project for one in adoption.deployments}
    adopt_projects(session, write, projects | {key.project for key in adoption.api_keys})
    for one in adoption.deployments:
        _put_deployment(session, write, one, has_name=one.deployment.name not in superseded)
    _supersede(session, write, adoption.superseded)
    known = {rollout.deployment: rollout for rollout in list_rollouts(session)}
    rolled = [(rollout, known.get(rollout.deployment)) for rollout in adoption.rollouts]
    put_rollouts(session, write, rolled)
    for pool, terms in adoption.terms:
        if get_terms(session, pool) is None:
            set_terms(session, write, pool, terms, "", "")
    for region in adoption.regions:
        if find_entry(session, REGIONS, region.name) is None:
            create_entry(session, write, REGIONS, region, "")
    adopt_api_keys(session, write, adoption.api_keys)
    adopt_revoked_planes(session, write, adoption.revoked_planes)
    replace_placements(session, write, adoption.placements, adoption.summary)


def _put_deployment(
    session: Session, write: WriteContext, one: AdoptedDeployment, *, has_name: bool
) -> None:
    """Store a deployment as planes hold it, under the revision's number that they know."""
    deployment, table = one.deployment, tables.deployments
    served_name = deployment.revision.base_model.served_name
    if has_name:
        _check_served_name(session, deployment)
    else:
        served_name = f"{_NOBODYS}{deployment.name}"
    text = f"{write.epoch} {write.now.isoformat()} ".encode() + _DEPLOYMENT.dump_json(deployment)
    values = {
        "project": deployment.project,
        "served_name": served_name,
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
    write = replace(write, project=deployment.project)
    append_change(session, write, "deployment.adopted", subject, summary, effect)


def _put_revision(session: Session, write: WriteContext, name: str, revision: object) -> None:
    """Keep a revision; one of that number that was lost and given again was never run."""
    table, number = tables.revisions, getattr(revision, "number", 0)
    same = (table.c.deployment == name) & (table.c.number == number)
    session.execute(delete(table).where(same))
    values = {"deployment": name, "number": number, "revision": revision, "created_at": write.now}
    session.execute(insert(table).values(values))


def _free_served_names(session: Session, names: Iterable[str]) -> None:
    """Take the served names from deployments, so that these can go round."""
    table = tables.deployments
    nobodys = literal(_NOBODYS) + table.c.name
    session.execute(update(table).where(table.c.name.in_(names)).values(served_name=nobodys))


def _supersede(session: Session, write: WriteContext, names: Collection[str]) -> None:
    """Have deployments go whose served name another one has by now."""
    table, projects = tables.deployments, projects_of(session, tuple(names))
    for name in names:
        gone = update(table).where(table.c.name == name)
        session.execute(gone.values(deleting=True, updated_at=write.now))
        own = replace(write, project=projects.get(name, DEFAULT_PROJECT))
        subject = full_name(own.project, "deployments", name)
        told = "its served name is another deployment's by now"
        append_change(session, own, "deployment.deleting", subject, told)


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
    held = get_desired(session, one.plane)
    if one.payload:
        if held is not None and _is_same(held, one):
            return  # taken in by a batch before
        told = Told(payload=one.payload, digest=one.digest, envelopes=one.envelopes)
        put_held(session, write, one.plane, told, one.version)
        return
    # Above what the plane holds: its content is not known, so that must not look like ours.
    if held is None or held.version.generation <= one.version.generation:
        raise_generation(session, write, one.plane, one.version.generation + 1)


def _is_same(held: StoredDesired, one: AdoptedPlane) -> bool:
    known = (held.version, held.digest, held.payload)
    granted = held.envelopes is not None and set(held.envelopes) == set(one.envelopes)
    return granted and known == (one.version, one.digest, one.payload)


def _told(deployment: Deployment | None) -> object:
    return None if deployment is None else _DEPLOYMENT.dump_python(deployment, mode="json")
