"""The control plane starved, deaf to most planes, or behind a bad link; an agent killed over again.

It runs in all of them, and what it decides from what it sees must not hurt anybody.
"""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.supervisor.restarts import Role
from skerry.fleet.observation import PlaneState
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.processes import signal_process
from tests.faults.fleet import CLOCK, FaultFleet, a_deployment
from tests.faults.load import Load, under_load
from tests.faults.promises import NONE_BROKEN, PATIENCE, nothing_noticed
from tests.faults.proxy import LinkProxy, a_proxy, dial
from tests.faults.record import Scenario, record
from tests.faults.slowness import slowed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]
full = pytest.mark.faults_full

# Half again as long as a lease: a wrong verdict would have come.
SILENT_SECONDS = 12.0
FROZEN_SECONDS_MAX = 4.0  # a timeout of heartbeats and a turn of the control plane
SHARE = 0.02
AGENT_KILLS = 5
BACK_SECONDS_MAX = 10.0
BAD_LINK_SECONDS = 30.0
RESET_SECONDS = 5.0  # a link is made anew in two, with TLS over such a line


async def ready(fleet: FaultFleet) -> None:
    """Have the fleet whole, plainly routed, with the control plane up and past its grace."""
    await fleet.mend()
    await fleet.with_control_plane()
    await fleet.route(continuation=False)


async def placed(fleet: FaultFleet) -> dict[str, int]:
    """Return the replicas placed by plane."""
    rows = await fleet.operator.list_placements()
    return {row.plane: row.replicas for row in rows if row.replicas}


async def test_most_planes_silent_at_once_freezes_and_moves_nothing(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=46,
        text=f"two of three agents stopped (SIGSTOP) at once for {SILENT_SECONDS:.0f} s",
        promise=f"{NONE_BROKEN}; frozen within 4 s and thawed: 0 moves, no plane lost",
        quick=True,
        control_plane=True,
    )
    await ready(fleet)
    assert await fleet.operator.get_freeze() == ""
    sequence = (await fleet.operator.latest_changes(1))[-1].sequence
    names = sorted(fleet.shape)[:2]
    states: set[PlaneState] = set()
    reasons: set[str] = set()
    frozen_seconds: list[float] = []

    async def fault(load: Load) -> None:
        for name in names:
            fleet.stop(fleet.part(name, Role.AGENT))
        while load.since_fault() < SILENT_SECONDS:
            rows = {row.name: row for row in await fleet.operator.list_planes()}
            states.update(rows[name].state for name in names)
            reasons.update(rows[name].reason for name in names)
            assert await placed(fleet) == fleet.shape
            if await fleet.operator.get_freeze():
                frozen_seconds.append(load.since_fault())
            await CLOCK.sleep(0.25)
        assert "2 of 3 planes fell silent at once" in await fleet.operator.get_freeze(), reasons
        fleet.go_on()

    found = await under_load(fleet, fault, seconds=SILENT_SECONDS + 10)
    await fleet.with_control_plane()
    await fleet.until("moves are frozen no more", partial(is_thawed, fleet))
    record(scenario, found, fleet, frozen_seconds=min(frozen_seconds))
    nothing_noticed(found)
    assert PlaneState.LOST not in states, reasons
    assert states & {PlaneState.SUSPECT, PlaneState.DISCONNECTED}, reasons
    assert min(frozen_seconds) <= PATIENCE * FROZEN_SECONDS_MAX
    kinds = [change.kind for change in await fleet.operator.changes_since(sequence)]
    assert [kind for kind in kinds if kind.startswith("fleet.")] == ["fleet.frozen", "fleet.thawed"]
    assert await placed(fleet) == fleet.shape


async def is_thawed(fleet: FaultFleet) -> bool:
    """Say whether moves are frozen no more."""
    return not await fleet.operator.get_freeze()


@full
async def test_a_control_plane_with_a_fiftieth_of_a_core_loses_no_plane(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=47,
        text=f"the control plane with {SHARE:.0%} of a core for 20 s",
        promise=f"{NONE_BROKEN}; 0 moves, no plane lost",
        control_plane=True,
    )
    await ready(fleet)
    sequence = (await fleet.operator.latest_changes(1))[-1].sequence

    async def fault(load: Load) -> None:
        async with slowed(fleet.part("", Role.CONTROL_PLANE), SHARE):
            await CLOCK.sleep(20.0)

    found = await under_load(fleet, fault, seconds=30)
    await fleet.with_control_plane()
    lost = [
        change
        for change in await fleet.operator.changes_since(sequence)
        if change.kind == "plane.lost"
    ]
    record(scenario, found, fleet, planes_lost=len(lost))
    nothing_noticed(found)
    assert not lost
    assert await placed(fleet) == fleet.shape


@full
async def test_an_agent_killed_over_and_over_adopts_every_time(shared_fleet: FaultFleet) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=48,
        text=f"the agent killed {AGENT_KILLS} times, each time as soon as it had linked again",
        promise=f"{NONE_BROKEN}; no engine started again; linked within 10 s of its start",
        control_plane=True,
    )
    await ready(fleet)
    engines = {one.name: one.engine_pid for one in fleet.replicas(fleet.home)}
    slowest = 0.0

    async def fault(load: Load) -> None:
        nonlocal slowest
        for _ in range(AGENT_KILLS):
            dead = fleet.part(fleet.home, Role.AGENT)
            signal_process(dead, signal.SIGKILL)

            async def is_another(pid: int = dead.pid) -> bool:
                return fleet.part(fleet.home, Role.AGENT).pid != pid

            async def is_linked() -> bool:
                status = agent_status(fleet)
                pid = fleet.part(fleet.home, Role.AGENT).pid
                return bool(status["pid"] == pid and status["link"]["state"] == "linked")

            await fleet.until("the agent is started again", is_another)
            started = CLOCK.monotonic()
            await fleet.until("the agent is linked", is_linked)
            slowest = max(slowest, CLOCK.monotonic() - started)

    found = await under_load(fleet, fault, seconds=120)
    record(scenario, found, fleet, kills=AGENT_KILLS, slowest_seconds=slowest)
    nothing_noticed(found)
    assert engines == {one.name: one.engine_pid for one in fleet.replicas(fleet.home)}
    assert slowest <= PATIENCE * BACK_SECONDS_MAX, slowest


@full
async def test_a_link_that_is_slow_held_back_and_reset_never_brings_older_state(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    scenario = Scenario(
        number=49,
        text="a plane's link delayed by up to 0.6 s, held back for 4 s, reset every 5 s, changes"
        " pushed meanwhile",
        promise=f"{NONE_BROKEN}; what the plane holds never goes back; 0 moves",
        control_plane=True,
    )
    await ready(fleet)
    settings = fleet.plane_directory(fleet.home) / "settings.json"
    plain = settings.read_bytes()
    held: list[tuple[int, ...]] = []
    resets = 0
    async with a_proxy(partial(dial, "127.0.0.1", fleet.layout.control_plane.link)) as proxy:
        await through(fleet, settings, {"control_planes": [proxy.address]})
        assert proxy.connections > 0

        async def fault(load: Load) -> None:
            nonlocal resets
            proxy.delay_seconds, proxy.jitter_seconds = 0.2, 0.4
            resets = await disturb(fleet, load, proxy, held)

        try:
            found = await under_load(fleet, fault, seconds=BAD_LINK_SECONDS + 15)
        finally:
            proxy.delay_seconds = proxy.jitter_seconds = 0.0
            await fleet.operator.apply(a_deployment(continuation=False))
            settings.write_bytes(plain)
            await through(fleet, settings, {})
    record(scenario, found, fleet, resets=resets, versions_held=len(set(held)))
    nothing_noticed(found)
    assert held == sorted(held)
    assert len(set(held)) > 1, "nothing was pushed"
    assert await placed(fleet) == fleet.shape


async def disturb(
    fleet: FaultFleet, load: Load, proxy: LinkProxy, held: list[tuple[int, ...]]
) -> int:
    """Reset again and again, hold back for 4 s in the middle, push changes; note what is held."""
    resets, next_reset, next_change, continuation = 0, RESET_SECONDS, 1.0, False
    while load.since_fault() < BAD_LINK_SECONDS:
        now = load.since_fault()
        proxy.held = 16.0 <= now < 20.0
        if now >= next_reset and not proxy.held:
            next_reset = now + RESET_SECONDS
            resets += proxy.reset_all() > 0
        if now >= next_change:
            next_change, continuation = now + 3.0, not continuation
            try:
                await fleet.operator.apply(a_deployment(continuation=continuation))
            except SkerryError:
                continue
        held.append(tuple(int(n) for n in str(agent_status(fleet)["desired"]["held"]).split(".")))
        await CLOCK.sleep(0.2)
    proxy.held = False
    return resets


async def through(fleet: FaultFleet, settings: Path, values: dict[str, Any]) -> None:
    """Have the home's agent start again with other settings, and wait until it is linked."""
    change(settings, values)
    dead = fleet.part(fleet.home, Role.AGENT)
    signal_process(dead, signal.SIGKILL)

    async def is_linked() -> bool:
        agent = fleet.part(fleet.home, Role.AGENT)
        status = agent_status(fleet)
        is_new = agent.pid != dead.pid and status["pid"] == agent.pid
        return bool(is_new and status["link"]["state"] == "linked")

    await fleet.until("the agent is linked", is_linked)
    await fleet.with_control_plane()


def change(settings: Path, values: dict[str, Any]) -> None:
    """Put the values into a settings file."""
    changed = {**json.loads(settings.read_bytes()), **values}
    settings.write_text(json.dumps(changed), encoding="utf-8")


def agent_status(fleet: FaultFleet) -> dict[str, Any]:
    """Return what the home's agent says of itself."""
    status: dict[str, Any] = json.loads(
        (fleet.plane_directory(fleet.home) / "agent.json").read_bytes()
    )
    return status
