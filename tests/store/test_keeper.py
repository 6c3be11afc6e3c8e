"""What leaders and standbys do about leadership as time passes and the database comes and goes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.leading.candidacy import Candidacy, Candidate
from control_plane.leading.keeper import Keeper
from control_plane.leading.outage import DatabaseSight
from control_plane.leading.sole import is_sole, sole_control_plane
from control_plane.leading.tenure import Tenure
from control_plane.leading.term import LINKS_KEPT_SECONDS, LOOK_SECONDS, TERM_SECONDS
from control_plane.store.control_planes import ControlPlaneRole, list_control_planes
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import Addresses, current_leadership, take_leadership
from skerry.plumbing.errors import Conflict, StaleGeneration
from tests.fakes.clock import START, FakeClock

AT = Addresses(operator="h:1", link="h:2", http="h:3")


class Side:
    """One control plane's part in leadership, with a clock of its own."""

    def __init__(self, url: str, name: str) -> None:
        self.clock = FakeClock()
        self.database = open_database(url)
        self.tenure = Tenure(self.clock, name)
        self.outage = DatabaseSight()
        candidate = Candidate(name=name, addresses=AT, software="skerry test")
        self.candidacy = Candidacy(
            database=self.database, candidate=candidate, tenure=self.tenure, clock=self.clock
        )
        self.keeper = Keeper(
            database=self.database,
            tenure=self.tenure,
            outage=self.outage,
            clock=self.clock,
            name=name,
        )

    async def lead(self) -> None:
        """Acquire leadership."""
        self.tenure.term = await self.candidacy.until_acquired()


@pytest.fixture
def sides(migrated: str) -> Iterator[tuple[Side, Side]]:
    sides = Side(migrated, "cp-1"), Side(migrated, "cp-2")
    yield sides
    for side in sides:
        side.database.close()


async def test_a_standby_waits_while_the_leader_renews_and_leads_once_it_gave_up(
    sides: tuple[Side, Side],
) -> None:
    leader, standby = sides
    await leader.lead()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(standby.lead())
        for _ in range(4):
            assert await leader.keeper.renew_once()
            await standby.clock.run_for(LOOK_SECONDS)
        assert not waiting.done()
        await leader.keeper.give_up()
        while not waiting.done():
            await standby.clock.run_for(LOOK_SECONDS)
            await asyncio.to_thread(int)  # its look is on the store's thread
    assert standby.tenure.epoch == leader.tenure.epoch + 1
    with pytest.raises(StaleGeneration, match="in epoch 2; ours was 1"):
        await leader.keeper.renew_once()


async def test_a_renewal_prolongs_the_term_from_when_it_was_asked_for(
    sides: tuple[Side, Side],
) -> None:
    leader, _ = sides
    await leader.lead()
    acts = []
    for seconds in (TERM_SECONDS - 0.5, TERM_SECONDS - 0.5, 1.0):
        leader.clock.advance(seconds)
        acts.append(leader.tenure.is_acting)
        if len(acts) != 2:
            # The last time nobody had taken it meanwhile: it is ours again.
            assert await leader.keeper.renew_once()
    assert [*acts, leader.tenure.is_acting] == [True, True, False, True]


async def test_without_the_database_a_leader_stops_acting_and_later_lets_its_planes_go(
    sides: tuple[Side, Side],
) -> None:
    leader, _ = sides
    await leader.lead()
    leader.database.close()  # what is asked of it fails from now on
    assert not await leader.keeper.renew_once()
    leader.clock.advance(TERM_SECONDS)
    assert not leader.tenure.is_acting
    assert leader.outage.seconds_since_back(leader.clock.monotonic()) == 0.0

    async def watch() -> str:
        with pytest.raises(StaleGeneration) as error:
            await leader.keeper.watch()
        return str(error.value)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await leader.clock.run_for(LINKS_KEPT_SECONDS - 1.0)
        assert not watching.done()
        await leader.clock.run_for(2.0)
    assert "free to find another leader" in watching.result()


async def test_what_tells_of_itself_is_listed(sides: tuple[Side, Side]) -> None:
    leader, standby = sides
    await leader.lead()
    async with asyncio.TaskGroup() as group:
        telling = [group.create_task(side.candidacy.tell()) for side in sides]
        roles: dict[str, ControlPlaneRole] = {}
        while len(roles) < 2:
            found = await leader.database.run_read(list_control_planes)
            roles = {one.told.name: one.role for one in found}
        for task in telling:
            task.cancel()
    assert roles == {"cp-1": ControlPlaneRole.LEADING, "cp-2": ControlPlaneRole.STANDING_BY}
    assert standby.tenure.epoch == 0


async def test_where_one_control_plane_is_alone_it_leads_at_once(sides: tuple[Side, Side]) -> None:
    before, after = sides
    before.tenure.term = await before.candidacy.take()
    after.tenure.term = await after.candidacy.take()
    after.clock.advance(1e6)
    assert after.tenure.is_acting
    assert after.tenure.epoch == before.tenure.epoch + 1
    found = await after.database.run_read(current_leadership)
    assert (found.addresses, found.seconds_left) == (AT, None)


def test_an_sqlite_file_has_one_living_control_plane(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'skerry.db'}"
    assert is_sole(url)
    with sole_control_plane(url):
        with (
            pytest.raises(Conflict, match="one control plane: stop that one, or use a postgres"),
            sole_control_plane(url),
        ):
            raise AssertionError("a second one got in")
    with sole_control_plane(url):
        pass


def test_a_postgresql_database_has_any_number_of_them() -> None:
    url = "postgresql://somebody@somewhere/skerry"
    assert not is_sole(url)
    with sole_control_plane(url), sole_control_plane(url):
        pass


async def test_a_second_writer_of_an_unknown_kind_is_noticed(
    sides: tuple[Side, Side], database: Database
) -> None:
    leader, _ = sides
    await leader.lead()
    await database.run(take_leadership, "restored", START)
    with pytest.raises(StaleGeneration):
        await leader.keeper.renew_once()
