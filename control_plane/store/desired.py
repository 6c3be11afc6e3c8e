"""What each plane was last told, by compare-and-set on its generation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, Entry, append_change, append_changes
from control_plane.store.columns import driver_rows
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import StoredDesired, Told
from skerry.fleet.generation import Version
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.placement import Envelope
from skerry.plumbing.errors import StaleGeneration

# Planes named in one query. While thousands are told something new, some dozens in a transaction,
# others read in between: to read all of them each time took a quarter of what telling them does.
NAMED_AT_ONCE = 500


def put_desired(
    session: Session,
    write: WriteContext,
    plane: str,
    told: Told,
    expected_generation: int,
) -> Version:
    """Store a plane's desired state as the generation after the expected one (0: the first).

    The plane's envelopes are replaced by those that it tells. Raises StaleGeneration when the
    stored generation is another.
    """
    telling = Telling(plane=plane, told=told, expected_generation=expected_generation)
    return put_every_desired(session, write, (telling,))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """One of several desired states that are stored together, as `put_desired` has them."""

    plane: str
    told: Told
    expected_generation: int


def put_every_desired(
    session: Session, write: WriteContext, tellings: Sequence[Telling]
) -> list[Version]:
    """Store the desired states of planes, each told once, all or none; return their versions.

    In a few statements, however many they are: one change may be told to thousands.
    """
    check_epoch(session, write.epoch)
    if not tellings:
        return []
    table = tables.desired_states
    names = [one.plane for one in tellings]
    query = select(table.c.plane, table.c.generation).where(table.c.plane.in_(names))
    rows = session.execute(query.order_by(table.c.plane).with_for_update())
    held = {row.plane: row.generation for row in rows}
    for one in tellings:
        if held.get(one.plane, 0) != one.expected_generation:
            raise StaleGeneration(
                f"plane {one.plane!r} is at generation {held.get(one.plane, 0)}, not"
                f" {one.expected_generation}; read it again and decide anew"
            )
    _write(session, write, [one for one in tellings if one.plane in held], is_new=False)
    _write(session, write, [one for one in tellings if one.plane not in held], is_new=True)
    told = {one.plane: (one.told.envelopes, one.expected_generation + 1) for one in tellings}
    _replace_envelopes(session, told)
    append_changes(session, write, [_entry(one, write.epoch) for one in tellings])
    return [Version(epoch=write.epoch, generation=one.expected_generation + 1) for one in tellings]


def _write(
    session: Session, write: WriteContext, tellings: Sequence[Telling], *, is_new: bool
) -> None:
    if not tellings:
        return
    table = tables.desired_states
    rows = [
        {
            "epoch": write.epoch,
            "generation": one.expected_generation + 1,
            "payload": one.told.payload,
            "digest": one.told.digest,
            "updated_at": write.now,
        }
        for one in tellings
    ]
    if is_new:
        planes = [{"plane": one.plane} for one in tellings]
        session.execute(
            insert(table), [plane | row for plane, row in zip(planes, rows, strict=True)]
        )
        return
    # The rows are ours since they were read: nobody else tells these planes anything meanwhile.
    replaced = update(table).where(table.c.plane == bindparam("of"))
    replaced = replaced.values(
        {name: bindparam(name, type_=table.c[name].type) for name in rows[0]}
    )
    of = [{"of": one.plane} for one in tellings]
    # Of the connection: a session takes such an update for one of mapped classes. It sets what the
    # rows name.
    session.connection().execute(
        replaced, [plane | row for plane, row in zip(of, rows, strict=True)]
    )


def _entry(one: Telling, epoch: int) -> Entry:
    version = Version(epoch=epoch, generation=one.expected_generation + 1)
    before = {"generation": one.expected_generation} if one.expected_generation else None
    after = {"epoch": epoch, "generation": version.generation, "sha256": one.told.digest.hex()}
    return Entry(
        kind="desired.stored",
        subject=_subject(one.plane),
        summary=f"version {version}",
        effect=Effect(before=before, after=after),
    )


def get_desired(session: Session, plane: str) -> StoredDesired | None:
    """Return what a plane was last told; None when it never was."""
    return _load(session, (plane,)).get(plane)


def list_desired(session: Session) -> Mapping[str, StoredDesired]:
    """Return what every plane was last told, by plane."""
    return MappingProxyType(_load(session, None))


def renew_desired(
    session: Session, held: Mapping[str, StoredDesired]
) -> Mapping[str, StoredDesired]:
    """Return what `list_desired` does; what was told no plane anew since is the value of `held`.

    The payloads of a thousand planes are megabytes, and most turns tell a few of them anything.
    """
    table = tables.desired_states
    columns = (table.c.plane, table.c.epoch, table.c.generation, table.c.digest)
    now = {
        plane: (Version(epoch=epoch, generation=generation), bytes(digest))
        for plane, epoch, generation, digest in driver_rows(session, select(*columns))
    }
    moved = [
        plane
        for plane, told in now.items()
        if plane not in held or (held[plane].version, held[plane].digest) != told
    ]
    found: dict[str, StoredDesired] = {}
    for begin in range(0, len(moved), NAMED_AT_ONCE):
        found |= _load(session, moved[begin : begin + NAMED_AT_ONCE])
    return MappingProxyType({plane: found.get(plane) or held[plane] for plane in sorted(now)})


def raise_generation(session: Session, write: WriteContext, plane: str, at_least: int) -> Version:
    """Raise a plane's generation to what the plane holds, so that the next push is not refused.

    The content stays; for a plane never told anything the payload is empty and not to be pushed.
    """
    check_epoch(session, write.epoch)
    held = get_desired(session, plane)
    if held is not None and held.version.generation >= at_least:
        return held.version
    version = Version(epoch=write.epoch, generation=at_least)
    table = tables.desired_states
    values = {"epoch": version.epoch, "generation": at_least, "updated_at": write.now}
    if held is None:
        empty = {"payload": b"", "digest": b""}
        session.execute(insert(table).values(plane=plane, **empty, **values))
    else:
        lower = (table.c.plane == plane) & (table.c.generation < at_least)
        session.execute(update(table).where(lower).values(values))
        granted, before_it = tables.envelopes, held.version.generation
        # Only rows that were of the content: those an older release left behind stay stale.
        same = (granted.c.plane == plane) & (granted.c.generation == before_it)
        session.execute(update(granted).where(same).values(generation=at_least))
    before = None if held is None else {"generation": held.version.generation}
    effect = Effect(before=before, after={"epoch": write.epoch, "generation": at_least})
    told = f"to {version}"
    append_change(session, write, "desired.generation-raised", _subject(plane), told, effect)
    return version


def put_held(
    session: Session, write: WriteContext, plane: str, told: Told, version: Version
) -> None:
    """Store what a plane holds as what it was told last, whatever was stored before.

    Only for a recovery: the plane's disk knows more than the database does.
    """
    check_epoch(session, write.epoch)
    table = tables.desired_states
    values = {
        "epoch": version.epoch,
        "generation": version.generation,
        "payload": told.payload,
        "digest": told.digest,
        "updated_at": write.now,
    }
    session.execute(delete(table).where(table.c.plane == plane))
    session.execute(insert(table).values(plane=plane, **values))
    _replace_envelopes(session, {plane: (told.envelopes, version.generation)})
    effect = Effect(after={"epoch": version.epoch, "generation": version.generation})
    append_change(session, write, "desired.adopted", _subject(plane), f"at {version}", effect)


def _load(session: Session, planes: Collection[str] | None) -> dict[str, StoredDesired]:
    table = tables.desired_states
    query = select(table).order_by(table.c.plane)
    if planes is not None:
        query = query.where(table.c.plane.in_(planes))
    granted = _load_envelopes(session, planes)
    return {
        row.plane: StoredDesired(
            version=Version(epoch=row.epoch, generation=row.generation),
            payload=row.payload,
            digest=row.digest,
            envelopes=granted.get((row.plane, row.generation)),
        )
        for row in session.execute(query)
    }


def _load_envelopes(
    session: Session, planes: Collection[str] | None
) -> Mapping[tuple[str, int], tuple[Envelope, ...]]:
    """Return envelopes by plane and the generation that tells them."""
    table = tables.envelopes
    columns = (table.c.plane, table.c.generation, table.c.deployment, table.c.pool)
    bounds = (table.c.floor, table.c.target, table.c.ceiling)
    query = select(*columns, *bounds)
    if planes is not None:
        query = query.where(table.c.plane.in_(planes))
    found: dict[tuple[str, int], list[Envelope]] = {}
    # Sorted here: PostgreSQL's collation may order `-` unlike Python does.
    for of, generation, deployment, pool, *rest in sorted(driver_rows(session, query)):
        floor, target, ceiling = rest
        envelope = Envelope(
            deployment=deployment, pool=pool, floor=floor, target=target, ceiling=ceiling
        )
        found.setdefault((of, generation), []).append(envelope)
    return {key: tuple(envelopes) for key, envelopes in found.items()}


def _replace_envelopes(
    session: Session, told: Mapping[str, tuple[tuple[Envelope, ...], int]]
) -> None:
    """Replace the envelopes of planes by those that they are told, with their generations."""
    table = tables.envelopes
    session.execute(delete(table).where(table.c.plane.in_(list(told))))
    rows = [
        {
            "deployment": envelope.deployment,
            "pool": envelope.pool,
            "plane": plane,
            "floor": envelope.floor,
            "target": envelope.target,
            "ceiling": envelope.ceiling,
            "generation": generation,
        }
        for plane, (envelopes, generation) in told.items()
        for envelope in envelopes
    ]
    if rows:
        session.execute(insert(table), rows)


def _subject(plane: str) -> str:
    return full_name(DEFAULT_PROJECT, "planes", plane)
