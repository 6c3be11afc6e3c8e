"""What a recovery computes over a large fleet, the loop that answers heartbeats goes on beside."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from control_plane.reconcile.pace import LARGE_PLANES
from control_plane.recovery.assess import Told
from control_plane.recovery.run import Recovery
from control_plane.store import leadership
from control_plane.store.engine import open_database
from control_plane.store.schema import upgrade
from tests.builders import a_deployment, a_snapshot
from tests.fakes.clock import FakeClock
from tests.unit.control_plane.recovery.worlds import a_held_state, holding

pytestmark = pytest.mark.integration


class SlowPlanes:
    """Answers that take a while to read: until the loop has done something else."""

    def __init__(self, loop_went_on: threading.Event) -> None:
        self.loop_went_on = loop_went_on
        self.asked: list[str] = []

    def ask(self, plane: str) -> None:
        self.asked.append(plane)

    def read(self) -> None:
        assert self.loop_went_on.wait(10), "the loop stood still meanwhile"

    def told(self) -> Mapping[str, Told]:
        return {}

    def forget(self) -> None:
        self.asked.clear()


async def test_answers_of_a_large_fleet_are_read_while_the_loop_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'skerry.db'}"
    upgrade(url)
    database = open_database(url)
    clock, went_on = FakeClock(), threading.Event()
    with database.write() as session:
        epoch = leadership.take_leadership(session, "cp", clock.now())
    states = [a_held_state(f"p{n:04d}", a_deployment()) for n in range(LARGE_PLANES)]
    snapshot = a_snapshot(*(holding(state) for state in states))
    planes = SlowPlanes(went_on)
    asyncio.get_running_loop().call_later(0.05, went_on.set)
    recovery = Recovery(database, planes, clock)
    assert await recovery.holds(snapshot, epoch)
    assert recovery.is_under_way
    assert len(planes.asked) == LARGE_PLANES
    database.close()
