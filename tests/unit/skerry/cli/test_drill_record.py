"""The record of an unfinished drill: read as written, and refused when damaged."""

import os
from pathlib import Path

import pytest

from skerry.cli.drills.runner import check_ours
from skerry.cli.drills.unfinished import (
    Unfinished,
    is_under_way,
    put_back,
    read_unfinished,
    record_path,
    write_unfinished,
)
from skerry.cli.main import run
from skerry.cli.supervisor.layout import DataDirectory
from skerry.plumbing.errors import Corrupt, NotFound
from skerry.plumbing.processes import ProcessRecord, record_of


def a_record(**fields: int) -> ProcessRecord:
    mine = record_of(os.getpid())
    return ProcessRecord(
        pid=fields.get("pid", mine.pid),
        start_time=fields.get("start_time", mine.start_time),
        name=mine.name,
        boot_id=mine.boot_id,
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    assert read_unfinished(directory) is None
    unfinished = Unfinished(
        drill="plane-killed", runner=a_record(), paused=(a_record(),), to_start=("a", "b")
    )
    write_unfinished(directory, unfinished)
    assert read_unfinished(directory) == unfinished
    assert is_under_way(unfinished)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "drill": "x"}'])
def test_a_damaged_record_says_what_to_do_by_hand(tmp_path: Path, text: str) -> None:
    record_path(DataDirectory(tmp_path)).write_text(text, encoding="utf-8")
    with pytest.raises(Corrupt, match="kill -CONT PID"):
        read_unfinished(DataDirectory(tmp_path))


async def test_what_is_gone_by_itself_is_not_put_back(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    gone = a_record(start_time=1)
    unfinished = Unfinished(drill="leader-paused", runner=gone, paused=(gone,))
    write_unfinished(directory, unfinished)
    assert not is_under_way(unfinished)
    assert await put_back(directory, unfinished) == ()
    assert read_unfinished(directory) is None


def test_drills_are_listed_without_a_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drill", "list"]) == 0
    assert "plane-partitioned" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("run", "plane-killed"), ("undo",), ("run", "plane-killed", "--seconds", "0")]
)
def test_a_folder_without_a_fleet_is_a_fault_of_the_command(
    tmp_path: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["drill", *arguments, "--data-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_process_that_is_not_of_the_fleet_is_not_hurt(tmp_path: Path) -> None:
    stranger = record_of(os.getpid())
    with pytest.raises(NotFound, match="none of this fleet"):
        check_ours((stranger,), tmp_path / "fleet")
    program = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0]
    own = Path(os.fsdecode(program)).parent
    check_ours((stranger,), own)
