"""Processes are found by what is written in their environment, wherever they went."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skerry.plumbing.process_marks import find_marked, left_behind
from skerry.plumbing.processes import ProcessRecord, is_alive, signal_process

pytestmark = pytest.mark.integration
KILL = 9

# Leaves a child in a session of its own that has closed every descriptor, and ends.
LEAVES_ONE = (
    "import subprocess,sys;"
    "print(subprocess.Popen(['sleep','300'],start_new_session=True,close_fds=True,"
    "stdin=subprocess.DEVNULL,stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL).pid)"
)


@contextmanager
def an_orphan(**marks: str) -> Iterator[int]:
    """Start a process whose parent is gone, and yield its pid."""
    command = [sys.executable, "-c", LEAVES_ONE]
    told = subprocess.run(command, env={**os.environ, **marks}, stdout=subprocess.PIPE, check=True)
    pid = int(told.stdout)
    try:
        yield pid
    finally:
        os.kill(pid, KILL)


def test_a_process_whose_parent_is_gone_is_found_by_its_mark(tmp_path: Path) -> None:
    mark = str(tmp_path)
    with an_orphan(SKERRY_TEST_MARK=mark) as pid:
        found = find_marked("SKERRY_TEST_MARK", lambda value: value.startswith(mark))
        assert [(record.pid, value) for record, value in found.items()] == [(pid, mark)]
        assert [record.pid for record in left_behind("SKERRY_TEST_MARK", [mark])[mark]] == [pid]


def test_neither_a_longer_name_nor_another_value_is_taken_for_the_mark(tmp_path: Path) -> None:
    mark = str(tmp_path)
    with (
        an_orphan(NOT_SKERRY_TEST_MARK=mark),
        an_orphan(SKERRY_TEST_MARK_TOO=mark),
        an_orphan(OTHER=f"SKERRY_TEST_MARK={mark}"),
        an_orphan(SKERRY_TEST_MARK=f"{mark}x"),
    ):
        assert left_behind("SKERRY_TEST_MARK", [mark]) == {}


def test_one_that_was_killed_is_found_no_more(tmp_path: Path) -> None:
    mark = str(tmp_path)
    child = subprocess.Popen(["sleep", "300"], env={"SKERRY_TEST_MARK": mark, **os.environ})
    ((record,),) = left_behind("SKERRY_TEST_MARK", [mark]).values()
    assert record.pid == child.pid
    child.kill()
    child.wait()
    assert left_behind("SKERRY_TEST_MARK", [mark]) == {}
    assert not signal_process(record, KILL)  # type: ignore[arg-type]


def test_nothing_is_searched_for_when_nothing_is_wanted() -> None:
    assert left_behind("SKERRY_TEST_MARK", []) == {}


def test_what_is_found_is_that_very_process(tmp_path: Path) -> None:
    with an_orphan(SKERRY_TEST_MARK=str(tmp_path)) as pid:
        ((record,),) = left_behind("SKERRY_TEST_MARK", [str(tmp_path)]).values()
        assert isinstance(record, ProcessRecord)
        assert record.pid == pid
        assert is_alive(record)
