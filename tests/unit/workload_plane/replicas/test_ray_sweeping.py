"""What Ray leaves on disk is bounded; what may still be written is never removed."""

import os
from pathlib import Path

import pytest

from workload_plane.replicas.ray import sweeping
from workload_plane.replicas.ray.sweeping import QUIET_SECONDS, LogFile, sweep, too_many

NOW = 10_000_000.0


def _file(name: str, size: int, quiet_seconds: float) -> LogFile:
    return LogFile(path=Path(name), size_bytes=size, written_at=NOW - quiet_seconds)


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "LOGS_BYTES_MAX", 100)
    monkeypatch.setattr(sweeping, "LOGS_MAX", 3)


def test_within_the_bounds_nothing_goes_however_old() -> None:
    assert too_many([_file("a", 50, 1e6), _file("b", 50, 1e6)], NOW) == ()


def test_the_longest_quiet_go_until_the_rest_fits() -> None:
    old, older, new = _file("b", 60, 2e5), _file("a", 60, 3e5), _file("c", 60, 1.0)
    assert too_many([old, new, older], NOW) == (older, old)


def test_too_many_small_ones_go_too() -> None:
    files = [_file(str(number), 1, QUIET_SECONDS + number) for number in range(5)]
    assert [file.path.name for file in too_many(files, NOW)] == ["4", "3"]


def test_what_was_written_lately_stays_also_past_the_bounds() -> None:
    assert too_many([_file("a", 1_000, QUIET_SECONDS - 1.0)], NOW) == ()


def test_logs_of_every_session_and_node_are_swept_and_nothing_else(tmp_path: Path) -> None:
    head = tmp_path / "session_1" / "logs"
    other = tmp_path / "n2" / "session_1" / "logs" / "old"
    sockets = tmp_path / "session_1" / "sockets"
    for folder in (head, other, sockets):
        folder.mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(tmp_path / "session_1")
    for path, at in ((head / "a.log", 1.0), (other / "b.log", 2.0), (sockets / "raylet", 1.0)):
        path.write_bytes(b"x" * 90)
        os.utime(path, (at, at))
    assert sweep(tmp_path, NOW) == 1
    assert not (head / "a.log").exists()
    assert (other / "b.log").exists()
    assert (sockets / "raylet").exists()
