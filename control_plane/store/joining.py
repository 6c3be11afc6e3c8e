"""Invites and identities of planes: one invite is one plane, once; a revoked plane stays out.

The API's joining service writes invites and revokes, the enrolment service lets planes join and
renew, the link reads all identities at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.requests import Asked, answered, keep_told
from skerry.fleet.joining import DIGEST_BYTES, PlaneIdentity, PlaneInvite, refusal_of
from skerry.fleet.names import full_name
from skerry.plumbing.errors import (
    Conflict,
    Denied,
    Exhausted,
    InvalidInput,
    NotFound,
    Unauthenticated,
)

INVITES = "planeInvites"
IDENTITIES = "planeIdentities"
# As many as are read whole at once; a fleet of thousands is invited in some rounds.
INVITES_MAX = 1_000
# People see for a month that an invite was used, or ended.
ENDED_KEPT = timedelta(days=30)

_INVITE = TypeAdapter(PlaneInvite)
_FIELDS = tuple(field.name for field in fields(PlaneInvite))

# Whoever guesses learns nothing of which invites there are.
NO_INVITE = (
    "this token opens nothing: it was used, withdrawn, has ended or was never made; ask for another"
    " one, `skerry plane invite` makes it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What a plane is given: for which key, under which serial number, until when."""

    plane: str
    key_digest: bytes
    serial: str
    expires_at: datetime


def create_plane_invite(
    session: Session, write: WriteContext, invite: PlaneInvite, digest: bytes, request_id: str
) -> PlaneInvite:
    """Keep an invite by its digest and return it.

    Conflict while an earlier one is open, and for a plane that is there and not to be replaced;
    Exhausted past 1,000, InvalidInput for one that would have ended already.
    """
    assert len(digest) == DIGEST_BYTES, "it is a SHA-256"
    check_epoch(session, write.epoch)
    body = f"{invite.plane} {invite.expires_at.isoformat()} {invite.replaces} {digest.hex()}"
    asked = Asked(request_id=request_id, kind="create plane invite", body=body)
    if (earlier := answered(session, write, asked)) is not None:
        return _INVITE.validate_json(earlier)
    if not invite.is_open(write.now):
        raise InvalidInput("the invite would have ended already", field="plane_invite.expire_time")
    _refuse_second(session, write, invite)
    table = tables.plane_invites
    old = table.c.expires_at < write.now - ENDED_KEPT
    session.execute(delete(table).where(old | (table.c.plane == invite.plane)))
    held = session.execute(select(func.count()).select_from(table)).scalar_one()
    if held >= INVITES_MAX:
        raise Exhausted(
            f"{held} invites are kept, as many as may be; withdraw those that nobody needs:"
            " `skerry plane invites` shows them"
        )
    row = {name: getattr(invite, name) for name in _FIELDS}
    session.execute(insert(table).values(digest=digest, **row))
    answer = Asked(
        request_id=request_id, kind=asked.kind, body=body, answer=_INVITE.dump_json(invite)
    )
    keep_told(session, write, answer)
    effect = Effect(after=_INVITE.dump_python(invite, mode="json"))
    subject = full_name(write.project, INVITES, invite.plane)
    until = f"may join until {invite.expires_at:%Y-%m-%d %H:%M} UTC"
    append_change(session, write, "plane.invited", subject, until, effect)
    return invite


def withdraw_plane_invite(
    session: Session, write: WriteContext, plane: str, request_id: str
) -> None:
    """Forget a plane's invite; NotFound where there is none."""
    check_epoch(session, write.epoch)
    asked = Asked(request_id=request_id, kind="withdraw plane invite", body=plane)
    if answered(session, write, asked) is not None:
        return
    table = tables.plane_invites
    found = session.execute(delete(table).where(table.c.plane == plane).returning(table.c.plane))
    if found.one_or_none() is None:
        raise NotFound(
            f"there is no invite for plane {plane!r}; `skerry plane invites` shows those there are"
        )
    keep_told(session, write, asked)
    subject = full_name(write.project, INVITES, plane)
    append_change(session, write, "plane.uninvited", subject, "its token opens nothing any more")


def join_plane(
    session: Session, write: WriteContext, digest: bytes, enrolled: Enrolled
) -> PlaneIdentity:
    """Use up an invite and return who the plane is from now on.

    The same key may repeat it for as long as the invite would have lasted: an answer can be lost.
    Unauthenticated for whatever proves nothing.
    """
    check_epoch(session, write.epoch)
    invite = _invite_of(session, enrolled.plane, digest)
    before = find_identity(session, enrolled.plane)
    if invite is None or write.now >= invite.expires_at:
        raise Unauthenticated(NO_INVITE)
    if invite.used_at is not None:
        if before is None or refusal_of(before, enrolled.key_digest):
            raise Unauthenticated(NO_INVITE)
        return _issue(session, before, enrolled)
    if not invite.replaces and _is_taken(session, enrolled.plane):
        raise Denied(
            f"plane {enrolled.plane!r} came since it was invited; `skerry plane invite --replace`"
            " lets another take its name"
        )
    table = tables.plane_invites
    session.execute(update(table).where(table.c.plane == enrolled.plane).values(used_at=write.now))
    identity = PlaneIdentity(
        plane=enrolled.plane,
        key_digest=enrolled.key_digest,
        serial=enrolled.serial,
        joined_at=write.now,
        expires_at=enrolled.expires_at,
    )
    _put(session, identity)
    summary = f"joined with the key {enrolled.key_digest.hex()[:16]}, invited by {invite.creator}"
    _append(session, write, "plane.joined", summary, before, identity)
    return identity


def renew_plane(session: Session, write: WriteContext, enrolled: Enrolled) -> PlaneIdentity:
    """Note a further certificate for the key that a plane joined with, and return who it is.

    Denied for a revoked plane and for another key, and for one that did not join by invitation.
    """
    check_epoch(session, write.epoch)
    before = find_identity(session, enrolled.plane)
    if before is None:
        raise Denied(
            f"plane {enrolled.plane!r} has not joined by invitation, so its certificate is renewed"
            " where it was made; `skerry plane invite` and `skerry plane join` change that"
        )
    if refusal := refusal_of(before, enrolled.key_digest):
        raise Denied(refusal)
    after = _issue(session, before, enrolled)
    if before.expires_at is not None and write.now >= before.expires_at:
        summary = "came back with its key after its certificate had ended"
        _append(session, write, "plane.rejoined", summary, before, after)
    return after


def revoke_plane(
    session: Session, write: WriteContext, plane: str, request_id: str
) -> PlaneIdentity:
    """Have nothing open the fleet to a plane of that name any more; return what is known of it.

    A plane of that name need not have joined by invitation, or be known.
    """
    check_epoch(session, write.epoch)
    asked = Asked(request_id=request_id, kind="revoke plane", body=plane)
    before = find_identity(session, plane)
    if answered(session, write, asked) is not None and before is not None:
        return before
    table = tables.plane_invites
    session.execute(delete(table).where(table.c.plane == plane))
    after = before or PlaneIdentity(plane=plane)
    if after.revoked_at is None:
        after = replace(after, revoked_at=write.now)
        _put(session, after)
        _append(session, write, "plane.revoked", "is let in no more", before, after)
    keep_told(session, write, asked)
    return after


def list_plane_invites(session: Session) -> tuple[PlaneInvite, ...]:
    """Return every invite that is kept, by plane; those that were used or have ended too."""
    table = tables.plane_invites
    rows = session.execute(select(table).order_by(table.c.plane)).mappings()
    return tuple(_invite(row) for row in rows)


def list_plane_identities(session: Session) -> tuple[PlaneIdentity, ...]:
    """Return what proves each plane that joined by invitation or was revoked, by plane."""
    table = tables.plane_identities
    rows = session.execute(select(table).order_by(table.c.plane)).mappings()
    return tuple(PlaneIdentity(**row) for row in rows)


def find_identity(session: Session, plane: str) -> PlaneIdentity | None:
    """Return what proves a plane, None where it neither joined by invitation nor was revoked."""
    table = tables.plane_identities
    query = select(table).where(table.c.plane == plane).with_for_update()
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else PlaneIdentity(**row)


def _refuse_second(session: Session, write: WriteContext, invite: PlaneInvite) -> None:
    table = tables.plane_invites
    query = select(table).where(table.c.plane == invite.plane).with_for_update()
    row = session.execute(query).mappings().one_or_none()
    if row is not None and _invite(row).is_open(write.now):
        raise Conflict(
            f"plane {invite.plane!r} is invited already; `skerry plane withdraw {invite.plane}`"
            " first: its token can be shown to nobody again",
            field="plane_invite_id",
        )
    if not invite.replaces and _is_taken(session, invite.plane):
        raise Conflict(
            f"there is a plane {invite.plane!r} already; who joins in its place puts it out: say so"
            " with --replace, or choose another name",
            field="plane_invite_id",
        )


def _is_taken(session: Session, plane: str) -> bool:
    """Say whether a plane of that name has joined, or reported by a certificate made by hand."""
    identity = find_identity(session, plane)
    if identity is not None:
        return identity.revoked_at is None
    query = select(tables.planes.c.name).where(tables.planes.c.name == plane)
    return session.execute(query).first() is not None


def _invite_of(session: Session, plane: str, digest: bytes) -> PlaneInvite | None:
    table = tables.plane_invites
    query = select(table).where(table.c.plane == plane, table.c.digest == digest)
    row = session.execute(query.with_for_update()).mappings().one_or_none()
    return None if row is None else _invite(row)


def _issue(session: Session, before: PlaneIdentity, enrolled: Enrolled) -> PlaneIdentity:
    after = replace(before, serial=enrolled.serial, expires_at=enrolled.expires_at)
    _put(session, after)
    return after


def adopt_revoked_planes(session: Session, write: WriteContext, planes: Iterable[str]) -> None:
    """Put out whom planes were told to let in no more, for a database that does not know it."""
    check_epoch(session, write.epoch)
    for plane in planes:
        before = find_identity(session, plane)
        if before is None or before.revoked_at is None:
            after = replace(before or PlaneIdentity(plane=plane), revoked_at=write.now)
            _put(session, after)
            _append(session, write, "plane.revoked", "planes hold that it was", before, after)


def _put(session: Session, identity: PlaneIdentity) -> None:
    table = tables.plane_identities
    session.execute(delete(table).where(table.c.plane == identity.plane))
    session.execute(insert(table).values(**_row(identity)))


def _append(
    session: Session,
    write: WriteContext,
    kind: str,
    summary: str,
    before: PlaneIdentity | None,
    after: PlaneIdentity,
) -> None:
    told = None if before is None else _told(before)
    effect = Effect(before=told, after=_told(after))
    append_change(
        session, write, kind, full_name(write.project, IDENTITIES, after.plane), summary, effect
    )


def _told(identity: PlaneIdentity) -> dict[str, Any]:
    """Return an identity as the change log has it."""
    told = _row(identity)
    told["key_digest"] = identity.key_digest.hex()
    for name in ("joined_at", "expires_at", "revoked_at"):
        moment = told[name]
        told[name] = None if moment is None else moment.isoformat()
    return told


def _row(identity: PlaneIdentity) -> dict[str, Any]:
    return {field.name: getattr(identity, field.name) for field in fields(identity)}


def _invite(row: RowMapping) -> PlaneInvite:
    return PlaneInvite(**{name: row[name] for name in _FIELDS})
