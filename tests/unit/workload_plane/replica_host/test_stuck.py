"""An engine is stuck once turns of its work take too long while it says that it is well."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from skerry.fleet.engine import EngineName, EngineSpec
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.replica_host.test_drain import LAUNCH, a_host
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import LaunchParameters
from workload_plane.replica_host.engine_client import EngineClient
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.stuck import until_stuck


class TurningEngine(EngineClient):
    """An engine whose turns end in time, or not, as the test says; in time when it says no more."""

    def __init__(self, turns: Iterable[bool]) -> None:
        super().__init__("", LAUNCH)
        self.told = list(turns)
        self.asked: list[float] = []

    async def turns(self, seconds_max: float) -> bool:
        self.asked.append(seconds_max)
        return self.told.pop(0) if self.told else True


def a_ready_host(directory: Path, engine: EngineClient, clock: FakeClock) -> ReplicaHost:
    host = a_host(directory, engine, clock)
    host.become(HostState.READY)
    return host


async def found(host: ReplicaHost, clock: FakeClock) -> float | None:
    """Return what is found within a minute of looks, None for nothing."""
    looking = asyncio.ensure_future(until_stuck(host))  # noqa: TID251
    await clock.run_for(60.0)
    if looking.done():
        return looking.result()
    looking.cancel()
    return None


async def test_a_turn_that_never_ends_is_found(tmp_path: Path) -> None:
    clock, engine = FakeClock(), TurningEngine([True, False, False])
    assert await found(a_ready_host(tmp_path, engine, clock), clock) == LAUNCH.turn_seconds_max


async def test_one_late_turn_is_not_the_end(tmp_path: Path) -> None:
    clock, engine = FakeClock(), TurningEngine([False, True, False, True])
    assert await found(a_ready_host(tmp_path, engine, clock), clock) is None
    assert len(engine.asked) > 4


async def test_an_engine_that_is_not_ready_is_not_asked(tmp_path: Path) -> None:
    clock, engine = FakeClock(), TurningEngine([False, False])
    assert await found(a_host(tmp_path, engine, clock), clock) is None
    assert engine.asked == []


def turn_seconds_max(name: EngineName, **options: str) -> float | None:
    pairs = tuple((key.replace("_", "-"), value) for key, value in options.items())
    parameters = LaunchParameters(
        model_path="m.gguf", served_name="m", host="127.0.0.1", http_port=1, config_dir=""
    )
    return render(EngineSpec(name=name, options=pairs), parameters).turn_seconds_max


def test_a_smaller_batch_makes_a_shorter_turn_and_no_other_engine_has_any() -> None:
    assert turn_seconds_max(EngineName.LLAMACPP) == 128.0
    assert turn_seconds_max(EngineName.LLAMACPP, batch_size="256") == 64.0
    assert turn_seconds_max(EngineName.LLAMACPP, batch_size="32") == 30.0
    assert turn_seconds_max(EngineName.SIMULATED) is None
    assert turn_seconds_max(EngineName.VLLM) is None
