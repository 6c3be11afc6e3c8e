"""A full disk under the control plane, or under an agent: what is decided may wait, users may not.

The disks are small file systems of their own, filled to the last byte.
"""

import contextlib

import pytest

from skerry.plumbing.errors import SkerryError
from tests.faults.fleet import CLOCK, a_deployment
from tests.faults.load import Load, under_load
from tests.faults.network import fill
from tests.faults.network_fleet import SMALL_DISK_PLANE, NetworkFleet
from tests.faults.promises import NONE_BROKEN, PATIENCE, nothing_noticed
from tests.faults.record import Scenario, record

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.faults_full,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]

FULL_SECONDS = 12.0
RECOVERED_SECONDS_MAX = 10.0


async def test_a_control_plane_with_a_full_disk_reads_refuses_writes_and_recovers(
    networked: NetworkFleet,
) -> None:
    fleet = networked
    scenario = Scenario(
        number=50,
        text=f"the control plane's disk full for {FULL_SECONDS:.0f} s",
        promise=f"{NONE_BROKEN}; 0 moves; writes again within 10 s of there being room",
        control_plane=True,
    )
    await fleet.mend()
    # A change of the deployment that no replica is started anew for.
    refusals: list[str] = []
    recovered = 0.0

    async def write() -> bool:
        refusals.append("")
        try:
            await fleet.operator.apply(a_deployment(continuation=fleet.continuation))
            await fleet.operator.cordon("clouds/nobody", cordoned=bool(len(refusals) % 2))
        except SkerryError as error:
            refusals[-1] = f"{type(error).__name__}: {error.message}"
            return False
        return True

    async def fault(load: Load) -> None:
        nonlocal recovered
        filler = fill(fleet.directory.control_plane)
        try:
            while load.since_fault() < FULL_SECONDS:
                await write()
                with contextlib.suppress(SkerryError):
                    await fleet.states()
                await CLOCK.sleep(0.5)
        finally:
            filler.unlink()
        recovered = await fleet.until("it takes writes again", write)

    found = await under_load(fleet, fault, seconds=90)
    record(scenario, found, fleet, recovered_seconds=recovered)
    nothing_noticed(found)
    assert any(refusals), "the disk was not full"
    assert recovered <= PATIENCE * RECOVERED_SECONDS_MAX, recovered
    assert await fleet.placed() == fleet.shape
    await fleet.mend()


async def test_an_agent_with_a_full_disk_keeps_what_it_serves_and_says_so(
    networked: NetworkFleet,
) -> None:
    fleet = networked
    scenario = Scenario(
        number=51,
        text="a plane's disk full while a new desired state is pushed",
        promise=f"{NONE_BROKEN}; refused and told, taken up once there is room",
        control_plane=True,
    )
    await fleet.mend()
    plane, told, taken = SMALL_DISK_PLANE, "", 0.0

    async def up_to_date() -> bool:
        row = (await fleet.states())[plane]
        return row.held == row.desired and not row.nack

    async def refused() -> bool:
        nonlocal told
        told = (await fleet.states())[plane].nack
        return bool(told)

    async def fault(load: Load) -> None:
        nonlocal taken
        filler = fill(fleet.directory.plane(plane))
        try:
            await fleet.operator.apply(a_deployment(continuation=True))
            await fleet.until("the refusal is told", refused)
            await CLOCK.sleep(3.0)
        finally:
            filler.unlink()
        taken = await fleet.until("the plane holds what is desired", up_to_date)

    try:
        found = await under_load(fleet, fault, seconds=90)
    finally:
        await fleet.operator.apply(a_deployment(continuation=False))
    record(scenario, found, fleet, taken_up_seconds=taken)
    nothing_noticed(found)
    await fleet.until("the plane holds what is desired", up_to_date)
    await fleet.mend()
