"""A writer of the desired state that is killed at any moment loses nothing it has acknowledged."""

import os
import random
import select
import signal
from pathlib import Path

from skerry.fleet.generation import Version
from tests.unit.workload_plane.desired_state.test_damage import a_payload
from workload_plane.desired_state.file import DesiredStateFile

KILLS = 40
PAYLOADS = [a_payload(Version(epoch=1, generation=number), 20) for number in range(1, 2_000)]


def write_until_killed(path: Path, first: int, acks: int) -> None:
    """Store one generation after the other and say of each when it is durable."""
    file = DesiredStateFile(path)
    file.prepare()
    for number in range(first, len(PAYLOADS) + 1):
        file.store(PAYLOADS[number - 1])
        os.write(acks, number.to_bytes(4, "big"))


def test_no_kill_loses_an_acknowledged_state(tmp_path: Path) -> None:
    path = tmp_path / "desired" / "desired.skerry"
    dice = random.Random(7)
    acknowledged = 0
    for _ in range(KILLS):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(reading)
                write_until_killed(path, acknowledged + 1, writing)
            finally:
                os._exit(1)
        os.close(writing)
        for _ in range(dice.randrange(3)):
            acknowledged = int.from_bytes(os.read(reading, 4), "big")
        # Then at any moment of the next write.
        select.select([], [], [], dice.uniform(0.0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while told := os.read(reading, 4):
            acknowledged = int.from_bytes(told, "big")
        os.close(reading)
        file = DesiredStateFile(path)
        file.prepare()
        loaded = file.load()
        if acknowledged:
            assert loaded is not None, "an empty start"
        if loaded is not None:
            assert loaded.fault is None
            # One may be durable that its writer had no time to say.
            assert loaded.seen.generation in (acknowledged, acknowledged + 1)
            acknowledged = loaded.seen.generation
    assert acknowledged >= KILLS // 2
