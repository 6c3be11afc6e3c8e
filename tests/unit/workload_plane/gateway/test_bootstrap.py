"""What is tried before a gateway may be started from it: a changed bootstrap, another program."""

from pathlib import Path

import pytest

from skerry.plumbing.clock import Clock
from tests.fakes.clock import FakeClock
from workload_plane.gateway import files
from workload_plane.gateway.bootstrap import BootstrapKeeper
from workload_plane.gateway.files import BOOTSTRAP, PROPOSED_BOOTSTRAP
from workload_plane.gateway.program import Programs

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
    world.programs = Programs(running=OLD, next=OLD)  # the operator took it back
    assert not await world.keeper.keep()
    assert world.keeper.fault == ""


@pytest.mark.parametrize(
    "programs", [Programs(), Programs(OLD, OLD), Programs(OLD, ""), Programs("", NEW)]
)
async def test_the_same_program_or_one_of_which_nothing_is_known_is_not_tried(
    tmp_path: Path, programs: Programs
) -> None:
    world = World(tmp_path)
    world.programs = programs
    assert not await world.keeper.keep()
    assert world.tried == []


async def test_a_changed_bootstrap_is_tried_first_and_by_the_program_that_would_be_started(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    files.write_bootstrap(tmp_path, {"node": "a"})
    assert files.write_bootstrap(tmp_path, {"node": "b"})
    assert [await world.keeper.keep() for _ in range(3)] == [True, True, False]
    assert world.tried == [PROPOSED_BOOTSTRAP, BOOTSTRAP]
