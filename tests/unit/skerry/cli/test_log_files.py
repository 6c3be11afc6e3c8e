"""Logs of a fleet stay bounded, whoever writes them, and are their owner's alone."""

import stat
from pathlib import Path

import pytest

from skerry.cli.supervisor import log_files
from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.log_files import START_BYTES_MAX, begin_log, bound_log, old_log


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


def test_a_long_log_is_put_aside_at_a_start_and_a_short_one_goes_on(tmp_path: Path) -> None:
    short, long = tmp_path / "short.log", tmp_path / "long.log"
    short.write_bytes(b"before\n")
    with open(long, "wb") as file:
        file.truncate(START_BYTES_MAX + 1)
    begin_log(short)
    begin_log(long)
    assert short.read_bytes() == b"before\n"
    assert long.read_bytes() == b""
    assert old_log(long).stat().st_size == START_BYTES_MAX + 1


def test_a_new_log_is_its_owners_alone(tmp_path: Path) -> None:
    begin_log(tmp_path / "agent.log")
    assert stat.S_IMODE((tmp_path / "agent.log").stat().st_mode) == 0o600


def test_every_log_of_the_fleet_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "supervisor.log", "control-plane/log", "planes/a/logs/agent.log",
        "planes/a/logs/gateway.log", "planes/a/logs/front.log",
        "planes/a/logs/demo-r1-x.log", "planes/a/logs/demo-r1-x/engine.log",
    }  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    cut: set[Path] = set()

    def note(path: Path) -> bool:
        cut.add(path)
        return False

    monkeypatch.setattr(log_files, "bound_log", note)
    log_files.bound_logs(DataDirectory(tmp_path))
    assert cut == {tmp_path / name for name in names}
