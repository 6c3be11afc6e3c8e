"""Who is lost when the control plane was away, and when witnesses were cut off long before."""

from pathlib import Path

import pytest

from control_plane.store.planes import list_planes
from control_plane.store.verdicts import list_verdicts
from control_plane.upkeep import LeaseFlush
from skerry.fleet.observation import PeerVerdict, PlaneState
from tests.integration.loop_world import Fleet

pytestmark = pytest.mark.integration

AWAY_SECONDS = 300.0
JUDGED = 30  # turns, beyond the grace after a start and every lease
DECIDED = 12  # turns after which a plane is lost and replaced: the promise is 20 s


async def a_fleet(directory: Path) -> Fleet:
    fleet = Fleet(directory)
    await fleet.apply_demo()
    await fleet.turns(20)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    return fleet


async def state(fleet: Fleet, plane: str) -> PlaneState | None:
    stored = {one.identity.name: one for one in await fleet.database.run_read(list_planes)}
    condition = stored[plane].condition
    return condition.state if condition else None


def cut_link(fleet: Fleet, plane: str) -> None:
    """Let a plane lose its link to us and nothing else."""
    running, sees = fleet.running[plane], dict(fleet.sees)
    last = dict(fleet.saw_last)
    fleet.lose(plane)
    fleet.running[plane], fleet.sees, fleet.saw_last = running, sees, last


async def test_a_plane_that_loses_its_link_an_hour_after_its_witnesses_were_cut_off_is_not_lost(
    tmp_path: Path,
) -> None:
    fleet = await a_fleet(tmp_path)
    fleet.sees["gcp"] = PeerVerdict.UNREACHABLE
    await fleet.turns(1)
    fleet.clock.advance(3600.0)
    fleet.obey()
    await fleet.turns(5)
    assert await state(fleet, "gcp") is PlaneState.CONNECTED
    cut_link(fleet, "gcp")
    await fleet.turns(JUDGED)
    assert await state(fleet, "gcp") is PlaneState.SUSPECT
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    told = (await fleet.database.run_read(list_verdicts, "gcp"))[0]
    assert told.against == 0
    assert all("long before" in view.discounted for view in told.witnesses)


async def test_a_true_loss_is_decided_at_once_all_the_same(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path)
    fleet.lose("gcp")
    await fleet.turns(DECIDED)
    assert await state(fleet, "gcp") is PlaneState.LOST
    assert await fleet.counts() == {"aws": 1, "fra": 3}


async def test_a_plane_that_died_while_we_were_away_is_lost_by_what_was_stored_of_it(
    tmp_path: Path,
) -> None:
    fleet = await a_fleet(tmp_path)
    write = LeaseFlush(
        database=fleet.database, clock=fleet.clock, epoch=fleet.epoch, reports=fleet.registry
    )
    assert await write.flush() == 3
    fleet.lose("gcp")
    fleet.clock.advance(AWAY_SECONDS)
    fleet.start()
    await fleet.turns(JUDGED)
    assert await state(fleet, "gcp") is PlaneState.LOST
    assert await fleet.counts() == {"aws": 1, "fra": 3}


async def test_without_it_an_operator_decides(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path)
    fleet.lose("gcp")
    fleet.clock.advance(AWAY_SECONDS)
    fleet.start()
    await fleet.turns(JUDGED)
    assert await state(fleet, "gcp") is not PlaneState.LOST
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}


async def test_a_leader_that_takes_over_reads_what_the_one_before_it_heard(tmp_path: Path) -> None:
    """Its sight and registry are as old as its process; what it read while it stood by is not."""
    fleet = await a_fleet(tmp_path)
    standby = fleet.sight
    await standby.look()
    write = LeaseFlush(
        database=fleet.database, clock=fleet.clock, epoch=fleet.epoch, reports=fleet.registry
    )
    await write.flush()
    fleet.registry._planes.clear()
    fleet.registry._observed.clear()
    fleet.registry.begin()
    snapshot = await standby.look()
    heard = {plane.name: plane.heard_at for plane in snapshot.planes}
    assert heard == dict.fromkeys(("aws", "fra", "gcp"), fleet.clock.now())
