"""Prefixes on disk with real processes: where an engine writes, and what is left when it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.engine import PrefixCaching
from skerry.plumbing.errors import Conflict
from skerry.plumbing.processes import (
    is_alive,
    kill_group,
    signal_process,
    terminate,
    wait_until_gone,
)
from tests.integration.openengine_engine import a_passed_through_engine, put_on_path
from tests.integration.replica_process import (
    CLOCK,
    a_spec,
    running_replica,
    until,
)
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.marks import environment_of
from workload_plane.replica_host.prefix_disk import sweep_prefixes, take_place
from workload_plane.replica_host.spec import ReplicaSpec
from workload_plane.replicas.local import LocalPlace, LocalRuntime

pytestmark = pytest.mark.integration

MIB = 1024**2
# Lives until it is told to end, with what it inherits.
HOLDER = (sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()")


@pytest.fixture(autouse=True)
def engine_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin"))


def with_disk(tmp_path: Path, name: str, disk_bytes: int = 8 * MIB, **more: Any) -> ReplicaSpec:
    root = tmp_path / "prefixes"
    caching = PrefixCaching(disk_path=str(root), disk_bytes=disk_bytes)
    return a_spec(
        tmp_path / name,
        a_passed_through_engine(caching),
        name=name,
        prefix_disk_dir=root,
        **more,
    )


def blocks_of(tmp_path: Path) -> dict[str, int]:
    """Return how many blocks each replica has on disk."""
    return {
        path.name: len(list((path / "blocks").iterdir()))
        for path in (tmp_path / "prefixes").glob("*")
    }


async def test_each_replica_writes_below_its_own_name_and_leaves_nothing(tmp_path: Path) -> None:
    async with running_replica(with_disk(tmp_path, "one")) as first:
        async with running_replica(with_disk(tmp_path, "two")):
            assert blocks_of(tmp_path) == {"one.prefixes": 1, "two.prefixes": 1}
        assert blocks_of(tmp_path) == {"one.prefixes": 1}
        engine = first.record().engine
        assert engine is not None
        signal_process(engine, signal.SIGKILL)
        await until(lambda: first.record().restarts == 1)
        await until(lambda: first.record().state is HostState.READY)
        # The next engine began with nothing, and wrote its own block.
        assert blocks_of(tmp_path) == {"one.prefixes": 1}
    assert blocks_of(tmp_path) == {}


async def test_an_agent_sweeps_what_a_killed_host_left_and_nothing_of_one_that_runs(
    tmp_path: Path,
) -> None:
    place = LocalPlace(
        plane="onprem-fra",
        replicas_dir=tmp_path / "replicas",
        logs_dir=tmp_path / "logs",
        prefix_disk_dir=tmp_path / "prefixes",
    )
    async with running_replica(with_disk(tmp_path, "one")):
        async with running_replica(with_disk(tmp_path, "two")) as killed:
            engine = killed.record().engine
            assert engine is not None
            signal_process(killed.process, signal.SIGKILL)
            await wait_until_gone(killed.process)
            await until(lambda: not is_alive(engine), 10)
        assert blocks_of(tmp_path) == {"one.prefixes": 1, "two.prefixes": 1}
        await until(lambda: bool(LocalRuntime(place, CLOCK)) and len(blocks_of(tmp_path)) == 1, 10)
        assert blocks_of(tmp_path) == {"one.prefixes": 1}
        kill_group(engine)


async def test_a_replica_without_room_for_its_prefixes_fails_and_says_so(tmp_path: Path) -> None:
    spec = with_disk(tmp_path, "one", disk_bytes=2**60)
    async with running_replica(spec, state=HostState.FAILED) as failed:
        assert "too little room for prefixes on disk" in failed.record().message
        await terminate(failed.process, CLOCK, 5.0)
    assert blocks_of(tmp_path) == {}


def test_an_engine_that_outlives_its_host_keeps_its_directory_and_no_longer(
    tmp_path: Path,
) -> None:
    root = tmp_path / "prefixes"
    place = take_place(with_disk(tmp_path, "one"))
    assert place is not None
    with subprocess.Popen(
        HOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(place.lock,)
    ) as engine:
        assert engine.stdout is not None
        engine.stdout.readline()
        os.close(place.lock)  # as the kernel does when the host is killed
        assert sweep_prefixes(root) == 0
        assert place.blocks.is_dir()
        with pytest.raises(Conflict, match="left behind"):
            take_place(with_disk(tmp_path, "one"))
        engine.communicate()
    assert sweep_prefixes(root) == 1
    assert list(root.iterdir()) == []


def test_what_closed_the_lock_that_it_inherited_keeps_the_directory_as_well(tmp_path: Path) -> None:
    spec = with_disk(tmp_path, "one")
    place = take_place(spec)
    assert place is not None
    marked = {**os.environ, **environment_of(spec)}
    with subprocess.Popen(HOLDER, stdin=subprocess.PIPE, env=marked) as engine:
        os.close(place.lock)
        assert sweep_prefixes(tmp_path / "prefixes") == 0
        assert place.blocks.is_dir()
        engine.communicate()
    assert sweep_prefixes(tmp_path / "prefixes") == 1
