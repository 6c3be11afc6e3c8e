"""A whole fleet of `skerry up` scales under a step of load while its control plane is killed."""

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from skerry.cli.down import stop_directory
from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.preparation import Choices
from skerry.cli.supervisor.processes_file import read_living_processes
from skerry.cli.supervisor.readiness import until_ready
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.up import start_fleet
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision, Scaling
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import signal_process
from tests.integration.open_loop import OpenLoop
from workload_plane.replicas.records import read_records

pytestmark = pytest.mark.slow
CLOCK = SystemClock()
CEILING = 4
# Three rounds of the loop and two starts, on cores that others share.
SECONDS_MAX = 90.0


class Fleet:
    """One plane with its control plane."""

    def __init__(self, directory: DataDirectory, layout: Layout, session: aiohttp.ClientSession):
        """Look at a fleet that serves."""
        self.directory = directory
        (self.plane,) = layout.planes
        self.load = OpenLoop(f"127.0.0.1:{self.plane.ports.public}", "demo", session, CLOCK)

    @property
    def ready(self) -> int:
        """Return how many replicas are READY."""
        records = read_records(self.directory.plane(self.plane.name) / "replicas")
        return sum(one.state is ReplicaState.READY for one in records)

    @property
    def is_led(self) -> bool:
        """Say whether the control plane lives."""
        key = PartKey(role=Role.CONTROL_PLANE, plane="")
        return key in read_living_processes(self.directory.processes)

    def kill_control_plane(self) -> None:
        """End it with SIGKILL; its supervisor does not start it again."""
        living = read_living_processes(self.directory.processes)
        signal_process(living[PartKey(role=Role.CONTROL_PLANE, plane="")], signal.SIGKILL)


def a_deployment() -> Deployment:
    """Return one replica to four, of four slots each; an answer takes a second."""
    options = {"tpot-seconds": "0.02", "tpot-seconds-per-request": "0", "jitter": "0"}
    return Deployment(
        name="demo",
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="simulated://tiny", served_name="demo"),
            engine=EngineSpec(
                name=EngineName.SIMULATED, concurrent_requests=4, options=tuple(options.items())
            ),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
        scaling=Scaling(
            min_replicas=1,
            max_replicas=CEILING,
            window_seconds=10.0,
            scale_down_delay_seconds=15.0,
        ),
    )


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet with one READY replica of `demo`."""
    directory = DataDirectory(tmp_path)
    layout, supervisor = await start_fleet(
        directory, 1, "simulated", restart_control_plane=False, choices=Choices(keys=False)
    )
    context = fleet_context(directory, layout)
    try:
        async with (
            AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as operator,
            aiohttp.ClientSession() as session,
        ):
            async for _ in until_ready(directory, layout, supervisor, operator, CLOCK):
                pass
            await operator.apply(a_deployment())
            found = Fleet(directory, layout, session)
            await until(lambda: found.ready == 1)
            yield found
    finally:
        await stop_directory(directory, CLOCK)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = CLOCK.monotonic() + SECONDS_MAX
    while not holds():
        assert CLOCK.monotonic() < deadline, "waited in vain"
        await CLOCK.sleep(0.1)


async def test_a_step_of_load_and_its_end_without_a_control_plane_fail_nobody(
    fleet: Fleet,
) -> None:
    load = fleet.load
    await load.send(2.0, lambda: load.answers and not load.answers[-1], SECONDS_MAX)
    load.answers.clear()  # until the gateway knew its replica
    await load.send(6.0, lambda: fleet.ready >= 2, SECONDS_MAX)
    fleet.kill_control_plane()
    await load.send(12.0, lambda: fleet.ready == CEILING, SECONDS_MAX)
    assert not fleet.is_led
    await until(lambda: fleet.ready == 1)
    assert load.failed == []
    assert len(load.answers) > 30
