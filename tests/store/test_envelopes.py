"""Envelopes beside the desired states that tell them, on both databases."""

from dataclasses import replace

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.desired import (
    NAMED_AT_ONCE,
    get_desired,
    list_desired,
    put_desired,
    raise_generation,
    renew_desired,
)
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.values import StoredDesired, Told
from skerry.fleet.generation import Version
from skerry.fleet.placement import Envelope
from skerry.plumbing.errors import StaleGeneration


def granted(deployment: str, plane: str = "fra", target: int = 1) -> Envelope:
    return Envelope(
        deployment=deployment, pool=f"{plane}--cpu", floor=0, target=target, ceiling=target + 1
    )


def telling(*envelopes: Envelope, payload: bytes = b"1") -> Told:
    return Told(payload=payload, digest=payload, envelopes=envelopes)


def as_an_older_release_puts(session: Session, plane: str, generation: int) -> None:
    """Store the next generation as a release does that knows of no rows."""
    table = tables.desired_states
    values = {"generation": generation, "payload": b"old", "digest": b"old"}
    session.execute(update(table).where(table.c.plane == plane).values(values))


def test_a_plane_has_the_envelopes_that_it_was_told_last(
    database: Database, write: WriteContext
) -> None:
    others = (granted("a-b", "gcp"), granted("a", "gcp"))
    with database.write() as session:
        put_desired(session, write, "fra", telling(granted("demo"), granted("gone")), 0)
        put_desired(session, write, "gcp", telling(*others), 0)
        put_desired(session, write, "fra", telling(granted("demo", target=2)), 1)
        held = list_desired(session)
        assert held["fra"].envelopes == (granted("demo", target=2),)
        assert held["gcp"].envelopes == tuple(reversed(others)), "by deployment"
        assert get_desired(session, "fra") == held["fra"]


def test_a_stale_put_leaves_the_envelopes_as_they_are(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        put_desired(session, write, "fra", telling(granted("demo")), 0)
    with database.write() as session, pytest.raises(StaleGeneration):
        put_desired(session, write, "fra", telling(granted("other")), 0)
    with database.read() as session:
        assert list_desired(session)["fra"].envelopes == (granted("demo"),)


def test_rows_of_what_an_older_release_replaced_are_not_taken_for_its_own(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        put_desired(session, write, "fra", telling(granted("demo")), 0)
        as_an_older_release_puts(session, "fra", 2)
        assert list_desired(session)["fra"].envelopes is None
        raise_generation(session, write, "fra", 9)
        assert list_desired(session)["fra"].envelopes is None, "raised, they are stale still"
        put_desired(session, write, "fra", telling(granted("demo", target=3)), 9)
        assert list_desired(session)["fra"].envelopes == (granted("demo", target=3),)


def test_a_raised_generation_keeps_its_envelopes(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        put_desired(session, write, "fra", telling(granted("demo")), 0)
        put_desired(session, write, "gcp", telling(granted("demo", "gcp")), 0)
        raise_generation(session, write, "fra", 7)
        held = list_desired(session)
        rows = session.execute(select(tables.envelopes.c.plane, tables.envelopes.c.generation))
        generations = {row.plane: row.generation for row in rows}
    assert held["fra"].envelopes == (granted("demo"),)
    assert held["fra"].version.generation == 7
    assert generations == {"fra": 7, "gcp": 1}


def test_what_tells_no_envelopes_has_no_rows(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        put_desired(session, write, "fra", telling(granted("demo")), 0)
        put_desired(session, write, "fra", telling(), 1)
        assert session.execute(select(tables.envelopes)).all() == []
        assert list_desired(session)["fra"].envelopes is None


@pytest.mark.parametrize("moved", [1, NAMED_AT_ONCE + 1])
def test_only_what_was_told_anew_is_read_again(
    database: Database, write: WriteContext, moved: int
) -> None:
    planes = [f"p{number:03}" for number in range(NAMED_AT_ONCE + 2)]
    with database.write() as session:
        for plane in planes:
            put_desired(session, write, plane, telling(granted("demo", plane)), 0)
    with database.read() as session:
        held = list_desired(session)
    again = telling(granted("demo", "p000", target=4), payload=b"2")
    with database.write() as session:
        for plane in planes[:moved]:
            other = replace(again, envelopes=(granted("demo", plane, target=4),))
            put_desired(session, write, plane, other, 1)
        put_desired(session, write, "new", telling(granted("demo", "new")), 0)
    with database.read() as session:
        renewed = renew_desired(session, held)
        assert dict(renewed) == dict(list_desired(session))
    assert list(renewed) == sorted([*planes, "new"])
    assert all(renewed[plane] is held[plane] for plane in planes[moved:])
    assert renewed["p000"].envelopes == again.envelopes


def test_another_content_under_the_same_number_is_read_again(
    database: Database, write: WriteContext
) -> None:
    """A backup that was restored may have told something else under it."""
    values = {"epoch": 1, "generation": 1, "payload": b"now", "digest": b"now"}
    with database.write() as session:
        row = insert(tables.desired_states).values(plane="fra", updated_at=write.now, **values)
        session.execute(row)
        before = StoredDesired(
            version=Version(epoch=1, generation=1), payload=b"before", digest=b"before"
        )
        assert renew_desired(session, {"fra": before, "gone": before}) == list_desired(session)
