"""A file is whole or absent, a damaged one is noticed, and its previous copy is used."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.plumbing.errors import Conflict, Corrupt, NotFound
from skerry.plumbing.files import (
    clean_temporaries,
    lock_file,
    previous_path,
    read_checked,
    read_checked_or_previous,
    write_atomically,
    write_checked,
)

WRITER = """
import sys
from pathlib import Path
from skerry.plumbing.files import write_checked
path = Path(sys.argv[1])
for number in range(10**6):
    write_checked(path, str(number).encode() * 20_000)
    print(number, flush=True)
"""


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


def test_checked_payload_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for payload in (b"", b"one", b"two\nlines"):
        write_checked(path, payload)
        assert read_checked(path) == payload
    assert read_checked(previous_path(path)) == b"one"
    assert not read_checked_or_previous(path).is_previous


def test_checked_file_is_a_header_line_and_the_payload(tmp_path: Path) -> None:
    """The form on disk is read by later releases: it may not change."""
    path = tmp_path / "state"
    write_checked(path, b"abc")
    digest = b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert path.read_bytes() == b"sha256:" + digest + b"\nabc"


def test_every_truncation_and_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_checked(path, b"older")
    write_checked(path, b"newer")
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [
        whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
        for at in range(len(whole))
        for bit in range(8)
    ]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(Corrupt):
            read_checked(path)
        found = read_checked_or_previous(path)
        assert found.payload == b"older"
        assert found.is_previous


def test_damaged_newest_does_not_push_out_the_good_previous(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_checked(path, b"one")
    write_checked(path, b"two")
    path.write_bytes(b"garbage")
    write_checked(path, b"three")
    assert read_checked(path) == b"three"
    assert read_checked(previous_path(path)) == b"one"


def test_nothing_at_all_is_told_from_nothing_good(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(NotFound):
        read_checked_or_previous(path)
    path.write_bytes(b"")
    with pytest.raises(Corrupt, match="copy before"):
        read_checked_or_previous(path)
    path.unlink()
    previous_path(path).write_bytes(b"torn")
    with pytest.raises(Corrupt):
        read_checked_or_previous(path)


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
        payload = read_checked_or_previous(path).payload
        assert payload in {str(number).encode() * 20_000 for number in range(acknowledged + 2)}
        assert int(payload[: len(payload) // 20_000]) >= acknowledged
        clean_temporaries(tmp_path)
        assert set(os.listdir(tmp_path)) <= {"state", "state.prev"}
