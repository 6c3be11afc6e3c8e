"""A drain ends when nothing is under way, and what is not known is not nothing."""

import asyncio
from pathlib import Path

from skerry.fleet.engine import EngineName, EngineSpec
from tests.fakes.clock import FakeClock
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import EngineLaunch, LaunchParameters
from workload_plane.replica_host.engine_client import EngineClient
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.load import UNKNOWN_LOAD, EngineLoad
from workload_plane.replica_host.spec import ReplicaSpec
from workload_plane.replica_host.state import read_record

ENGINE = EngineSpec(name=EngineName.LLAMACPP)
LAUNCH = render(
    ENGINE,
    LaunchParameters(
        model_path="m.gguf", served_name="m", host="127.0.0.1", http_port=1, config_dir=""
    ),
)


class TellingEngine(EngineClient):
    """An engine that tells what the test says."""

    def __init__(self, launch: EngineLaunch, told: EngineLoad) -> None:
        super().__init__("", launch)
        self.told = told

    async def load(self) -> EngineLoad:
        return self.told

    async def probe(self) -> bool:
        return True


def a_host(directory: Path, engine: EngineClient, clock: FakeClock) -> ReplicaHost:
    spec = ReplicaSpec(
        name="demo-1",
        deployment="demo",
        revision=1,
        plane="onprem-fra",
        pool="onprem-fra--cpu",
        engine=ENGINE,
        model_path="m.gguf",
        served_name="m",
        http_port=1,
        grpc_port=2,
        health_port=3,
        config_dir=directory,
        log_dir=directory,
        state_file=directory / "state.json",
    )
    return ReplicaHost(spec, LAUNCH, engine, clock)


async def test_an_engine_that_does_not_tell_its_load_is_waited_for(tmp_path: Path) -> None:
    clock, engine = FakeClock(), TellingEngine(LAUNCH, UNKNOWN_LOAD)
    host = a_host(tmp_path, engine, clock)
    host.become(HostState.READY)
    host.become(HostState.DRAINING)
    async with asyncio.TaskGroup() as group:
        drained = group.create_task(host.wait_drained())
        for told in (UNKNOWN_LOAD, EngineLoad(queued_requests=1), UNKNOWN_LOAD):
            engine.told = told
            await clock.run_for(5.0)
            assert not drained.done()
        engine.told = EngineLoad(running_requests=0, queued_requests=0)
        await clock.run_for(1.0)
        assert drained.done()


async def test_an_engine_that_still_loads_is_not_waited_for(tmp_path: Path) -> None:
    host = a_host(tmp_path, TellingEngine(LAUNCH, UNKNOWN_LOAD), FakeClock())
    host.become(HostState.DRAINING)
    async with asyncio.timeout(5.0):
        await host.wait_drained()


async def test_a_full_disk_ends_no_replica_and_its_state_is_written_later(tmp_path: Path) -> None:
    host = a_host(tmp_path / "gone", TellingEngine(LAUNCH, UNKNOWN_LOAD), FakeClock())
    told: list[HostState] = []
    host.on_change(lambda health: told.append(health.state))
    host.become(HostState.READY)
    assert told == [HostState.READY]
    (tmp_path / "gone").mkdir()
    async with asyncio.TaskGroup() as group:
        probing = group.create_task(host.probe_until_too_late())
        await asyncio.sleep(0)  # noqa: TID251 (one probe)
        await asyncio.sleep(0)  # noqa: TID251
        probing.cancel()
    assert read_record(host.spec.state_file).state is HostState.READY
