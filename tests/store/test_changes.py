"""The change log as an audit: whole, chained, forgotten only where it says so."""

from dataclasses import replace

import pytest
from sqlalchemy import delete, insert, update

from control_plane.store import tables
from control_plane.store.audit import verify_changes
from control_plane.store.changes import (
    append_change,
    check_kept,
    forget_changes,
    get_change,
    last_sequence,
    list_changes,
    oldest_sequence,
)
from control_plane.store.deployments import apply_deployment, mark_deleting
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.upkeep import surplus
from skerry.fleet.deployment import Scaling
from skerry.plumbing.errors import NotFound, OutOfRange
from tests.builders import a_deployment


def record(database: Database, write: WriteContext, count: int) -> None:
    with database.write() as session:
        for number in range(count):
            append_change(session, write, "test.made", f"things/{number}", "made")


def test_a_change_tells_who_why_and_what_was_before_and_after(
    database: Database, write: WriteContext
) -> None:
    asked = replace(write, actor="user:ada", reason="für Köln")
    deployment = a_deployment()
    grown = replace(deployment, scaling=Scaling(min_replicas=2, max_replicas=5))
    with database.write() as session:
        apply_deployment(session, write, deployment, "", "")
        apply_deployment(session, asked, grown, "", "")
        found = get_change(session, last_sequence(session))
    assert (found.actor, found.reason, found.project) == ("user:ada", "für Köln", "default")
    assert found.before["scaling"]["max_replicas"] == deployment.scaling.max_replicas
    assert found.after["scaling"]["max_replicas"] == 5


def test_the_end_of_a_deployment_is_told_with_what_it_was(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
        mark_deleting(session, write, "demo", "", "")
        found = get_change(session, last_sequence(session))
    assert found.before["name"] == "demo"
    assert "deleting" not in found.before
    assert found.after["deleting"] is True


def test_lists_leave_out_what_one_change_tells(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
        (newest,) = list_changes(session, 0, 1, newest_first=True)
    assert newest.before is None
    assert newest.after is None


def test_an_untouched_log_is_sound_to_its_end(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
    record(database, write, 5)
    with database.read() as session:
        found = verify_changes(session)
        assert (found.fault, found.sequence) == ("", last_sequence(session))
    assert (found.checked, found.unprotected) == (7, 0)


@pytest.mark.parametrize("column", ["actor", "summary", "reason", "kind", "subject", "project"])
def test_an_altered_record_is_found(database: Database, write: WriteContext, column: str) -> None:
    record(database, write, 5)
    table = tables.changes
    with database.write() as session:
        session.execute(update(table).where(table.c.sequence == 3).values({column: "user-x"}))
    with database.read() as session:
        found = verify_changes(session)
    assert found.sequence == 3
    assert "altered" in found.fault


def test_a_removed_record_is_found_wherever_it_was(database: Database, write: WriteContext) -> None:
    record(database, write, 5)
    table = tables.changes
    for sequence, word in ((6, "newest"), (3, "missing")):
        with database.write() as session:
            session.execute(delete(table).where(table.c.sequence == sequence))
        with database.read() as session:
            assert word in verify_changes(session).fault


def test_a_record_taken_out_of_the_chain_is_found(database: Database, write: WriteContext) -> None:
    record(database, write, 5)
    table = tables.changes
    empty = {"digest": None, "previous_digest": None, "summary": "never was"}
    with database.write() as session:
        session.execute(update(table).where(table.c.sequence == 3).values(empty))
    with database.read() as session:
        assert "does not follow" in verify_changes(session).fault


def test_what_an_older_release_records_is_read_and_counted_as_unprotected(
    database: Database, write: WriteContext
) -> None:
    record(database, write, 2)
    counter = tables.change_counter
    with database.write() as session:
        # As the first release does it: it knows no column of the chain.
        counted = update(counter).values(sequence=counter.c.sequence + 1)
        sequence = session.execute(counted.returning(counter.c.sequence)).scalar_one()
        told = {"sequence": sequence, "time": write.now, "actor": "user:old", "kind": "k"}
        told |= {"subject": "s", "summary": "old", "epoch": write.epoch}
        session.execute(insert(tables.changes).values(told))
    record(database, write, 2)
    with database.read() as session:
        found = verify_changes(session)
        assert (found.fault, found.unprotected) == ("", 1)
        old = get_change(session, sequence)
    assert (old.project, old.reason, old.before) == ("default", "", None)


def test_forgotten_changes_are_told_with_the_oldest_that_is_kept(
    database: Database, write: WriteContext
) -> None:
    record(database, write, 9)
    with database.write() as session:
        assert forget_changes(session, write, 4) == 4
    with database.read() as session:
        assert oldest_sequence(session) == 5
        assert [change.sequence for change in list_changes(session, 0, 2)] == [5, 6]
        check_kept(session, 4)
        with pytest.raises(OutOfRange) as refused:
            check_kept(session, 3)
        with pytest.raises(NotFound, match="oldest that is kept is 5"):
            get_change(session, 4)
        assert verify_changes(session).fault == ""
    assert refused.value.hints == {"oldest_sequence": "5"}
    assert "watch from 4" in refused.value.message


def test_the_newest_change_is_never_forgotten(database: Database, write: WriteContext) -> None:
    record(database, write, 3)
    with database.write() as session:
        forget_changes(session, write, 1_000)
        assert [c.sequence for c in list_changes(session, 0, 10)] == [4, 5]
        assert forget_changes(session, write, 3) == 0
    record(database, write, 1)
    with database.read() as session:
        assert verify_changes(session).fault == ""


def test_changes_gather_before_they_are_forgotten() -> None:
    assert surplus(oldest=1, newest=1_100, kept=1_000) is None
    assert surplus(oldest=1, newest=1_101, kept=1_000) == 101
