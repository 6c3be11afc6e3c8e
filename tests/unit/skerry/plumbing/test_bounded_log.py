"""A log stays bounded while its writer holds it open, and what is newest is kept."""

import stat
from pathlib import Path

from skerry.plumbing.bounded_log import bound_log, old_log


def test_a_log_within_its_bound_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_bytes(b"x" * 100)
    assert not bound_log(log, 100)
    assert log.read_bytes() == b"x" * 100
    assert not bound_log(tmp_path / "gone.log", 100)


def test_a_log_beyond_its_bound_begins_anew_and_its_end_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_bytes(b"a" * 50 + b"b" * 100)
    assert bound_log(log, 100)
    assert log.read_bytes() == b""
    assert old_log(log).read_bytes() == b"b" * 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.log", "agent.log.1"]


def test_a_writer_that_appends_goes_on_at_the_beginning(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"x" * 101)
        assert bound_log(log, 100)
        writer.write(b"next\n")
    assert log.read_bytes() == b"next\n"


def test_only_one_old_file_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    for letter in (b"a", b"b"):
        log.write_bytes(letter * 20)
        assert bound_log(log, 10)
    assert old_log(log).read_bytes() == b"b" * 10


def test_a_log_is_cut_even_when_its_end_cannot_be_kept(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_bytes(b"x" * 20)
    old_log(log).mkdir()  # in the way, as a full disk would be
    assert bound_log(log, 10)
    assert log.read_bytes() == b""


def test_the_kept_end_begins_with_a_whole_line_and_is_its_owners_alone(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(9)))
    assert bound_log(log, 60, kept_bytes_max=20)
    assert old_log(log).read_bytes() == b"line 7\nline 8\n"
    assert stat.S_IMODE(old_log(log).stat().st_mode) == 0o600
