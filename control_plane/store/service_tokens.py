"""Service tokens: a row for each that lives, with the digest of its text and never the text.

The API's access service writes them, its door reads all of them at once.
"""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import TypeAdapter
from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.projects import hold_project, share_projects
from control_plane.store.requests import Asked, answered, keep_told
from skerry.fleet.access import Grant, ServiceToken
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.service_token import DIGEST_BYTES
from skerry.plumbing.errors import AlreadyExists, Exhausted, InvalidInput, NotFound

COLLECTION = "serviceTokens"
# Read whole, a second after any other control plane may have changed them: 1,000 take 5 ms.
TOKENS_MAX = 1_000
# One that ended stays in the list for a month, so that people see why a program stopped.
EXPIRED_KEPT = timedelta(days=30)
# To the hour: a program that calls a hundred times a second does not make a hundred writes.
USE_NOTED_AFTER = timedelta(hours=1)

_TOKEN = TypeAdapter(ServiceToken)
_GRANT = TypeAdapter(Grant)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """A token as it is kept, and whose it is."""

    token: ServiceToken
    digest: bytes
    project: str = DEFAULT_PROJECT


def create_service_token(
    session: Session, write: WriteContext, token: ServiceToken, digest: bytes, request_id: str
) -> ServiceToken:
    """Register a token by its digest and return it.

    AlreadyExists for a name that is in use, Exhausted past 1,000, InvalidInput for one that would
    have ended already.
    """
    assert len(digest) == DIGEST_BYTES, "it is a SHA-256"
    check_epoch(session, write.epoch)
    table = tables.service_tokens
    ends = "" if token.expires_at is None else token.expires_at.isoformat()
    grant = _GRANT.dump_json(token.grant).decode()
    body = f"{token.name} {grant} {ends} {digest.hex()}"
    asked = Asked(request_id=request_id, kind="create service token", body=body)
    if (earlier := answered(session, write, asked)) is not None:
        return _TOKEN.validate_json(earlier)
    hold_project(session, write.project)
    share_projects(session, token.grant.projects)
    if token.is_expired(write.now):
        raise InvalidInput("the token would have ended already", field="service_token.expire_time")
    session.execute(delete(table).where(table.c.expires_at < write.now - EXPIRED_KEPT))
    held = session.execute(select(func.count()).select_from(table)).scalar_one()
    if held >= TOKENS_MAX:
        raise Exhausted(
            f"{held} service tokens are registered, as many as may be; revoke those that nobody"
            " uses: `skerry token list` shows when each was used"
        )
    if _find(session, token.name) is not None:
        raise AlreadyExists(
            f"the name {token.name!r} is that of a service token already; revoke that, or take"
            " another name",
            field="service_token_id",
        )
    row = {
        "name": token.name,
        "grant": token.grant,
        "digest": digest,
        "creator": token.creator,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "project": write.project,
    }
    session.execute(insert(table).values(row))
    told = Asked(request_id=request_id, kind=asked.kind, body=body, answer=_TOKEN.dump_json(token))
    keep_told(session, write, told)
    summary = f"{token.grant.role.value} in {', '.join(token.grant.projects)}"
    effect = Effect(after=_TOKEN.dump_python(token, mode="json"))
    append_change(session, write, "token.created", _subject(write, token.name), summary, effect)
    return token


def revoke_service_token(
    session: Session, write: WriteContext, token: ServiceToken, request_id: str
) -> None:
    """Forget the token, as it was looked at; NotFound where there is none of its name any more."""
    check_epoch(session, write.epoch)
    asked = Asked(request_id=request_id, kind="revoke service token", body=token.name)
    if answered(session, write, asked) is not None:
        return
    held = _find(session, token.name)
    if held is not None and held.project != write.project:
        held = None
    # Looked at again: one that was revoked and made anew meanwhile may be none of the caller's.
    if held is None or held.token.created_at != token.created_at:
        raise no_such_token(token.name)
    table = tables.service_tokens
    session.execute(delete(table).where(table.c.name == token.name))
    keep_told(session, write, asked)
    effect = Effect(before=_TOKEN.dump_python(held.token, mode="json"))
    subject = _subject(write, token.name)
    append_change(session, write, "token.revoked", subject, "is no credential any more", effect)


def was_revoked_by(session: Session, write: WriteContext, name: str, request_id: str) -> bool:
    """Say whether this very request has revoked it before."""
    asked = Asked(request_id=request_id, kind="revoke service token", body=name)
    return answered(session, write, asked) is not None


def note_use(session: Session, write: WriteContext, name: str) -> None:
    """Note that a token is used now; tells nobody, and nothing of a token that is gone."""
    check_epoch(session, write.epoch)
    table = tables.service_tokens
    session.execute(update(table).where(table.c.name == name).values(last_used_at=write.now))


def list_service_tokens(session: Session) -> tuple[StoredToken, ...]:
    """Return every token that is kept, by name; those that ended too."""
    table = tables.service_tokens
    rows = session.execute(select(table).order_by(table.c.name)).mappings()
    return tuple(_stored(row) for row in rows)


def no_such_token(name: str) -> NotFound:
    """Return the error for a token that is not there, or not for the caller."""
    return NotFound(
        f"there is no service token {name!r}; `skerry token list` shows those there are"
    )


def _find(session: Session, name: str) -> StoredToken | None:
    table = tables.service_tokens
    query = select(table).where(table.c.name == name).with_for_update()
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else _stored(row)


def _stored(row: RowMapping) -> StoredToken:
    told = dict(row)
    digest, project = told.pop("digest"), told.pop("project")
    return StoredToken(token=ServiceToken(**told), digest=bytes(digest), project=project)


def _subject(write: WriteContext, name: str) -> str:
    return full_name(write.project, COLLECTION, name)
