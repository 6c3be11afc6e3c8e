"""What each plane was last told, by compare-and-set on its generation."""

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import StoredDesired
from skerry.fleet.generation import Version
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.plumbing.errors import StaleGeneration


def put_desired(
    session: Session,
    write: WriteContext,
    plane: str,
    payload: bytes,
    digest: bytes,
    expected_generation: int,
) -> Version:
    """Store a plane's desired state as the generation after the expected one (0: the first).

    Raises StaleGeneration when the stored generation is another.
    """
    check_epoch(session, write.epoch)
    version = Version(epoch=write.epoch, generation=expected_generation + 1)
    table = tables.desired_states
    values = {
        "epoch": version.epoch,
        "generation": version.generation,
        "payload": payload,
        "digest": digest,
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
    before = {"generation": expected_generation} if expected_generation else None
    after = {"epoch": version.epoch, "generation": version.generation, "sha256": digest.hex()}
    effect = Effect(before=before, after=after)
    append_change(session, write, "desired.stored", _subject(plane), f"version {version}", effect)
    return version


def get_desired(session: Session, plane: str) -> StoredDesired | None:
    """Return what a plane was last told; None when it never was."""
    return _load(session, plane).get(plane)


def list_desired(session: Session) -> Mapping[str, StoredDesired]:
    """Return what every plane was last told, by plane."""
    return MappingProxyType(_load(session, None))


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
    before = None if held is None else {"generation": held.version.generation}
    effect = Effect(before=before, after={"epoch": write.epoch, "generation": at_least})
    told = f"to {version}"
    append_change(session, write, "desired.generation-raised", _subject(plane), told, effect)
    return version


def _load(session: Session, plane: str | None) -> dict[str, StoredDesired]:
    table = tables.desired_states
    query = select(table).order_by(table.c.plane)
    if plane is not None:
        query = query.where(table.c.plane == plane)
    return {
        row.plane: StoredDesired(
            version=Version(epoch=row.epoch, generation=row.generation),
            payload=row.payload,
            digest=row.digest,
        )
        for row in session.execute(query)
    }


def _subject(plane: str) -> str:
    return full_name(DEFAULT_PROJECT, "planes", plane)
