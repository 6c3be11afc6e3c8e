"""A large fleet in which nothing moves is looked at seldom; whatever moves is seen at once."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.link.convert import decode_desired, encode_desired
from control_plane.link.registry import Registry
from control_plane.reconcile.doors import Doors
from control_plane.reconcile.loop import REST_SECONDS_MAX, ReconcileLoop
from control_plane.reconcile.pace import LARGE_PLANES
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.sight import Sight
from control_plane.store import schema
from control_plane.store.deployments import apply_deployment
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.planes import set_condition
from control_plane.store.reads import StoreReads
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneCondition, PlaneState
from tests.builders import a_deployment, a_report
from tests.fakes.clock import START, FakeClock
from tests.integration.loop_world import InThisProcess

pytestmark = pytest.mark.integration

NAMES = tuple(f"p{number:03d}" for number in range(LARGE_PLANES))
POLICY = ReconcilePolicy()


class LargeFleet:
    """As many planes as make a fleet large; they hold at once what they are told."""

    def __init__(self, database: Database) -> None:
        self.clock, self.database = FakeClock(), database
        with database.write() as session:
            self.epoch = take_leadership(session, "cp", START)
        self.registry = Registry(self.clock, lambda: None)
        sight = Sight(database, self.registry, self.clock, POLICY, decode_desired)
        sight.share(StoreReads(database, self.clock))
        doors = Doors(
            encode=encode_desired,
            push=self.push,
            judged=self.registry.judged,
            solver=InThisProcess(),
        )
        self.loop = ReconcileLoop(database, sight, doors, self.clock, epoch=self.epoch)
        self.silent: set[str] = set()
        self.told: dict[str, bytes] = {}
        for name in NAMES:
            timeout_seconds = POLICY.heartbeat_timeout_seconds
            self.registry.open(a_report(name), "agent", timeout_seconds, stream_number=1)

    def push(self, plane: str, version: Version, payload: bytes) -> None:
        """Have the plane hold what it is told."""
        self.told[plane] = payload
        self.registry.push(plane, version, payload)
        self.registry.acknowledge(plane, version, decode_desired(payload, version).plane.encode())

    async def second(self) -> bool:
        """Let a second pass in which planes are heard, and turn; say whether all was looked at."""
        self.clock.advance(1.0)
        for name in NAMES:
            if name not in self.silent:
                self.registry.hear(name)
        before = self.loop.seen
        await self.loop.turn()
        return self.loop.seen is not before

    async def until_at_rest(self) -> None:
        """Turn until nothing is looked at any more."""
        for _ in range(60):
            if not await self.second():
                return
        raise AssertionError("it comes to no rest")

    def write(self) -> WriteContext:
        """An operator's right to write."""
        return WriteContext(epoch=self.epoch, actor="user:ana", now=self.clock.now())

    def state(self, plane: str) -> PlaneState:
        """How the plane was judged last."""
        return self.registry.conditions()[plane].state


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file at this release's schema, to be copied."""
    path = tmp_path_factory.mktemp("store") / "migrated.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def fleet(tmp_path: Path, migrated: Path) -> Iterator[LargeFleet]:
    """A large fleet that has just connected."""
    shutil.copyfile(migrated, tmp_path / "skerry.db")
    database = open_database(f"sqlite:///{tmp_path / 'skerry.db'}")
    yield LargeFleet(database)
    database.close()


async def test_nothing_is_looked_at_whole_while_nothing_moves_but_every_ten_seconds(
    fleet: LargeFleet,
) -> None:
    await fleet.until_at_rest()
    looked = [await fleet.second() for _ in range(3 * round(REST_SECONDS_MAX))]
    assert 2 <= sum(looked) <= 3
    assert all(fleet.state(name) is PlaneState.CONNECTED for name in NAMES)


async def test_what_planes_and_operators_say_is_seen_in_the_same_turn(fleet: LargeFleet) -> None:
    await fleet.until_at_rest()
    fleet.registry.observe(replace(a_report(NAMES[0]), newest_epoch=4))
    assert await fleet.second()
    await fleet.until_at_rest()
    before = dict(fleet.told)
    await fleet.database.run(apply_deployment, fleet.write(), a_deployment("a"), "", "")
    assert await fleet.second()
    assert all(fleet.told[name] != before[name] for name in NAMES)


async def test_what_was_written_without_a_change_in_the_log_is_seen_as_well(
    fleet: LargeFleet,
) -> None:
    await fleet.until_at_rest()
    condition = fleet.registry.conditions()[NAMES[0]]
    told = PlaneCondition(state=condition.state, since=condition.since, reason="other evidence")
    write = fleet.write()
    await fleet.database.run(set_condition, write, NAMES[0], told, condition.state)
    assert await fleet.second()


async def test_a_plane_that_falls_silent_is_judged_as_soon_as_in_a_small_fleet(
    fleet: LargeFleet,
) -> None:
    await fleet.until_at_rest()
    fleet.silent.add(NAMES[0])
    for _ in range(3):
        await fleet.second()
        assert fleet.state(NAMES[0]) is PlaneState.CONNECTED
    fleet.registry.fell_silent()  # as the watch of its stream says once the timeout is over
    await fleet.second()
    assert fleet.state(NAMES[0]) is PlaneState.SUSPECT
    # While seconds decide about it every turn looks.
    assert all([await fleet.second() for _ in range(20)])


async def test_a_new_term_looks_at_once(fleet: LargeFleet) -> None:
    await fleet.until_at_rest()
    fleet.loop.lead(fleet.epoch)
    assert await fleet.second()


async def test_what_was_told_is_held_in_the_bytes_of_the_store(fleet: LargeFleet) -> None:
    await fleet.until_at_rest()
    assert fleet.loop.seen is not None
    payloads = fleet.loop.seen.snapshot.payloads
    assert all(fleet.told[name] is payloads[name] for name in NAMES)
