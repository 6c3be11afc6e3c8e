"""The network between control plane and planes cut: one way, both ways, between planes, all of it.

Every part is on a host of its own (a network namespace), and every process lives on.
"""

from dataclasses import dataclass, field

import pytest

from skerry.fleet.observation import PlaneState
from tests.faults.fleet import CLOCK
from tests.faults.load import Load, Through, under_load
from tests.faults.network_fleet import CONTROL_PLANE, NetworkFleet
from tests.faults.promises import (
    NONE_BROKEN,
    NONE_FAILED,
    PATIENCE,
    none_failed,
    nothing_noticed,
)
from tests.faults.record import Scenario, record

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.faults_full,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]

# A lease is 8 s and lost planes are decided within 20: long enough that a wrong verdict shows.
CUT_SECONDS = 16.0
DETECTED_SECONDS_MAX = 4.0
# A plane that is heard and hears nothing knows after 3 s and hangs up. Should that be lost too (its
# TCP is not acknowledged and soon sends nothing new), the control plane's own 3 s begin with the
# last that it heard: two silences from the cut on, and a second to see it, as above.
TOLD_SECONDS_MAX = 7.0
CONVERGED_SECONDS_MAX = 10.0
SPILLOVER_SECONDS_MAX = 3.0
# Envoy's admin is inside the plane's network; its agent tells what Envoy knows up to so much later.
SAID_SECONDS_MAX = 1.0
DECIDED_SECONDS_MAX = 20.0


@dataclass
class Seen:
    """What the control plane said while the network was cut."""

    detected: float = 0.0
    converged: float = 0.0
    moves: int = 0
    states: set[str] = field(default_factory=set)

    async def keep(self, fleet: NetworkFleet, cut: tuple[str, ...], seconds: float) -> None:
        """Look until the time is over; how many replicas were ever placed elsewhere."""
        started, before = CLOCK.monotonic(), fleet.shape
        while CLOCK.monotonic() < started + seconds:
            rows, placed = await fleet.states(), await fleet.placed()
            states = {rows[plane].state for plane in cut}
            if not self.detected and PlaneState.CONNECTED not in states:
                self.detected = CLOCK.monotonic() - started
            self.states |= {state.value for state in states}
            more = sum(max(0, n - before.get(plane, 0)) for plane, n in placed.items())
            self.moves = max(self.moves, more)
            await CLOCK.sleep(0.1)

    async def heal(self, fleet: NetworkFleet) -> None:
        """Heal, and measure until every plane is heard again."""
        fleet.network.heal()

        async def heard() -> bool:
            states = await fleet.states()
            return all(row.state is PlaneState.CONNECTED for row in states.values())

        self.converged = await fleet.until("every plane is heard again", heard)


@pytest.mark.parametrize(
    ("number", "text", "towards", "back", "planes"),
    [
        (40, "a plane and the control plane cut off from each other", True, True, 1),
        (41, "what a plane sends to the control plane lost, one way", True, False, 1),
        (42, "what the control plane sends to a plane lost, one way", False, True, 1),
        (43, "two of three planes cut off from the control plane at once", True, True, 2),
    ],
    ids=["both-ways", "plane-to-control-plane", "control-plane-to-plane", "most-planes"],
)
async def test_a_plane_cut_off_from_the_control_plane_serves_and_nothing_moves(
    networked: NetworkFleet, number: int, text: str, towards: bool, back: bool, planes: int
) -> None:
    fleet = networked
    noticed = DETECTED_SECONDS_MAX if towards else TOLD_SECONDS_MAX
    scenario = Scenario(
        number=number,
        text=f"{text} for {CUT_SECONDS:.0f} s",
        promise=f"{NONE_BROKEN}; 0 moves; noticed within {noticed:.0f} s, heard again within 10 s",
        control_plane=True,
    )
    await fleet.mend()
    cut, seen = fleet.planes[:planes], Seen()

    async def fault(load: Load) -> None:
        for plane in cut:
            if towards:
                fleet.network.cut(plane, CONTROL_PLANE)
            if back:
                fleet.network.cut(CONTROL_PLANE, plane)
        await seen.keep(fleet, cut, CUT_SECONDS)
        await seen.heal(fleet)

    found = await under_load(fleet, fault, seconds=90)
    record(
        scenario,
        found,
        fleet,
        moves=seen.moves,
        detected_seconds=seen.detected,
        converged_seconds=seen.converged,
    )
    nothing_noticed(found)
    assert seen.moves == 0, seen
    assert PlaneState.LOST.value not in seen.states, seen
    assert 0 < seen.detected <= PATIENCE * noticed, seen
    assert seen.converged <= PATIENCE * CONVERGED_SECONDS_MAX, seen


async def test_planes_that_cannot_reach_each_other_stop_sending_each_other_requests(
    networked: NetworkFleet,
) -> None:
    fleet = networked
    scenario = Scenario(
        number=44,
        text="two planes cut off from each other, both heard by the control plane",
        promise=(
            f"{NONE_FAILED}; a stream that the other plane was answering is cut, unless it is"
            " continued; 0 moves; no longer counted on within 3 s, told within 4"
        ),
        control_plane=True,
    )
    await fleet.mend()
    here, there = fleet.planes[:2]
    seen, unreachable = Seen(), 0.0

    async def not_counted_on() -> bool:
        return fleet.peers_of(here)[there] == "unreachable" == fleet.peers_of(there)[here]

    async def fault(load: Load) -> None:
        nonlocal unreachable
        fleet.network.cut(here, there)
        fleet.network.cut(there, here)
        unreachable = await fleet.until("both see the other unreachable", not_counted_on)
        await seen.keep(fleet, (here, there), 10.0)
        await seen.heal(fleet)

    found = await under_load(fleet, fault, seconds=60)
    record(scenario, found, fleet, moves=seen.moves, noticed_seconds=unreachable)
    none_failed(found)
    # What a busy plane had given to its peer: nobody else could have gone on with it.
    assert found.broken <= found.under_way, found
    assert all("reset" in error for error in found.errors), found
    assert (seen.moves, seen.states) == (0, {"connected"})
    assert unreachable <= PATIENCE * (SPILLOVER_SECONDS_MAX + SAID_SECONDS_MAX), unreachable


async def test_a_plane_that_nobody_reaches_is_replaced(networked: NetworkFleet) -> None:
    fleet = networked
    scenario = Scenario(
        number=45,
        text="every path to a plane cut: control plane, peers and users",
        promise=f"{NONE_FAILED}; replaced, decided within 20 s",
        control_plane=True,
        through=Through.CLIENT,
    )
    await fleet.mend()
    victim, decided = fleet.planes[0], 0.0
    wanted = sum(fleet.shape.values())

    async def is_decided() -> bool:
        placed = await fleet.placed()
        return sum(n for plane, n in placed.items() if plane != victim) >= wanted

    async def fault(load: Load) -> None:
        nonlocal decided
        fleet.network.cut_off(victim)
        decided = await fleet.until("the plane's replicas are placed elsewhere", is_decided)
        await CLOCK.sleep(5.0)
        fleet.network.heal()

    found = await under_load(fleet, fault, seconds=90, through=Through.CLIENT)
    record(scenario, found, fleet, decided_seconds=decided)
    none_failed(found)
    assert decided <= PATIENCE * DECIDED_SECONDS_MAX, decided
    await settle(fleet)


async def settle(fleet: NetworkFleet) -> None:
    """Wait until all planes are heard and served as placed, and take that for whole."""
    fleet.shape = {}
    await fleet.mend()
    fleet.shape = await fleet.placed()
