"""A disk that hangs keeps what is started from it, and neither fencing nor what is written down."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.fleet.deployment import BaseModel, Deployment
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.engine import EngineName, EngineSpec, Quantisation
from skerry.fleet.placement import Envelope
from skerry.plumbing.clock import SystemClock
from tests.unit.workload_plane.converge.test_loop import World
from tests.unit.workload_plane.converge.test_plan import POOL, a_deployment, wants
from workload_plane.models import local_checks

STARTS = 20  # more than the threads that an agent on two cores shares


def _from_the_disk(name: str) -> Deployment:
    simulated = a_deployment(name)
    engine = EngineSpec(name=EngineName.LLAMACPP, quantisation=Quantisation(weights="q8_0"))
    model = BaseModel(uri=f"builtin://{name}", served_name=name)
    return replace(simulated, revision=replace(simulated.revision, engine=engine, base_model=model))


def _with_starts_from_the_disk(state: DesiredState) -> DesiredState:
    stuck = tuple(
        Assignment(
            deployment=_from_the_disk(f"stuck{i}"),
            envelopes=(Envelope(deployment=f"stuck{i}", pool=POOL, floor=0, target=1, ceiling=1),),
        )
        for i in range(STARTS)
    )
    return replace(state, assignments=(*state.assignments, *stuck))


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    go_on = threading.Event()

    def hang(path: Path) -> str:
        assert go_on.wait(60)
        return "q8_0"

    monkeypatch.setattr(local_checks, "held_weights", hang)
    yield go_on
    go_on.set()


async def test_a_disk_that_hangs_keeps_its_starts_and_nothing_else(
    tmp_path: Path, hanging: threading.Event
) -> None:
    for i in range(STARTS):
        (tmp_path / f"stuck{i}.gguf").write_bytes(b"GGUF")
    world = World(model_dir=tmp_path)
    with contextlib.closing(world.checks):
        world.desired.state = wants(1)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(world.loop.run())
            await world.run_for(3)
            (name,) = world.runtime.records
            world.desired.state = _with_starts_from_the_disk(wants(1))
            await world.run_for(15)
            assert list(world.runtime.records) == [name]
            assert "does not answer" in world.loop.awaiting[0].message
            # What hangs is fenced, and whatever asks for a thread of everybody's has one.
            world.probe.hung.add(name)
            await world.run_for(8)
            assert f"kill {name}" in world.runtime.log
            async with asyncio.timeout(10):
                await asyncio.gather(*(asyncio.to_thread(int) for _ in range(4)))
            hanging.set()
            async with asyncio.timeout(20):
                while len(world.ready()) < 1 + min(STARTS, 7):  # of a pool of eight
                    await SystemClock().sleep(0.01)
                    await world.run_for(0.5)
            task.cancel()
