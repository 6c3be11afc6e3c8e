"""What is tried before a gateway may be started from it: a changed bootstrap, another program."""

import os
import tempfile
from pathlib import Path

import pytest

from skerry.plumbing.clock import Clock
from tests.fakes.clock import FakeClock
from workload_plane.gateway import files, program, trial
from workload_plane.gateway.bootstrap import RETRY_SECONDS, BootstrapKeeper
from workload_plane.gateway.files import BOOTSTRAP, PROPOSED_BOOTSTRAP
from workload_plane.gateway.program import NextProgram, Programs

OLD, NEW = "commit/1.40.0/RELEASE", "commit/1.41.0/RELEASE"


class World:
    """A keeper, the programs that it hears of, and the verdict of its trials."""

    def __init__(self, folder: Path) -> None:
        self.programs = Programs(running=OLD, next=NEW)
        self.verdict = ""
        self.tried: list[str] = []
        self.keeper = BootstrapKeeper(folder, FakeClock(), self.ask, self.try_start)

    async def ask(self) -> Programs:
        return self.programs

    async def try_start(self, folder: Path, clock: Clock, bootstrap: str) -> str:
        self.tried.append(bootstrap)
        return self.verdict

    def told(self) -> tuple[str, bool]:
        """Return what speaks against a start, and whether one would be of another, tried Envoy."""
        return self.keeper.fault, self.keeper.has_tried_program


async def test_another_program_is_tried_once_with_the_files_in_force(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert [await world.keeper.keep() for _ in range(3)] == [True, False, False]
    assert (world.tried, world.keeper.fault) == ([BOOTSTRAP], "")
    world.programs = Programs(running=OLD, next="commit/1.42.0/RELEASE")
    assert await world.keeper.keep()
    assert world.tried == [BOOTSTRAP, BOOTSTRAP]


async def test_a_program_that_would_not_serve_is_told_until_it_would_or_is_gone(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.verdict = "it ended at once"
    assert [await world.keeper.keep() for _ in range(2)] == [True, True]
    assert world.keeper.fault == "it ended at once"
    world.verdict = ""
    assert await world.keeper.keep()
    assert world.keeper.fault == ""
    world.programs, world.verdict = Programs(running=OLD, next="other"), "it ended at once"
    assert await world.keeper.keep()
    world.programs = Programs(running=OLD, next=NEW)  # the operator took it back
    assert not await world.keeper.keep()
    assert world.keeper.fault == ""
    world.programs = Programs(running=OLD, next="other")
    assert await world.keeper.keep()
    world.programs = Programs(running=OLD, next=OLD)
    assert not await world.keeper.keep()
    assert world.keeper.fault == ""


@pytest.mark.parametrize("programs", [Programs(), Programs(OLD, OLD), Programs("", NEW)])
async def test_the_same_program_is_not_tried_nor_any_while_it_is_not_known_which_one_runs(
    tmp_path: Path, programs: Programs
) -> None:
    world = World(tmp_path)
    world.programs = programs
    assert not await world.keeper.keep()
    assert world.tried == []
    assert not world.keeper.has_tried_program


async def test_a_program_that_cannot_name_its_version_is_tried_and_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.programs, world.verdict = Programs(running=OLD, next=""), "no program 'envoy'"
    assert await world.keeper.keep()
    assert world.keeper.fault == "no program 'envoy'"
    world.verdict = ""
    assert [await world.keeper.keep() for _ in range(2)] == [True, False]
    assert world.keeper.fault == ""
    assert not world.keeper.has_tried_program, "it may be the one that runs"


async def test_a_silent_admin_page_neither_mends_a_fault_nor_undoes_a_trial(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    both = world.programs
    world.verdict = "it ended at once"
    assert await world.keeper.keep()
    world.programs = Programs(running="", next=NEW)
    assert not await world.keeper.keep()
    assert world.keeper.fault == "it ended at once"
    world.programs, world.verdict = both, ""
    assert await world.keeper.keep()
    world.programs = Programs(running="", next=NEW)
    assert not await world.keeper.keep()
    world.programs = both
    assert not await world.keeper.keep(), "it was tried"
    assert world.keeper.has_tried_program


async def test_a_refused_bootstrap_that_was_withdrawn_is_no_fault_any_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    files.write_bootstrap(tmp_path, {"node": "a"})
    assert await world.keeper.keep()
    assert world.told() == ("", True)
    world.verdict = "unknown field"
    assert files.write_bootstrap(tmp_path, {"node": "b"})
    assert await world.keeper.keep()
    assert world.told() == ("unknown field", False), "no Envoy should be started now"
    (tmp_path / PROPOSED_BOOTSTRAP).unlink()
    assert not await world.keeper.keep()
    assert world.told() == ("", True)


async def test_a_changed_bootstrap_is_tried_first_and_by_the_program_that_would_be_started(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    files.write_bootstrap(tmp_path, {"node": "a"})
    assert files.write_bootstrap(tmp_path, {"node": "b"})
    assert [await world.keeper.keep() for _ in range(3)] == [True, True, False]
    assert world.tried == [PROPOSED_BOOTSTRAP, BOOTSTRAP]


async def test_a_program_that_does_not_say_its_version_is_asked_again_when_replaced_or_in_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    envoy, said, asked = tmp_path / "envoy", "", 0
    monkeypatch.setattr(program, "version_argv", lambda: [str(envoy), "--version"])

    async def ask_version() -> str:
        nonlocal asked
        asked += 1
        return said

    following = NextProgram(ask_version)

    async def asked_at(now: float) -> int:
        """Return how often it was asked by then."""
        assert await following.version(now) == said
        return asked

    times = (10.0, 12.0, 68.0, 10.0 + RETRY_SECONDS, 72.0)
    assert [await asked_at(now) for now in times] == [1, 1, 1, 2, 2], "there is none"
    envoy.touch()
    assert [await asked_at(now) for now in (74.0, 76.0)] == [3, 3], "a broken one"
    said = NEW
    (tmp_path / "fresh").touch()
    (tmp_path / "fresh").rename(envoy)
    assert [await asked_at(now) for now in (78.0, 80.0, 1_000.0)] == [4, 4, 4]


async def test_a_trial_removes_what_trials_that_were_killed_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    clock = FakeClock()
    ages = {"skerry-trial-old": 86_400.0, "skerry-trial-young": 10.0, "others": 86_400.0}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "envoy.log").touch()
        changed = clock.now().timestamp() - age
        os.utime(tmp_path / name, (changed, changed))
    assert "nothing was published" in await trial.try_start(tmp_path / "gateway", clock)
    assert set(os.listdir(tmp_path)) == {"skerry-trial-young", "others"}
