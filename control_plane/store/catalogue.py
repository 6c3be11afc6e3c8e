"""The catalogue: accelerator kinds, base models, reservations, clouds, regions and profiles, each a
name with a value.

All kinds are created, updated, deleted and listed alike; a `Kind` says what one is called.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.deployments import list_deployments
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.planes import list_planes
from control_plane.store.pools import list_pools
from control_plane.store.requests import digest_of, earlier_answer, keep_answer
from control_plane.store.values import Answer, StoredEntry, StoredPlane
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.names import full_name
from skerry.fleet.profile import Profile
from skerry.plumbing.errors import AlreadyExists, Conflict, Corrupt, Exhausted, Infeasible, NotFound

Value = TypeVar("Value", AcceleratorKind, RegisteredModel, Reservation, Cloud, Region, Profile)

ENTRIES_MAX = 10_000  # of one kind; all of them are read for every decision
RENEWED_MAX = 500  # read one by one; PostgreSQL takes 65,535 parameters, SQLite half as many
REGIONS_MAX = 1_000  # each has up to 256 latencies
_ETAG_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[Value]):
    """A kind of entry: its key in the table, its collection in full names, what people call it.

    Entries that are `reported` exist without being kept here: planes say that they lie in them.
    """

    key: str
    collection: str
    noun: str
    adapter: TypeAdapter[Value]
    reported: bool = False
    entries_max: int = ENTRIES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyIf:
    """When an update may be: at that etag (empty: at any), and where it is missing or not."""

    etag: str = ""
    allow_missing: bool = False


ACCELERATOR_KINDS = Kind(
    key="accelerator-kind",
    collection="acceleratorKinds",
    noun="accelerator kind",
    adapter=TypeAdapter(AcceleratorKind),
)
REGISTERED_MODELS = Kind(
    key="base-model",
    collection="baseModels",
    noun="base model",
    adapter=TypeAdapter(RegisteredModel),
)
RESERVATIONS = Kind(
    key="reservation",
    collection="reservations",
    noun="reservation",
    adapter=TypeAdapter(Reservation),
)
CLOUDS = Kind(
    key="cloud",
    collection="clouds",
    noun="cloud",
    adapter=TypeAdapter(Cloud),
    reported=True,
)
REGIONS = Kind(
    key="region",
    collection="regions",
    noun="region",
    adapter=TypeAdapter(Region),
    reported=True,
    entries_max=REGIONS_MAX,
)
PROFILES = Kind(
    key="profile",
    collection="profiles",
    noun="profile",
    adapter=TypeAdapter(Profile),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(Generic[Value]):
    """An update of some fields: `text` is what was asked, to know a repeat.

    `into` is pure and makes the entry's value of the present one, or of None where it is missing.
    """

    name: str
    text: str
    into: Callable[[Value | None], Value]


def create_entry(
    session: Session, write: WriteContext, kind: Kind[Value], value: Value, request_id: str
) -> StoredEntry[Value]:
    """Create an entry; AlreadyExists when the name is taken, Exhausted when there are too many."""
    check_epoch(session, write.epoch)
    digest = digest_of("create", kind.key, _text(kind, value))
    if earlier := _earlier(session, write, kind, request_id, digest):
        return earlier
    if find_entry(session, kind, value.name, lock=True) is not None:
        raise AlreadyExists(
            f"{kind.noun} {value.name!r} exists already; update it, or choose another name",
            field="name",
        )
    _check_room(session, kind)
    stored = _insert(session, write, kind, value)
    keep_answer(session, write, request_id, digest, Answer(entry=_dump(kind, stored)))
    _record(session, write, kind, "created", (None, stored))
    return stored


def update_entry(
    session: Session,
    write: WriteContext,
    kind: Kind[Value],
    value: Value,
    only: OnlyIf,
    request_id: str,
) -> StoredEntry[Value]:
    """Put a value in the place of the entry's, or create it where that is allowed.

    NotFound when it is missing, Conflict when the etag is not empty and not the present one.
    """
    # As releases without `merge_entry` made it, so that they answer a repeat alike.
    digest = digest_of("update", kind.key, _text(kind, value), only.etag, str(only.allow_missing))
    merge = Merge(name=value.name, text="", into=lambda held: value)
    return _update(session, write, kind, merge, only, (request_id, digest))


def merge_entry(
    session: Session,
    write: WriteContext,
    kind: Kind[Value],
    merge: Merge[Value],
    only: OnlyIf,
    request_id: str,
) -> StoredEntry[Value]:
    """Update an entry as `update_entry` does, to what is made of it when this is written."""
    asked = (kind.key, merge.name, merge.text, only.etag, str(only.allow_missing))
    digest = digest_of("update some", *asked)
    return _update(session, write, kind, merge, only, (request_id, digest))


def _update(
    session: Session,
    write: WriteContext,
    kind: Kind[Value],
    merge: Merge[Value],
    only: OnlyIf,
    request: tuple[str, str],
) -> StoredEntry[Value]:
    """Update an entry once for a request: its id and the digest of what it asks."""
    check_epoch(session, write.epoch)
    if earlier := _earlier(session, write, kind, *request):
        return earlier
    held = find_entry(session, kind, merge.name, lock=True)
    _check_etag(kind, merge.name, held, only.etag)
    if held is None and not only.allow_missing:
        raise no_such(kind, merge.name)
    value = merge.into(None if held is None else held.value)
    assert value.name == merge.name, "a name is not merged"
    if held is None:
        _check_room(session, kind)
        stored = _insert(session, write, kind, value)
    elif held.value == value:
        stored = held
    else:
        stored = _replace(session, write, kind, held, value)
    keep_answer(session, write, *request, Answer(entry=_dump(kind, stored)))
    if stored is not held:
        verb = "created" if held is None else "updated"
        _record(session, write, kind, verb, (held, stored))
    return stored


def delete_entry(
    session: Session,
    write: WriteContext,
    kind: Kind[Any],
    name: str,
    etag: str,
    request_id: str,
) -> None:
    """Delete an entry; NotFound when it is missing, Conflict when its etag is another.

    Infeasible while pools are of that accelerator kind, or deployments serve that base model. Of a
    cloud or region only what was registered goes: its planes tell themselves where they are.
    """
    check_epoch(session, write.epoch)
    digest = digest_of("delete", kind.key, name, etag)
    if _earlier(session, write, kind, request_id, digest):
        return
    held = find_entry(session, kind, name, lock=True)
    if held is None:
        raise no_such(kind, name)
    _check_etag(kind, name, held, etag)
    _check_unused(session, held.value)
    table = tables.catalogue
    session.execute(delete(table).where(table.c.kind == kind.key, table.c.name == name))
    keep_answer(session, write, request_id, digest, Answer(entry=_dump(kind, held)))
    _record(session, write, kind, "deleted", (held, None))


def get_entry(session: Session, kind: Kind[Value], name: str) -> StoredEntry[Value]:
    """Return an entry; NotFound when there is none of that name."""
    found = find_entry(session, kind, name)
    if found is None:
        raise no_such(kind, name)
    return found


def list_entries(session: Session, kind: Kind[Value]) -> tuple[StoredEntry[Value], ...]:
    """Return every entry of a kind, by name."""
    table = tables.catalogue
    query = select(table).where(table.c.kind == kind.key)
    found = (_stored(kind, row) for row in session.execute(query).mappings())
    # Sorted here: PostgreSQL's collation may order `-` unlike Python does.
    return tuple(sorted(found, key=lambda entry: entry.value.name))


def renew_entries(
    session: Session, kind: Kind[Value], held: tuple[StoredEntry[Value], ...]
) -> tuple[StoredEntry[Value], ...]:
    """Return every entry of a kind, by name; those that did not move are those of `held`."""
    table = tables.catalogue
    query = select(table.c.name, table.c.etag).where(table.c.kind == kind.key)
    present = {row.name: row.etag for row in session.execute(query)}
    known = {one.value.name: one for one in held if present.get(one.value.name) == one.etag}
    anew = sorted(present.keys() - known.keys())
    if len(anew) > RENEWED_MAX:
        return list_entries(session, kind)
    changed = select(table).where(table.c.kind == kind.key, table.c.name.in_(anew))
    for row in session.execute(changed).mappings():
        known[row["name"]] = _stored(kind, row)
    return tuple(known[name] for name in sorted(known))


def find_entry(
    session: Session, kind: Kind[Value], name: str, *, lock: bool = False
) -> StoredEntry[Value] | None:
    """Return an entry; None when there is none of that name."""
    table = tables.catalogue
    query = select(table).where(table.c.kind == kind.key, table.c.name == name)
    row = session.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else _stored(kind, row)


def list_with_planes(
    session: Session, kind: Kind[Value]
) -> tuple[tuple[StoredEntry[Value], ...], tuple[StoredPlane, ...]]:
    """Return every entry of a kind, and every plane where planes report it, of one moment."""
    return list_entries(session, kind), list_planes(session) if kind.reported else ()


def find_with_planes(
    session: Session, kind: Kind[Value], name: str
) -> tuple[StoredEntry[Value] | None, tuple[StoredPlane, ...]]:
    """Return an entry, if there is one of that name, and planes as `list_with_planes` does."""
    return find_entry(session, kind, name), list_planes(session) if kind.reported else ()


def no_such(kind: Kind[Any], name: str) -> NotFound:
    """Return the error that says there is no entry of that name."""
    return NotFound(
        f"{kind.noun} {name!r} does not exist; `skerry get {kind.collection.lower()}` lists them"
    )


def _insert(
    session: Session, write: WriteContext, kind: Kind[Value], value: Value
) -> StoredEntry[Value]:
    etag = _etag("", kind, value, write)
    stored = StoredEntry(value=value, etag=etag, created_at=write.now, updated_at=write.now)
    session.execute(
        insert(tables.catalogue).values(
            kind=kind.key,
            name=value.name,
            project=write.project,
            value=kind.adapter.dump_python(value, mode="json"),
            etag=etag,
            created_at=write.now,
            updated_at=write.now,
        )
    )
    return stored


def _replace(
    session: Session,
    write: WriteContext,
    kind: Kind[Value],
    held: StoredEntry[Value],
    value: Value,
) -> StoredEntry[Value]:
    table = tables.catalogue
    etag = _etag(held.etag, kind, value, write)
    same = (table.c.kind == kind.key) & (table.c.name == value.name) & (table.c.etag == held.etag)
    values = {
        "value": kind.adapter.dump_python(value, mode="json"),
        "etag": etag,
        "updated_at": write.now,
    }
    changed = update(table).where(same).values(values).returning(table.c.name)
    if session.execute(changed).one_or_none() is None:
        raise Conflict(f"{kind.noun} {value.name!r} was changed meanwhile; read it again")
    return StoredEntry(value=value, etag=etag, created_at=held.created_at, updated_at=write.now)


def _record(
    session: Session,
    write: WriteContext,
    kind: Kind[Value],
    verb: str,
    sides: tuple[StoredEntry[Value] | None, StoredEntry[Value] | None],
) -> None:
    """Record what became of an entry: `sides` is before and after."""
    before, after = (
        None if side is None else kind.adapter.dump_python(side.value, mode="json")
        for side in sides
    )
    entry = sides[1] or sides[0]
    assert entry is not None, "a change has a side"
    subject = full_name(write.project, kind.collection, entry.value.name)
    effect = Effect(before=before, after=after)
    append_change(session, write, f"{kind.key}.{verb}", subject, verb, effect)


def _earlier(
    session: Session, write: WriteContext, kind: Kind[Value], request_id: str, digest: str
) -> StoredEntry[Value] | None:
    earlier = earlier_answer(session, write, request_id, digest)
    if earlier is None:
        return None
    assert earlier.entry is not None, "the digest names the call"
    told = earlier.entry
    return StoredEntry(
        value=kind.adapter.validate_python(told.value),
        etag=told.etag,
        created_at=told.created_at,
        updated_at=told.updated_at,
    )


def _dump(kind: Kind[Value], stored: StoredEntry[Value]) -> StoredEntry[Any]:
    """Return the entry with its value as JSON, as answers keep it."""
    return StoredEntry(
        value=kind.adapter.dump_python(stored.value, mode="json"),
        etag=stored.etag,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


def _stored(kind: Kind[Value], row: RowMapping) -> StoredEntry[Value]:
    try:
        value = kind.adapter.validate_python(row["value"])
    except ValidationError:
        raise Corrupt(
            f"the stored {kind.noun} {row['name']!r} cannot be read; restore a backup of the"
            " capacity database, or start the release that wrote it"
        ) from None
    return StoredEntry(
        value=value,
        etag=row["etag"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _check_unused(session: Session, value: Any) -> None:
    """Raise Infeasible while something is described by the value."""
    match value:
        case AcceleratorKind(name=name):
            pools = [s.pool for s in list_pools(session) if s.pool.shape.accelerator == name]
            used = [f"pool {pool.name!r}" for pool in pools]
        case RegisteredModel(uri=uri):
            every = (stored.deployment for stored in list_deployments(session))
            used = [f"deployment {d.name!r}" for d in every if d.revision.base_model.uri == uri]
        case _:
            used = []
    if used:
        more = f" and {len(used) - 1} more" if len(used) > 1 else ""
        raise Infeasible(f"{value.name!r} is in use by {used[0]}{more}; delete those first")


def _check_room(session: Session, kind: Kind[Value]) -> None:
    table = tables.catalogue
    query = select(func.count()).select_from(table).where(table.c.kind == kind.key)
    if session.execute(query).scalar_one() >= kind.entries_max:
        raise Exhausted(
            f"there are {kind.entries_max} entries of kind {kind.noun}, as many as are kept; delete"
            " those that are over"
        )


def _check_etag(kind: Kind[Value], name: str, held: StoredEntry[Value] | None, etag: str) -> None:
    if etag and (held is None or held.etag != etag):
        now = "does not exist" if held is None else f"has etag {held.etag!r} now"
        raise Conflict(f"{kind.noun} {name!r} {now}; read it again and decide anew", field="etag")


def _etag(before: str, kind: Kind[Value], value: Value, write: WriteContext) -> str:
    # Chained to the one before: going back to an earlier value is still another etag.
    text = f"{before} {write.epoch} {write.now.isoformat()} {_text(kind, value)}".encode()
    return hashlib.sha256(text).hexdigest()[:_ETAG_CHARACTERS]


def _text(kind: Kind[Value], value: Value) -> str:
    return kind.adapter.dump_json(value).decode()
