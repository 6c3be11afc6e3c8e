"""Planes of real processes that end as a whole: first their replicas, or each with a new revision.

The supervisor is stopped meanwhile: nothing of a dead machine is started again.
"""

import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.cli.down import stop_directory
from skerry.cli.supervisor.fleet_file import read_fleet
from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.preparation import Choices
from skerry.cli.supervisor.processes_file import read_living_processes
from skerry.cli.supervisor.readiness import until_ready
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.up import start_fleet
from skerry.client.async_operator import AsyncOperatorClient
from skerry.client.rollouts import RolloutRow
from skerry.client.rows import ReplicaRow
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
    Spread,
)
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import PlaneState, ReplicaState
from skerry.fleet.rollout import RolloutPolicy
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord, is_alive, record_of, signal_process
from workload_plane.replicas.records import read_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
CLOCK = SystemClock()
LOOK_SECONDS = 0.1
WAIT_SECONDS_MAX = 90.0  # 20 are promised for a loss, on cores of one's own
SOAK_SECONDS = 5.0


def a_deployment(replicas: int, planes_min: int) -> Deployment:
    """Return so many replicas, on so many planes at least."""
    return Deployment(
        name="chat",
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="simulated://tiny", served_name="chat"),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
        scaling=Scaling(min_replicas=replicas, max_replicas=replicas),
        policy=PlacementPolicy(spread=Spread(domain=FailureDomain.PLANE, domains_min=planes_min)),
        rollout=RolloutPolicy(soak_seconds=SOAK_SECONDS),
    )


class Fleet:
    """A fleet of `skerry up`, of which planes are killed for good."""

    def __init__(self, directory: DataDirectory, operator: AsyncOperatorClient) -> None:
        self._directory = directory
        self.operator = operator
        self._killed: set[str] = set()
        self.supervisor: ProcessRecord = record_of(read_fleet(directory.fleet)["supervisor_pid"])

    def leave_alone(self) -> None:
        """Have nobody start again what dies."""
        signal_process(self.supervisor, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have the supervisor go on, to end the fleet."""
        if is_alive(self.supervisor):
            signal_process(self.supervisor, signal.SIGCONT)

    def kill_replicas(self, plane: str) -> None:
        """End all replicas of a plane with SIGKILL, hosts and engines."""
        for record in read_records(self._directory.plane(plane) / "replicas"):
            for process in (record.host_process, record.engine_process):
                if process is not None:
                    signal_process(process, signal.SIGKILL)

    def kill(self, plane: str) -> None:
        """End a plane as a machine's death does: who would start others again first."""
        self._killed.add(plane)
        living = read_living_processes(self._directory.processes)
        parts = [record for key, record in living.items() if key.plane == plane]
        for part in sorted(parts, key=lambda record: record.name):  # the agent is the first
            signal_process(part, signal.SIGKILL)
        self.kill_replicas(plane)

    def ready_on_disk(self, plane: str) -> int:
        """Return how many replicas of a plane its agent takes for READY."""
        records = read_records(self._directory.plane(plane) / "replicas")
        return sum(one.state is ReplicaState.READY for one in records)

    async def planes(self) -> dict[str, PlaneState]:
        """Return the state of each plane."""
        return {row.name: row.state for row in await self.operator.list_planes()}

    async def replicas(self, revision: int) -> list[ReplicaRow]:
        """Return the replicas of a revision that planes told of last, also those killed since."""
        told = await self.operator.list_replicas()
        return [row for row in told if row.observed.revision == revision]

    async def ready(self) -> Counter[str]:
        """Return how many replicas of the first revision are READY, by plane that lives."""
        rows = [row for row in await self.replicas(1) if row.plane not in self._killed]
        return Counter(row.plane for row in rows if row.observed.state is ReplicaState.READY)

    async def reached(self, revision: int) -> set[str]:
        """Return the planes that have a replica of a revision."""
        return {row.plane for row in await self.replicas(revision)}

    async def rollout(self) -> RolloutRow:
        """Return the rollout of `chat`."""
        return await self.operator.get_rollout("chat")


async def until(what: str, look: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    end = CLOCK.monotonic() + WAIT_SECONDS_MAX
    while not await look():
        assert CLOCK.monotonic() < end, f"not within {WAIT_SECONDS_MAX:g} s: {what}"
        await CLOCK.sleep(LOOK_SECONDS)


@asynccontextmanager
async def a_fleet(root: Path, planes: int, deployment: Deployment) -> AsyncIterator[Fleet]:
    """Yield a fleet that serves the deployment; nothing of it is left at the end."""
    directory = DataDirectory(root)
    layout, supervisor = await start_fleet(
        directory, planes, "simulated", restart_control_plane=False, choices=Choices(keys=False)
    )
    context = fleet_context(directory, layout)
    try:
        async with AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as operator:
            async for _ in until_ready(directory, layout, supervisor, operator, CLOCK):
                pass
            await operator.apply(deployment)
            fleet = Fleet(directory, operator)
            wanted = deployment.scaling.min_replicas

            async def serves() -> bool:
                return (await fleet.ready()).total() == wanted

            await until("all serve", serves)
            try:
                yield fleet
            finally:
                fleet.go_on()
    finally:
        await stop_directory(directory, CLOCK)


async def test_a_plane_that_loses_its_replicas_first_and_its_machine_later_is_replaced(
    tmp_path: Path,
) -> None:
    async with a_fleet(tmp_path, 3, a_deployment(3, 2)) as fleet:
        ((victim, _),) = (await fleet.ready()).most_common(1)
        fleet.leave_alone()
        fleet.kill_replicas(victim)

        async def is_known() -> bool:
            return fleet.ready_on_disk(victim) == 0

        await until("its agent knows", is_known)
        fleet.kill(victim)

        async def is_lost() -> bool:
            return (await fleet.planes())[victim] is PlaneState.LOST

        await until("it is lost", is_lost)

        async def is_replaced() -> bool:
            ready = await fleet.ready()
            return ready.total() == 3

        await until("others serve in its place", is_replaced)


async def test_a_revision_under_which_two_planes_go_down_reaches_no_third(tmp_path: Path) -> None:
    first = a_deployment(5, 4)
    async with a_fleet(tmp_path, 5, first) as fleet:
        fleet.leave_alone()
        newer = replace(first.revision.engine, context_tokens=1024)
        await fleet.operator.apply(replace(first, revision=replace(first.revision, engine=newer)))
        fallen: set[str] = set()

        async def is_next_told() -> bool:
            return not await fleet.reached(2) <= fallen

        while len(fallen) < 2:
            await until("the next plane is told the revision", is_next_told)
            reached = await fleet.reached(2) - fallen
            for plane in reached:
                fleet.kill(plane)
            fallen |= reached

        async def is_halted() -> bool:
            return "went down with revision 2" in (await fleet.rollout()).reason

        await until("it is halted", is_halted)
        assert len(fallen) == 2
        assert await fleet.reached(2) <= fallen
        told = await fleet.rollout()
        assert all(plane in told.reason for plane in fallen), told.reason
