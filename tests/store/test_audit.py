"""The audit of the change log on both databases: what somebody with write access may do to it."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import audit, tables
from control_plane.store.audit import list_links, list_records, verify_changes, verify_piece
from control_plane.store.backup import Restoring, restore_backup, write_backup
from control_plane.store.changes import Effect, append_change, forget_changes, last_sequence
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from skerry.fleet.change_chain import Link, Noted, Verified, digest_of, read_noted
from skerry.plumbing.errors import OutOfRange
from tests.fakes.clock import START

CHANGES = tables.changes
COUNTER = tables.change_counter
DAY = timedelta(days=1)
BYTES = 1 << 20


@pytest.fixture
def log(database: Database, write: WriteContext) -> Database:
    """A log of nine changes and the one by which the leader came."""
    with database.write() as session:
        record(session, write, 9)
    return database


def record(session: Session, write: WriteContext, count: int) -> None:
    for number in range(count):
        effect = Effect(before={"count": number, "share": 0.1}, after=["für", 1e22, 2.0, None])
        append_change(session, write, "test.made", f"things/{number}", "made", effect)


def found_in(database: Database, noted: Noted | None = None) -> Verified:
    with database.read() as session:
        return verify_changes(session, noted)


def the_end(database: Database) -> Noted:
    found = found_in(database)
    assert found.digest is not None
    return Noted(sequence=found.sequence, digest=found.digest)


def test_every_change_is_checked_whatever_it_holds(log: Database) -> None:
    found = found_in(log, the_end(log))
    assert (found.fault, found.checked, found.sequence) == ("", 10, 10)


def test_a_deleted_row_is_found(log: Database) -> None:
    with log.write() as session:
        session.execute(delete(CHANGES).where(CHANGES.c.sequence == 5))
    found = found_in(log)
    assert (found.sequence, found.fault) == (6, "change 5 is missing: 6 follows 4")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "user:mallory"),
        ("time", START + DAY),
        ("before", {"count": 3, "share": 0.1000001}),
        ("after", None),
        ("epoch", 7),
        ("digest", b"x" * 32),
    ],
)
def test_an_altered_row_is_found(log: Database, column: str, value: object) -> None:
    with log.write() as session:
        session.execute(update(CHANGES).where(CHANGES.c.sequence == 5).values({column: value}))
    found = found_in(log)
    assert found.sequence == 5
    assert "altered" in found.fault


def test_swapped_rows_are_found(log: Database) -> None:
    with log.write() as session:
        for old, new in ((4, -1), (5, 4), (-1, 5)):
            session.execute(update(CHANGES).where(CHANGES.c.sequence == old).values(sequence=new))
    found = found_in(log)
    assert found.sequence == 4
    assert found.fault


def test_a_row_put_in_between_is_found(log: Database) -> None:
    with log.write() as session:
        later = CHANGES.c.sequence > 8
        session.execute(update(CHANGES).where(later).values(sequence=-CHANGES.c.sequence))
        session.execute(
            update(CHANGES).where(CHANGES.c.sequence < 0).values(sequence=1 - CHANGES.c.sequence)
        )
        row = dict(session.execute(select(CHANGES).limit(1)).mappings().one())
        session.execute(insert(CHANGES).values(row | {"sequence": 9}))
        session.execute(update(COUNTER).values(sequence=11))
    found = found_in(log)
    assert found.sequence == 9
    assert "does not follow" in found.fault


def test_the_newest_rows_with_their_counter_are_missed_by_what_was_noted(log: Database) -> None:
    noted = the_end(log)
    with log.write() as session:
        digest = select(CHANGES.c.digest).where(CHANGES.c.sequence == 7)
        session.execute(update(COUNTER).values(sequence=7, digest=session.execute(digest).scalar()))
        session.execute(delete(CHANGES).where(CHANGES.c.sequence > 7))
    assert found_in(log).fault == ""
    assert "ends at change 7, before 10" in found_in(log, noted).fault


def test_a_log_written_anew_is_found_by_what_was_noted(log: Database) -> None:
    noted = the_end(log)
    with log.write() as session:
        rewrite(session, actor="user:mallory")
    assert found_in(log).fault == ""
    found = found_in(log, noted)
    assert (found.sequence, "was replaced" in found.fault) == (10, True)


def rewrite(session: Session, actor: str) -> None:
    """Do what one who knows the code would: another actor, and all digests made anew."""
    session.execute(update(CHANGES).values(actor=actor))
    previous: bytes | None = None
    for link in list_links(session, 0, 1_000):
        digest = digest_of(link.content, previous)
        told = {"previous_digest": previous, "digest": digest}
        session.execute(update(CHANGES).where(CHANGES.c.sequence == link.sequence).values(told))
        previous = digest
    session.execute(update(COUNTER).values(digest=previous))


def test_the_log_is_verified_after_it_was_compacted_and_goes_on(
    log: Database, write: WriteContext
) -> None:
    noted = the_end(log)
    with log.write() as session:
        for up_to in (3, 6):
            forget_changes(session, write, up_to)
        record(session, write, 2)
    found = found_in(log, noted)
    assert (found.fault, found.checked, found.sequence) == ("", 8, 14)
    with log.read() as session, pytest.raises(OutOfRange, match="change 5 was forgotten"):
        verify_changes(session, Noted(sequence=5, digest=b"x" * 32))


def test_what_was_noted_of_the_newest_forgotten_change_is_compared(
    log: Database, write: WriteContext
) -> None:
    with log.write() as session:
        (sixth,) = list_links(session, 5, 1)
        forget_changes(session, write, 6)
    assert sixth.digest is not None
    assert found_in(log, Noted(sequence=6, digest=sixth.digest)).fault == ""


def test_old_changes_that_were_removed_are_not_taken_for_forgotten(
    log: Database, write: WriteContext
) -> None:
    with log.write() as session:
        session.execute(delete(CHANGES).where(CHANGES.c.sequence <= 4))
        session.execute(update(COUNTER).values(compacted_to=4))
    assert "no record says that they were forgotten" in found_in(log).fault
    with log.write() as session:
        forget_changes(session, write, 6)
        session.execute(delete(CHANGES).where(CHANGES.c.sequence <= 7))
        session.execute(update(COUNTER).values(compacted_to=7))
    assert "up to 7 are gone" in found_in(log).fault


def test_the_first_change_that_is_kept_follows_the_last_that_was_forgotten(
    log: Database, write: WriteContext
) -> None:
    with log.write() as session:
        forget_changes(session, write, 4)
        rewrite(session, actor="user:mallory")
    found = found_in(log)
    assert found.sequence == 5
    assert "does not follow" in found.fault


def test_what_an_older_release_forgot_is_told_by_its_summary(
    log: Database, write: WriteContext
) -> None:
    with log.write() as session:
        session.execute(delete(CHANGES).where(CHANGES.c.sequence <= 4))
        session.execute(update(COUNTER).values(compacted_to=4))
        append_change(session, write, "changes.forgotten", "changes", "1 to 4")
    assert found_in(log).fault == ""


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "READ_AT_ONCE", 2)
    monkeypatch.setattr(audit, "VERIFIED_AT_ONCE_MAX", 2)


@pytest.mark.usefixtures("small_pieces")
def test_pieces_are_bounded_and_end_at_the_newest(log: Database, write: WriteContext) -> None:
    before, pieces = None, []
    while True:
        with log.read() as session:
            piece = verify_piece(session, before)
        pieces.append(piece.found.sequence)
        if piece.is_whole:
            break
        before = piece.found
        if len(pieces) == 3:  # what is recorded meanwhile is checked, too
            with log.write() as session:
                record(session, write, 2)
    assert pieces == [2, 4, 6, 8, 10, 12, 12]
    assert (piece.found.fault, piece.found.checked, piece.newest) == ("", 12, 12)


@pytest.mark.usefixtures("small_pieces")
def test_a_piece_whose_changes_were_forgotten_meanwhile_is_refused(
    log: Database, write: WriteContext
) -> None:
    with log.write() as session:
        piece = verify_piece(session, None)
        forget_changes(session, write, 6)
        with pytest.raises(OutOfRange, match="up to 6 were forgotten meanwhile"):
            verify_piece(session, piece.found)


def test_an_older_backup_that_was_restored_goes_on_and_is_found_by_what_was_noted(
    log: Database, migrated: str, tmp_path: Path, write: WriteContext
) -> None:
    at_backup = the_end(log)
    write_backup(migrated, tmp_path / "fleet.backup", START)
    with log.write() as session:
        record(session, write, 3)
    lost = the_end(log)
    restoring = Restoring(url=migrated, actor="user:root", now=START + DAY, force=True)
    restore_backup(tmp_path / "fleet.backup", restoring)
    assert found_in(log, at_backup).fault == ""
    assert "an older backup was restored" in found_in(log, lost).fault
    with log.write() as session:
        record(session, WriteContext(epoch=write.epoch + 1, actor="user:ada", now=START + DAY), 5)
    found = found_in(log, at_backup)
    assert (found.fault, found.checked) == ("", 10 + 1 + 5)
    assert "was replaced" in found_in(log, lost).fault


def test_records_are_those_that_chain_and_bounded_in_bytes(log: Database) -> None:
    with log.read() as session:
        whole = list_records(session, 0, None, 100, BYTES)
        assert [link.sequence for link in whole] == list(range(1, 11))
        assert whole == list_links(session, 0, 100)
        assert sequences(list_records(session, 4, None, 3, BYTES)) == [5, 6, 7]
        assert sequences(list_records(session, 4, None, 100, 1)) == [5]
        with pytest.raises(OutOfRange, match="above the newest"):
            list_records(session, 11, None, 3, BYTES)


def test_records_since_a_time_begin_with_the_first_and_leave_none_out(
    log: Database, write: WriteContext
) -> None:
    later = WriteContext(epoch=write.epoch, actor="user:ada", now=START + DAY)
    with log.write() as session:
        record(session, later, 1)
        record(session, write, 1)  # another leader's clock is behind
    with log.read() as session:
        since = START + timedelta(hours=1)
        assert sequences(list_records(session, 0, since, 100, BYTES)) == [11, 12]
        assert sequences(list_records(session, 11, since, 100, BYTES)) == [12]
        assert list_records(session, 0, START + 2 * DAY, 100, BYTES) == ()


def test_records_that_were_forgotten_are_not_passed_over_in_silence(
    log: Database, write: WriteContext
) -> None:
    with log.write() as session:
        forget_changes(session, write, 6)
        assert sequences(list_records(session, 0, None, 2, BYTES)) == [7, 8]
        with pytest.raises(OutOfRange, match="oldest that is kept is 7"):
            list_records(session, 3, None, 2, BYTES)
        assert last_sequence(session) == 11


def sequences(links: tuple[Link, ...]) -> list[int]:
    return [link.sequence for link in links]


def test_a_noted_digest_is_read_as_it_is_told(log: Database) -> None:
    noted = the_end(log)
    assert read_noted(str(noted)) == noted
