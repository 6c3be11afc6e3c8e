"""Deployments and their revisions: applying, deleting, removing, reading."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.projects import hold_project, taken_name
from control_plane.store.removals import keep_removal
from control_plane.store.requests import digest_of, earlier_answer, keep_answer, told_in
from control_plane.store.rollouts import forget_rollout
from control_plane.store.scalings import forget_scaling
from control_plane.store.served_names import check_served_name, free_served_names
from control_plane.store.values import (
    Answer,
    AppliedDeployment,
    ApplyOutcome,
    StoredDeployment,
    StoredRevision,
)
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.names import full_name
from skerry.plumbing.errors import (
    AlreadyExists,
    Conflict,
    FieldViolation,
    Infeasible,
    InvalidInput,
    NotFound,
)

_DEPLOYMENT = TypeAdapter(Deployment)
_ETAG_CHARACTERS = 16
_NO_ETAGS: Mapping[str, str] = MappingProxyType({})


class Creation(StrEnum):
    """Whether applying may create a deployment: it may, it must, or it must not."""

    ALLOWED = "allowed"
    ONLY = "only"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedUpdate:
    """An update of some fields as it was asked for; `text` is what and how, to know a repeat."""

    name: str
    text: str
    etag: str = ""
    creation: Creation = Creation.NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedOver:
    """What applying did, or would do, and the deployment that was there before, if any."""

    applied: AppliedDeployment
    before: Deployment | None


_APPLIED_OVER = TypeAdapter(tuple[AppliedOver, ...])


def apply_deployment(
    session: Session,
    write: WriteContext,
    deployment: Deployment,
    etag: str,
    request_id: str,
    creation: Creation = Creation.ALLOWED,
) -> AppliedDeployment:
    """Create the deployment or bring it to this spec; the revision's number is assigned here.

    Raises Conflict when `etag` is not empty and not the present one, AlreadyExists when another
    deployment has the served name, Infeasible while the deployment is being deleted; and by
    `creation` AlreadyExists or NotFound.
    """
    check_epoch(session, write.epoch)
    # An answer that a release before the others knew is found again.
    verb = "apply" if creation is Creation.ALLOWED else f"apply {creation.value}"
    digest = digest_of(verb, _unnumbered(deployment), etag)
    if earlier := earlier_answer(session, write, request_id, digest):
        assert earlier.applied is not None, "the digest names the call"
        return earlier.applied
    asked = AskedUpdate(name=deployment.name, text="", etag=etag, creation=creation)
    applied = _apply_asked(session, write, asked, lambda held: deployment)
    keep_answer(session, write, request_id, digest, Answer(applied=applied))
    return applied


def update_deployment(
    session: Session,
    write: WriteContext,
    asked: AskedUpdate,
    merge: Callable[[Deployment | None], Deployment],
    request_id: str,
) -> AppliedDeployment:
    """Bring a deployment to what `merge` makes of it as it is when this is written.

    `merge` is pure; it gets None where the deployment is missing and may be created. What else
    writes at the same time is not undone. Raises what `apply_deployment` and `merge` raise.
    """
    check_epoch(session, write.epoch)
    digest = digest_of(
        "update", told_in(write, asked.name), asked.text, asked.etag, asked.creation.value
    )
    if earlier := earlier_answer(session, write, request_id, digest):
        assert earlier.applied is not None, "the digest names the call"
        return earlier.applied
    applied = _apply_asked(session, write, asked, merge)
    keep_answer(session, write, request_id, digest, Answer(applied=applied))
    return applied


def apply_deployments(
    session: Session,
    write: WriteContext,
    deployments: Sequence[Deployment],
    request_id: str,
    etags: Mapping[str, str] = _NO_ETAGS,
) -> tuple[AppliedOver, ...]:
    """Apply all of them as `apply_deployment` does, or none; `etags` are by name.

    Their order says nothing: served names may go round among them. Raises what
    `apply_deployment` raises, `specs[i]` being which it is about, and InvalidInput for a name or
    served name that two have.
    """
    check_epoch(session, write.epoch)
    told = [text for one in deployments for text in (_unnumbered(one), etags.get(one.name, ""))]
    digest = digest_of("apply all", *told)
    if earlier := earlier_answer(session, write, request_id, digest):
        told = earlier.entry.value if earlier.entry is not None else earlier.applied_all
        return _APPLIED_OVER.validate_python(told)
    assert all(one.project == write.project for one in deployments), "the writer's project's"
    hold_project(session, write.project)
    held = _check_all(session, deployments, etags, lock=True)
    free_served_names(session, _renamed(deployments, held))
    done = tuple(
        AppliedOver(
            applied=_apply_and_tell(session, write, one, held[one.name]),
            before=_deployment(held[one.name]),
        )
        for one in deployments
    )
    kept = _APPLIED_OVER.dump_python(done, mode="json")
    keep_answer(session, write, request_id, digest, Answer(applied_all=kept))
    return done


def preview_deployments(
    session: Session,
    deployments: Sequence[Deployment],
    now: datetime,
    etags: Mapping[str, str] = _NO_ETAGS,
) -> tuple[AppliedOver, ...]:
    """Return what `apply_deployments` would do; raises what it raises, changes nothing."""
    held = _check_all(session, deployments, etags)
    return tuple(
        AppliedOver(
            applied=_preview(_numbered(session, one, held[one.name]), held[one.name], now),
            before=_deployment(held[one.name]),
        )
        for one in deployments
    )


def repeated_names(
    deployments: Iterable[tuple[int, Deployment]],
) -> tuple[FieldViolation, ...]:
    """Return a violation for each (index, deployment) whose name or served name came before."""
    names: dict[str, int] = {}
    served: dict[str, int] = {}
    faults = []
    for index, one in deployments:
        served_name = one.revision.base_model.served_name
        for seen, name, field in (
            (names, one.name, "metadata.name"),
            (served, served_name, "spec.baseModel.servedName"),
        ):
            if (first := seen.setdefault(name, index)) != index:
                told = f"{name!r} is that of specs[{first}] too; apply each once"
                faults.append(FieldViolation(path=f"specs[{index}].{field}", message=told))
    return tuple(faults)


def get_deployment(session: Session, name: str) -> StoredDeployment:
    """Return a deployment; NotFound when there is none of that name."""
    held = _find(session, name)
    if held is None:
        raise _no_such(name)
    return held


def list_deployments(
    session: Session, after_name: str = "", limit: int | None = None
) -> tuple[StoredDeployment, ...]:
    """Return deployments after a name, ordered by name, at most `limit`."""
    table = tables.deployments
    query = select(table).where(table.c.name > after_name).order_by(table.c.name).limit(limit)
    return tuple(_stored(row) for row in session.execute(query).mappings())


def mark_deleting(
    session: Session, write: WriteContext, name: str, etag: str, request_id: str
) -> StoredDeployment:
    """Record that an operator wants the deployment's end; reconciliation drains and removes it."""
    check_epoch(session, write.epoch)
    digest = digest_of("delete", told_in(write, name), etag)
    if earlier := earlier_answer(session, write, request_id, digest):
        assert earlier.deleting is not None, "the digest names the call"
        return earlier.deleting
    held = _own(session, write, name)
    _check_etag(name, held, etag)
    marked = held if held.deleting else _next(held, held.deployment, write, deleting=True)
    if marked is not held:
        _replace_row(session, held, marked)
    keep_answer(session, write, request_id, digest, Answer(deleting=marked))
    if marked is not held:
        subject = _subject(marked.deployment)
        effect = Effect(before=_spec(held), after=_spec(marked) | {"deleting": True})
        told = "to be drained and removed"
        append_change(session, write, "deployment.deleting", subject, told, effect)
    return marked


def rollback_deployment(
    session: Session, write: WriteContext, name: str, number: int, etag: str, request_id: str
) -> StoredDeployment:
    """Make an earlier revision the present one under its own number; 0: the one before.

    Replicas of that revision that still run are then what is wanted, and stay. NotFound without
    such a revision, Conflict when the etag is another, Infeasible while it is being deleted.
    """
    check_epoch(session, write.epoch)
    digest = digest_of("rollback", told_in(write, name), str(number), etag)
    if earlier := earlier_answer(session, write, request_id, digest):
        assert earlier.rolled_back is not None, "the digest names the call"
        return earlier.rolled_back
    held = _own(session, write, name)
    _check_etag(name, held, etag)
    if held.deleting:
        raise Infeasible(f"deployment {name!r} is being deleted; it has no way back")
    present = held.deployment.revision.number
    wanted, back = _revision_before(session, held, number)
    stored = held
    if wanted != present:
        stored = _next(held, replace(held.deployment, revision=back), write, deleting=False)
        check_served_name(session, stored.deployment)
        _replace_row(session, held, stored)
    keep_answer(session, write, request_id, digest, Answer(rolled_back=stored))
    if stored is not held:
        effect = Effect(before=_spec(held), after=_spec(stored))
        told = f"revision {present} -> {wanted}"
        append_change(
            session, write, "deployment.rolled-back", _subject(held.deployment), told, effect
        )
    return stored


def list_revisions(session: Session, name: str) -> tuple[StoredRevision, ...]:
    """Return the revisions that a deployment has or had, by number; NotFound without it.

    Those of one of its name that was removed are kept, but may have been another project's.
    """
    held = _find(session, name)
    if held is None:
        raise _no_such(name)
    table = tables.revisions
    own = (table.c.deployment == name) & (table.c.created_at >= held.created_at)
    query = select(table).where(own).order_by(table.c.number)
    return tuple(
        StoredRevision(revision=row["revision"], created_at=row["created_at"])
        for row in session.execute(query).mappings()
    )


def get_revision(session: Session, name: str, number: int) -> StoredRevision:
    """Return one revision of a deployment; NotFound when it never had one of that number."""
    found = {stored.revision.number: stored for stored in list_revisions(session, name)}
    if number not in found:
        there = ", ".join(map(str, sorted(found)[-10:]))
        raise NotFound(f"deployment {name!r} has no revision {number}; there are {there}")
    return found[number]


def remove_deployment(session: Session, write: WriteContext, name: str) -> bool:
    """Forget a deployment that was marked and is gone everywhere, with its placements.

    Returns whether it was still there; raises Infeasible for one that nobody asked to delete.
    """
    check_epoch(session, write.epoch)
    held = _find(session, name, lock=True)
    if held is None:
        return False
    if not held.deleting:
        raise Infeasible(f"deployment {name!r} is wanted: only one marked for deletion can go")
    placed = tables.placements
    session.execute(delete(placed).where(placed.c.deployment == name))
    forget_rollout(session, name)
    forget_scaling(session, name)
    keep_removal(session, write, held.deployment)
    session.execute(delete(tables.deployments).where(tables.deployments.c.name == name))
    effect = Effect(before=_spec(held))
    write = replace(write, project=held.deployment.project)
    append_change(session, write, "deployment.removed", _subject(held.deployment), "gone", effect)
    return True


def _apply_asked(
    session: Session,
    write: WriteContext,
    asked: AskedUpdate,
    merge: Callable[[Deployment | None], Deployment],
) -> AppliedDeployment:
    hold_project(session, write.project)
    held = _find(session, asked.name, lock=True)
    _check_owner(asked.name, held, write.project, asked.creation)
    _check_creation(asked.name, held, asked.creation)
    _check_etag(asked.name, held, asked.etag)
    _check_wanted(asked.name, held)
    deployment = merge(_deployment(held))
    assert (deployment.name, deployment.project) == (asked.name, write.project), "not merged"
    check_served_name(session, deployment)
    return _apply_and_tell(session, write, deployment, held)


def _apply_and_tell(
    session: Session, write: WriteContext, deployment: Deployment, held: StoredDeployment | None
) -> AppliedDeployment:
    applied = _apply(session, write, _numbered(session, deployment, held), held)
    if applied.outcome is not ApplyOutcome.UNCHANGED:
        summary = _summary(applied.stored.deployment, held)
        effect = Effect(before=_spec(held), after=_spec(applied.stored))
        append_change(session, write, "deployment.applied", _subject(deployment), summary, effect)
    return applied


def _check_all(
    session: Session,
    deployments: Sequence[Deployment],
    etags: Mapping[str, str],
    *,
    lock: bool = False,
) -> dict[str, StoredDeployment | None]:
    """Return what is stored of each, by name, when all of them can be applied together."""
    if faults := repeated_names(enumerate(deployments)):
        raise InvalidInput(f"{faults[0].path}: {faults[0].message}", violations=faults)
    # In one order, whoever asks: two that lock the same rows never wait for each other.
    names = sorted(one.name for one in deployments)
    held = {name: _find(session, name, lock=lock) for name in names}
    for index, one in enumerate(deployments):
        with _telling_which(index):
            _check_owner(one.name, held[one.name], one.project)
            _check_etag(one.name, held[one.name], etags.get(one.name, ""))
            _check_wanted(one.name, held[one.name])
            check_served_name(session, one, names)
    return held


@contextlib.contextmanager
def _telling_which(index: int) -> Iterator[None]:
    """Add to a refusal which of several specs it is about."""
    spec = f"specs[{index}]"
    try:
        yield
    except (AlreadyExists, Conflict, Infeasible) as error:
        violations = tuple(replace(v, path=f"{spec}.{v.path}") for v in error.violations)
        raise type(error)(
            f"{spec}: {error.message}",
            violations=violations or (FieldViolation(path=spec, message=error.message),),
        ) from None


def _renamed(
    deployments: Sequence[Deployment], held: Mapping[str, StoredDeployment | None]
) -> Iterator[str]:
    """Yield those that are to have another served name than they have."""
    for one in deployments:
        before = _deployment(held[one.name])
        told = one.revision.base_model.served_name
        if before is not None and before.revision.base_model.served_name != told:
            yield one.name


def _preview(wanted: Deployment, held: StoredDeployment | None, now: datetime) -> AppliedDeployment:
    if held is None:
        stored = StoredDeployment(deployment=wanted, etag="", created_at=now, updated_at=now)
        return AppliedDeployment(stored=stored, outcome=ApplyOutcome.CREATED)
    if held.deployment == wanted:
        return AppliedDeployment(stored=held, outcome=ApplyOutcome.UNCHANGED)
    stored = replace(held, deployment=wanted)
    return AppliedDeployment(stored=stored, outcome=ApplyOutcome.UPDATED)


def _apply(
    session: Session, write: WriteContext, wanted: Deployment, held: StoredDeployment | None
) -> AppliedDeployment:
    if held is None:
        etag = _etag("", wanted, write, deleting=False)
        stored = StoredDeployment(
            deployment=wanted, etag=etag, created_at=write.now, updated_at=write.now
        )
        session.execute(insert(tables.deployments).values(_row(stored)))
        _add_revision(session, write, wanted)
        return AppliedDeployment(stored=stored, outcome=ApplyOutcome.CREATED)
    if held.deployment == wanted:
        return AppliedDeployment(stored=held, outcome=ApplyOutcome.UNCHANGED)
    stored = _next(held, wanted, write, deleting=False)
    _replace_row(session, held, stored)
    if wanted.revision.number != held.deployment.revision.number:
        _add_revision(session, write, wanted)
    return AppliedDeployment(stored=stored, outcome=ApplyOutcome.UPDATED)


def _revision_before(session: Session, held: StoredDeployment, number: int) -> tuple[int, Revision]:
    """Return the revision to go back to with its number; 0: the one before the present one."""
    name, present = held.deployment.name, held.deployment.revision.number
    own = {one.revision.number: one.revision for one in list_revisions(session, name)}
    wanted = number or max((known for known in own if known < present), default=0)
    if wanted not in own:
        there = ", ".join(map(str, sorted(own)[-10:]))
        asked = f"revision {number}" if number else f"revision before {present}"
        raise NotFound(f"deployment {name!r} has no {asked} of its own; there are {there}")
    return wanted, own[wanted]


def _check_owner(
    name: str,
    held: StoredDeployment | None,
    project: str,
    creation: Creation = Creation.ALLOWED,
) -> None:
    """Refuse a name that another project has; nothing is told of what has it."""
    if held is None or held.deployment.project == project:
        return
    if creation is Creation.NEVER:
        raise _no_such(name)
    raise taken_name(name)


def _own(session: Session, write: WriteContext, name: str) -> StoredDeployment:
    """Return a deployment of the writer's project, locked; NotFound for any other."""
    held = _find(session, name, lock=True)
    if held is None or held.deployment.project != write.project:
        raise _no_such(name)
    return held


def _check_creation(name: str, held: StoredDeployment | None, creation: Creation) -> None:
    if creation is Creation.ONLY and held is not None:
        raise AlreadyExists(
            f"deployment {name!r} exists already; update it, or choose another name",
            field="deployment_id",
        )
    if creation is Creation.NEVER and held is None:
        raise _no_such(name)


def _numbered(
    session: Session, deployment: Deployment, held: StoredDeployment | None
) -> Deployment:
    if held is not None:
        same = replace(deployment.revision, number=held.deployment.revision.number)
        if same == held.deployment.revision:
            return replace(deployment, revision=same)
    table = tables.revisions
    query = select(func.max(table.c.number)).where(table.c.deployment == deployment.name)
    number = (session.execute(query).scalar() or 0) + 1
    return replace(deployment, revision=replace(deployment.revision, number=number))


def _add_revision(session: Session, write: WriteContext, deployment: Deployment) -> None:
    row = {
        "deployment": deployment.name,
        "number": deployment.revision.number,
        "revision": deployment.revision,
        "created_at": write.now,
    }
    session.execute(insert(tables.revisions).values(row))


def _replace_row(session: Session, held: StoredDeployment, stored: StoredDeployment) -> None:
    table = tables.deployments
    name = held.deployment.name
    unchanged = (table.c.name == name) & (table.c.etag == held.etag)
    changed = update(table).where(unchanged).values(_row(stored)).returning(table.c.name)
    if session.execute(changed).one_or_none() is None:
        raise Conflict(f"deployment {name!r} was changed meanwhile; read it again")


def _check_etag(name: str, held: StoredDeployment | None, etag: str) -> None:
    if etag and (held is None or held.etag != etag):
        now = "does not exist" if held is None else f"has etag {held.etag!r} now"
        raise Conflict(f"deployment {name!r} {now}; read it again and decide anew", field="etag")


def _check_wanted(name: str, held: StoredDeployment | None) -> None:
    if held is not None and held.deleting:
        raise Infeasible(f"deployment {name!r} is being deleted; apply it again once it is gone")


def _next(
    held: StoredDeployment, deployment: Deployment, write: WriteContext, *, deleting: bool
) -> StoredDeployment:
    return replace(
        held,
        deployment=deployment,
        etag=_etag(held.etag, deployment, write, deleting=deleting),
        updated_at=write.now,
        deleting=deleting,
    )


def _etag(before: str, deployment: Deployment, write: WriteContext, *, deleting: bool) -> str:
    # Chained to the one before: going back to an earlier spec is still another etag.
    text = f"{before} {write.epoch} {write.now.isoformat()} {deleting} ".encode()
    return hashlib.sha256(text + _DEPLOYMENT.dump_json(deployment)).hexdigest()[:_ETAG_CHARACTERS]


def _summary(deployment: Deployment, held: StoredDeployment | None) -> str:
    number = deployment.revision.number
    if held is None:
        return f"created at revision {number}"
    if held.deployment.revision.number != number:
        return f"revision {held.deployment.revision.number} -> {number}"
    names = ("scaling", "policy", "routing", "rollout", "labels", "project")
    changed = [n for n in names if getattr(held.deployment, n) != getattr(deployment, n)]
    return f"{', '.join(changed)} changed, revision {number} as before"


def _find(session: Session, name: str, *, lock: bool = False) -> StoredDeployment | None:
    query = select(tables.deployments).where(tables.deployments.c.name == name)
    row = session.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else _stored(row)


def _stored(row: RowMapping) -> StoredDeployment:
    return StoredDeployment(
        deployment=row["deployment"],
        etag=row["etag"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleting=row["deleting"],
    )


def _row(stored: StoredDeployment) -> dict[str, object]:
    deployment = stored.deployment
    return {
        "name": deployment.name,
        "project": deployment.project,
        "served_name": deployment.revision.base_model.served_name,
        "deployment": deployment,
        "etag": stored.etag,
        "deleting": stored.deleting,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
    }


def _deployment(stored: StoredDeployment | None) -> Deployment | None:
    return None if stored is None else stored.deployment


def _unnumbered(deployment: Deployment) -> str:
    """Return a deployment as text that is the same whatever its revision's number."""
    unnumbered = replace(deployment, revision=replace(deployment.revision, number=1))
    return _DEPLOYMENT.dump_json(unnumbered).decode()


def _spec(stored: StoredDeployment | None) -> Any:
    """Return a deployment as JSON, for the change log."""
    return None if stored is None else _DEPLOYMENT.dump_python(stored.deployment, mode="json")


def _subject(deployment: Deployment) -> str:
    return full_name(deployment.project, "deployments", deployment.name)


def _no_such(name: str) -> NotFound:
    return NotFound(f"deployment {name!r} does not exist; `skerry get deployments` lists them")
