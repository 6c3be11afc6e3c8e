"""A writer of the desired state that is killed at any moment loses nothing it has acknowledged."""

import multiprocessing
import os
import random
import select
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from skerry.fleet.generation import Version
from tests.unit.workload_plane.desired_state.test_damage import a_payload
from workload_plane.desired_state.file import DesiredStateFile

pytestmark = pytest.mark.integration

KILLS = 40
GENERATIONS = 2_000
# Not a fork of this process: what other tests left in it, a lock or a thread, would hang the child.
FORKS = multiprocessing.get_context("forkserver")


def write_until_killed(path: Path, first: int, acks: Connection) -> None:
    """Store one generation after the other and say of each when it is durable."""
    file = DesiredStateFile(path)
    file.prepare()
    for number in range(first, first + GENERATIONS):
        file.store(a_payload(Version(epoch=1, generation=number), 20))
        os.write(acks.fileno(), number.to_bytes(4, "big"))


def kill_writers(path: Path, kills: int, seed: int) -> int:
    """Kill one writer after the other; return the last generation acknowledged, which loads.

    AssertionError says after which kill what was acknowledged did not load.
    """
    dice = random.Random(seed)
    FORKS.set_forkserver_preload([__name__])
    acknowledged = 0
    for number in range(kills):
        reading, writing = FORKS.Pipe(duplex=False)
        child = FORKS.Process(target=write_until_killed, args=(path, acknowledged + 1, writing))
        child.start()
        writing.close()
        for _ in range(dice.randrange(3)):
            acknowledged = int.from_bytes(os.read(reading.fileno(), 4), "big")
        # Then at any moment of the next write.
        select.select([], [], [], dice.uniform(0.0, 0.01))
        child.kill()
        child.join()
        while told := os.read(reading.fileno(), 4):
            acknowledged = int.from_bytes(told, "big")
        reading.close()
        file = DesiredStateFile(path)
        file.prepare()
        loaded = file.load()
        if acknowledged:
            assert loaded is not None, f"an empty start after kill {number}"
        if loaded is not None:
            assert loaded.fault is None, f"after kill {number}: {loaded.fault}"
            # One may be durable that its writer had no time to say.
            assert loaded.seen.generation in (acknowledged, acknowledged + 1), f"kill {number}"
            acknowledged = loaded.seen.generation
    return acknowledged


def test_no_kill_loses_an_acknowledged_state(tmp_path: Path) -> None:
    assert kill_writers(tmp_path / "desired" / "desired.skerry", KILLS, seed=7) >= KILLS // 2
