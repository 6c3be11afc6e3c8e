"""A file is whole or absent, and the copy before it is kept as long as it was good."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.plumbing.errors import Conflict
from skerry.plumbing.files import (
    clean_temporaries,
    lock_file,
    previous_path,
    write_atomically,
    write_keeping_previous,
)

WRITER = """
import sys
from pathlib import Path
from skerry.plumbing.files import write_keeping_previous
path = Path(sys.argv[1])
for number in range(10**6):
    data = str(number).encode() * 20_000
    write_keeping_previous(path, data, is_whole=lambda data: bool(data))
    print(number, flush=True)
"""


def _is_whole(data: bytes) -> bool:
    return data != b"damaged"


def test_write_replaces_and_sets_the_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    before = os.umask(0o077)
    try:
        write_atomically(path, b"new", mode=0o640)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["key"]


def test_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(target, b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_the_copy_before_the_newest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for data in (b"one", b"two", b"three"):
        write_keeping_previous(path, data, is_whole=_is_whole)
    assert (path.read_bytes(), previous_path(path).read_bytes()) == (b"three", b"two")


def test_damaged_newest_does_not_push_out_the_good_previous(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for data in (b"one", b"two"):
        write_keeping_previous(path, data, is_whole=_is_whole)
    path.write_bytes(b"damaged")
    write_keeping_previous(path, b"three", is_whole=_is_whole)
    assert (path.read_bytes(), previous_path(path).read_bytes()) == (b"three", b"one")
    assert sorted(os.listdir(tmp_path)) == ["state", "state.prev"]


def test_temporaries_of_the_dead_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".state.123.0.tmp", ".other.tmp", "state.tmp", ".hidden"):
        (tmp_path / name).touch()
    assert clean_temporaries(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == [".hidden", ".other.tmp", "state.tmp"]


def test_lock_refuses_a_second_holder_and_names_the_first(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        lock_file(path),
        pytest.raises(Conflict, match=f"process {os.getpid()};") as caught,
        lock_file(path),
    ):
        pass
    assert caught.value.hints == {"pid": str(os.getpid())}
    with lock_file(path):
        pass


@pytest.mark.integration
def test_killed_writer_leaves_the_last_acknowledged_payload_or_a_newer_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for kills in range(1, 6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=Path(__file__).parents[4],
        ) as writer:
            assert writer.stdout is not None
            for _ in range(3 * kills):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        payload = path.read_bytes()
        assert payload in {str(number).encode() * 20_000 for number in range(acknowledged + 2)}
        assert int(payload[: len(payload) // 20_000]) >= acknowledged
        clean_temporaries(tmp_path)
        assert set(os.listdir(tmp_path)) <= {"state", "state.prev"}
