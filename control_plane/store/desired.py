"""What each plane was last told, by compare-and-set on its generation."""

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.columns import driver_rows
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import StoredDesired, Told
from skerry.fleet.generation import Version
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.placement import Envelope
from skerry.plumbing.errors import StaleGeneration

ONE_BY_ONE_MAX = 50  # planes read by name; above it reading all of them is no slower


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
    check_epoch(session, write.epoch)
    version = Version(epoch=write.epoch, generation=expected_generation + 1)
    table = tables.desired_states
    values = {
        "epoch": version.epoch,
        "generation": version.generation,
        "payload": told.payload,
        "digest": told.digest,
        "updated_at": write.now,
    }
    expected = (table.c.plane == plane) & (table.c.generation == expected_generation)
    replaced = update(table).where(expected).values(values).returning(table.c.plane)
    if session.execute(replaced).one_or_none() is None:
        held = get_desired(session, plane)
        if held is not None or expected_generation != 0:
            found = held.version.generation if held else 0
            raise StaleGeneration(
                f"plane {plane!r} is at generation {found}, not {expected_generation};"
                " read it again and decide anew"
            )
        session.execute(insert(table).values(plane=plane, **values))
    _replace_envelopes(session, plane, told.envelopes, version.generation)
    before = {"generation": expected_generation} if expected_generation else None
    after = {"epoch": version.epoch, "generation": version.generation, "sha256": told.digest.hex()}
    effect = Effect(before=before, after=after)
    append_change(session, write, "desired.stored", _subject(plane), f"version {version}", effect)
    return version


def get_desired(session: Session, plane: str) -> StoredDesired | None:
    """Return what a plane was last told; None when it never was."""
    return _load(session, plane).get(plane)


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
    moved = {
        plane
        for plane, told in now.items()
        if plane not in held or (held[plane].version, held[plane].digest) != told
    }
    if len(moved) > ONE_BY_ONE_MAX:
        found = _load(session, None)
    else:
        found = {plane: state for one in moved for plane, state in _load(session, one).items()}
    return MappingProxyType(
        {plane: found[plane] if plane in moved else held[plane] for plane in sorted(now)}
    )


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
    _replace_envelopes(session, plane, told.envelopes, version.generation)
    effect = Effect(after={"epoch": version.epoch, "generation": version.generation})
    append_change(session, write, "desired.adopted", _subject(plane), f"at {version}", effect)


def _load(session: Session, plane: str | None) -> dict[str, StoredDesired]:
    table = tables.desired_states
    query = select(table).order_by(table.c.plane)
    if plane is not None:
        query = query.where(table.c.plane == plane)
    granted = _load_envelopes(session, plane)
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
    session: Session, plane: str | None
) -> Mapping[tuple[str, int], tuple[Envelope, ...]]:
    """Return envelopes by plane and the generation that tells them."""
    table = tables.envelopes
    columns = (table.c.plane, table.c.generation, table.c.deployment, table.c.pool)
    bounds = (table.c.floor, table.c.target, table.c.ceiling)
    query = select(*columns, *bounds)
    if plane is not None:
        query = query.where(table.c.plane == plane)
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
    session: Session, plane: str, envelopes: tuple[Envelope, ...], generation: int
) -> None:
    table = tables.envelopes
    session.execute(delete(table).where(table.c.plane == plane))
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
        for envelope in envelopes
    ]
    if rows:
        session.execute(insert(table), rows)


def _subject(plane: str) -> str:
    return full_name(DEFAULT_PROJECT, "planes", plane)
