"""API keys for inference: a row for each, with the digest of its text and never the text.

The API's key service writes them; reconciliation tells every plane's gateway of those in force.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter
from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.projects import hold_project
from control_plane.store.requests import Asked, answered, keep_told
from skerry.fleet.api_key import EVERY_DEPLOYMENT, ApiKey, KeyTerms
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.plumbing.errors import AlreadyExists, Exhausted, InvalidInput, NotFound

COLLECTION = "apiKeys"
# Every plane's desired state and gateway holds all of them: 1,000 are 150 KiB of each.
KEYS_MAX = 1_000
# Of these a project may have so many, but for the fleet's own: no tenant uses up what all share.
KEYS_OF_PROJECT_MAX = 200
# And so many deployments may be listed by all of them: at 65 B a third of a desired state.
KEY_NAMES_MAX, NAMES_OF_PROJECT_MAX = 20_000, 4_000
# One that ended stays in the list for a month, so that people see why a program stopped.
ENDED_KEPT = timedelta(days=30)
_NAMES_SHOWN_MAX = 20  # in one change


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as people are shown it, without its digest."""

    name: str
    terms: KeyTerms
    creator: str
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as it is kept, and whose it is."""

    record: KeyRecord
    digest: bytes
    revoked_at: datetime | None = None
    project: str = DEFAULT_PROJECT

    @property
    def key(self) -> ApiKey:
        """Return what gateways are told."""
        record = self.record
        ends = record.expires_at
        return ApiKey(
            name=record.name,
            digest=self.digest,
            terms=record.terms,
            # As the link tells it: a part of a second would make what a plane holds differ for ever
            # from what is wanted, and every round would store and push it anew.
            expires_at=None if ends is None else ends.replace(microsecond=0),
            project=self.project,
        )


_RECORD = TypeAdapter(KeyRecord)
_TERMS = TypeAdapter(KeyTerms)


def create_api_key(
    session: Session, write: WriteContext, key: KeyRecord, digest: bytes, request_id: str
) -> KeyRecord:
    """Register a key by its digest and return it.

    AlreadyExists for a name that is in use, Exhausted past 1,000, InvalidInput for one that would
    have ended already.
    """
    check_epoch(session, write.epoch)
    table = tables.api_keys
    ends = "" if key.expires_at is None else key.expires_at.isoformat()
    body = f"{key.name} {_TERMS.dump_json(key.terms).decode()} {ends} {digest.hex()}"
    asked = Asked(request_id=request_id, kind="create api key", body=body)
    if (earlier := answered(session, write, asked)) is not None:
        return _RECORD.validate_json(earlier)
    hold_project(session, write.project)
    if key.expires_at is not None and key.expires_at <= write.now:
        raise InvalidInput("the key would have ended already", field="api_key.expire_time")
    _forget_ended(session, write.now)
    _check_room(session, write, key)
    before = _find(session, key.name)
    if before is not None and before.revoked_at is None:
        raise AlreadyExists(
            f"the name {key.name!r} is that of an API key already; revoke that, or take another",
            field="api_key_id",
        )
    session.execute(delete(table).where(table.c.name == key.name))
    row = {
        "name": key.name,
        "terms": key.terms,
        "digest": digest,
        "creator": key.creator,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "project": write.project,
    }
    session.execute(insert(table).values(row))
    told = Asked(request_id=request_id, kind=asked.kind, body=body, answer=_RECORD.dump_json(key))
    keep_told(session, write, told)
    summary = f"for {', '.join(key.terms.deployments)}"
    effect = Effect(after=_RECORD.dump_python(key, mode="json"))
    append_change(session, write, "api-key.created", _subject(write, key.name), summary, effect)
    return key


def _check_room(session: Session, write: WriteContext, key: KeyRecord) -> None:
    """Refuse a key too many, or one that lists too much: every plane holds all of them."""
    table = tables.api_keys
    query = select(table.c.project, table.c.terms).where(table.c.revoked_at.is_(None))
    held = [(row.project, row.terms) for row in session.execute(query)]
    own = [terms for project, terms in held if project == write.project]
    is_fleets = write.project == DEFAULT_PROJECT
    if len(held) >= KEYS_MAX or (not is_fleets and len(own) >= KEYS_OF_PROJECT_MAX):
        raise Exhausted(
            f"{len(own)} API keys of project {write.project!r} are registered, as many as may be;"
            " revoke those that nobody uses: `skerry key list`"
        )
    if key.terms.is_for_all:
        return
    told = len(key.terms.deployments) + _listed(own)
    every = len(key.terms.deployments) + _listed([terms for _, terms in held])
    if every > KEY_NAMES_MAX or (not is_fleets and told > NAMES_OF_PROJECT_MAX):
        raise Exhausted(
            f"API keys of project {write.project!r} list {told} deployments, more than may be;"
            " make keys for all of them (`*`), or revoke those that nobody uses"
        )


def _listed(terms: Sequence[KeyTerms]) -> int:
    return sum(len(one.deployments) for one in terms if not one.is_for_all)


def revoke_api_key(session: Session, write: WriteContext, name: str, request_id: str) -> None:
    """Take a key back; NotFound where there is none of its name (any more)."""
    check_epoch(session, write.epoch)
    asked = Asked(request_id=request_id, kind="revoke api key", body=name)
    if answered(session, write, asked) is not None:
        return
    held = _find(session, name)
    if held is None or held.revoked_at is not None or held.project != write.project:
        raise NotFound(f"there is no API key {name!r}; `skerry key list` shows those there are")
    table = tables.api_keys
    session.execute(update(table).where(table.c.name == name).values(revoked_at=write.now))
    keep_told(session, write, asked)
    effect = Effect(before=_RECORD.dump_python(held.record, mode="json"))
    append_change(
        session, write, "api-key.revoked", _subject(write, name), "is no key any more", effect
    )


def adopt_api_keys(session: Session, write: WriteContext, keys: Sequence[ApiKey]) -> None:
    """Keep keys that planes were told of and no row is of: the database has forgotten them."""
    check_epoch(session, write.epoch)
    table = tables.api_keys
    known = set(session.execute(select(table.c.name)).scalars())
    missing = [key for key in keys if key.name not in known]
    if not missing:
        return
    rows = [
        {
            "name": key.name,
            "terms": _made_with(key),
            "digest": key.digest,
            "creator": write.actor,
            "created_at": write.now,
            "expires_at": key.expires_at,
            "project": key.project,
        }
        for key in missing
    ]
    session.execute(insert(table), rows)
    names = ", ".join(key.name for key in missing[:_NAMES_SHOWN_MAX])
    subject = full_name(write.project, COLLECTION, "-")
    append_change(session, write, "api-key.adopted", subject, f"{len(missing)}: {names}")


def _made_with(key: ApiKey) -> KeyTerms:
    """Return the terms that a key was made with, of those that planes were told."""
    if not key.every_of_project:
        return key.terms
    return replace(key.terms, deployments=(EVERY_DEPLOYMENT,))


def list_api_keys(session: Session) -> tuple[StoredKey, ...]:
    """Return every key that is kept, by name; those too that ended or were revoked."""
    table = tables.api_keys
    rows = session.execute(select(table).order_by(table.c.name)).mappings()
    # Sorted here: PostgreSQL's collation may order `-` unlike Python does.
    return tuple(sorted(map(_stored, rows), key=lambda one: one.record.name))


def _forget_ended(session: Session, now: datetime) -> None:
    """Forget keys that ended or were revoked long ago; the caller writes one, so some are left."""
    table = tables.api_keys
    past = now - ENDED_KEPT
    session.execute(delete(table).where((table.c.revoked_at < past) | (table.c.expires_at < past)))


def _find(session: Session, name: str) -> StoredKey | None:
    table = tables.api_keys
    query = select(table).where(table.c.name == name).with_for_update()
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else _stored(row)


def _stored(row: RowMapping) -> StoredKey:
    told = dict(row)
    digest, revoked_at = told.pop("digest"), told.pop("revoked_at")
    project = told.pop("project")
    return StoredKey(
        record=KeyRecord(**told), digest=bytes(digest), revoked_at=revoked_at, project=project
    )


def _subject(write: WriteContext, name: str) -> str:
    return full_name(write.project, COLLECTION, name)
