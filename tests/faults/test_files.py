"""Files of a plane swapped under load, and damaged: torn, empty, truncated, altered, gone."""

import asyncio

import pytest

from skerry.cli.supervisor.restarts import Role
from tests.faults.damage import damage, gateway_files
from tests.faults.fleet import CLOCK, FaultFleet
from tests.faults.load import Load, Through, under_load
from tests.faults.promises import NONE_BROKEN, nothing_noticed, ready
from tests.faults.record import Scenario, record
from tests.faults.swaps import swap
from workload_plane.gateway.files import published_versions
from workload_plane.gateway.status import unconfirmed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.faults_full,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]

SWAPS = 200


async def test_two_hundred_swaps_of_the_gateways_files_lose_nothing(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=30,
        text=f"{SWAPS} swaps of endpoints, clusters, routes and listeners",
        promise=NONE_BROKEN,
    )
    await ready(fleet)
    folder = fleet.plane_directory(fleet.home) / "gateway"
    seconds, written = 0.0, 0

    async def are_taken_up() -> bool:
        status = await fleet.status(fleet.home)
        return status is not None and not unconfirmed(status, published_versions(folder))

    async def fault(load: Load) -> None:
        nonlocal seconds, written
        fleet.stop(fleet.part(fleet.home, Role.AGENT))
        written = await asyncio.to_thread(swap, folder, SWAPS)
        seconds = load.since_fault()
        await fleet.until("the last versions are taken up", are_taken_up)
        fleet.go_on()

    found = await under_load(fleet, fault, seconds=60)
    record(scenario, found, fleet, swaps=written, swapping_seconds=seconds)
    assert written == SWAPS
    nothing_noticed(found)


async def test_a_running_gateway_takes_no_damaged_file(shared_fleet: FaultFleet) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=31,
        text="every file of the gateway torn, empty, truncated or altered while Envoy runs",
        promise=NONE_BROKEN,
    )
    await ready(fleet)
    folder, count = fleet.plane_directory(fleet.home) / "gateway", 0

    async def fault(load: Load) -> None:
        nonlocal count
        count = damage(gateway_files(folder))
        await CLOCK.sleep(4.0)

    found = await under_load(fleet, fault, seconds=10)
    record(scenario, found, fleet, files=count)
    nothing_noticed(found)


async def test_a_gateway_starts_from_damaged_files(shared_fleet: FaultFleet) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=32,
        text="every file of the gateway damaged likewise, then Envoy killed",
        promise=NONE_BROKEN,
        through=Through.CLIENT,
    )
    await ready(fleet)
    folder, back = fleet.plane_directory(fleet.home) / "gateway", 0.0

    async def fault(load: Load) -> None:
        nonlocal back
        damage(gateway_files(folder))
        fleet.kill([fleet.part(fleet.home, Role.GATEWAY)])
        await fleet.until("the gateway is back", fleet.home_answers)
        back = load.since_fault()

    found = await under_load(fleet, fault, seconds=30, through=Through.CLIENT)
    record(scenario, found, fleet, gateway_back_seconds=back)
    nothing_noticed(found)


async def test_the_agents_and_the_pickers_files_are_damaged_and_both_start_anew(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=33,
        text="desired state, endpoints.json and picker.json damaged, then agent and picker killed",
        promise=f"{NONE_BROKEN}; no replica is started again",
    )
    await ready(fleet)
    home = fleet.plane_directory(fleet.home)
    engines = {one.name: one.engine_pid for one in fleet.replicas(fleet.home)}

    async def fault(load: Load) -> None:
        damage((home / "desired" / "desired.skerry", home / "endpoints.json", home / "picker.json"))
        fleet.kill([fleet.part(fleet.home, role) for role in (Role.AGENT, Role.PICKER)])
        await CLOCK.sleep(6.0)

    found = await under_load(fleet, fault, seconds=10)
    record(scenario, found, fleet)
    nothing_noticed(found)
    await fleet.mend()
    assert engines == {one.name: one.engine_pid for one in fleet.replicas(fleet.home)}
    # The copy before the newest is in force now, with what was routed then.
    await fleet.with_control_plane()
    await fleet.route(continuation=True)


async def test_an_agent_that_finds_no_record_of_its_replicas_takes_none_out(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=34,
        text="the records of all replicas gone (a shrunken view), then the agent killed",
        promise=NONE_BROKEN,
    )
    await ready(fleet)
    records = fleet.plane_directory(fleet.home) / "replicas"

    async def fault(load: Load) -> None:
        for path in records.glob("*.json"):
            path.unlink()
        fleet.kill([fleet.part(fleet.home, Role.AGENT)])
        await CLOCK.sleep(8.0)

    found = await under_load(fleet, fault, seconds=12)
    record(scenario, found, fleet)
    nothing_noticed(found)
