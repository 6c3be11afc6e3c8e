"""What is taken out of service in order, under load: nothing is lost, not even a stream.

Moving a replica and draining a plane are the control plane's; it runs here.
"""

import signal

import pytest

from skerry.cli.supervisor.restarts import Role
from skerry.client.operations import Move
from skerry.plumbing.processes import signal_process
from tests.faults.fleet import CLOCK, DEPLOYMENT, FaultFleet
from tests.faults.load import Load, Through, under_load
from tests.faults.promises import NONE_BROKEN, nothing_noticed, ready
from tests.faults.record import Scenario, record
from workload_plane.gateway.draining import Drained, drain_gateway

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.faults_full,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]

# New replicas start first; what is asked for meanwhile is asked for under load.
PLACED_SECONDS_MAX = 90.0


async def test_a_replica_that_moves_away_loses_nothing(shared_fleet: FaultFleet) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=20,
        text="a replica moved to another plane: another starts there, then it drains and ends",
        promise=NONE_BROKEN,
        control_plane=True,
    )
    await ready(fleet, continuation=False)
    await fleet.with_control_plane()
    home, peer = fleet.home, await fleet.nearest_peer()
    moved = Move(deployment=DEPLOYMENT, from_pool=f"{home}--cpu", to_pool=f"{peer}--cpu")

    async def has_moved() -> bool:
        return len(fleet.replicas(home)) == 1 and len(fleet.replicas(peer)) == 2

    async def fault(load: Load) -> None:
        await fleet.operator.move_replica(moved)
        await fleet.until("the replica has moved", has_moved)

    found = await under_load(fleet, fault, seconds=PLACED_SECONDS_MAX)
    await fleet.settle()
    record(scenario, found, fleet)
    nothing_noticed(found)


async def test_a_plane_that_is_drained_loses_nothing(shared_fleet: FaultFleet) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=21,
        text="a plane drained: its replicas start elsewhere, then end here; its gateway goes on",
        promise=NONE_BROKEN,
        control_plane=True,
    )
    await ready(fleet, continuation=False)
    await fleet.with_control_plane()
    part = f"planes/{fleet.home}"

    async def fault(load: Load) -> None:
        async for _ in fleet.operator.drain(part):
            pass

    try:
        found = await under_load(fleet, fault, seconds=PLACED_SECONDS_MAX)
    finally:
        await fleet.operator.cordon(part, cordoned=False)
    await fleet.settle()
    record(scenario, found, fleet)
    nothing_noticed(found)


async def test_a_gateway_that_is_drained_loses_nothing(shared_fleet: FaultFleet) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=22,
        text="a gateway drained, ended with SIGTERM and started again",
        promise=NONE_BROKEN,
        through=Through.CLIENT,
    )
    await ready(fleet)
    drained = Drained(answered=False, left=-1)

    async def fault(load: Load) -> None:
        nonlocal drained
        port = fleet.layout.plane(fleet.home).ports.admin
        drained = await drain_gateway(port, CLOCK)
        signal_process(fleet.part(fleet.home, Role.GATEWAY), signal.SIGTERM)
        await fleet.until("the gateway is back", fleet.home_answers)

    found = await under_load(fleet, fault, seconds=60, through=Through.CLIENT)
    record(scenario, found, fleet)
    assert drained == Drained(answered=True, left=0)
    nothing_noticed(found)
