"""Logs of a fleet stay bounded, whoever writes them, and are their owner's alone."""

import stat
from pathlib import Path

import pytest

from skerry.cli.supervisor import log_files
from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.log_files import LOG_BYTES_MAX, START_BYTES_MAX, begin_log
from skerry.plumbing.bounded_log import old_log


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
        "planes/a/nodes/n1/logs/demo-r1-x.log", "planes/a/nodes/n1/logs/demo-r1-x/engine.log",
    }  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    cut: set[Path] = set()

    def note(path: Path, bytes_max: int) -> bool:
        assert bytes_max == LOG_BYTES_MAX
        cut.add(path)
        return False

    monkeypatch.setattr(log_files, "bound_log", note)
    log_files.bound_logs(DataDirectory(tmp_path))
    assert cut == {tmp_path / name for name in names}
