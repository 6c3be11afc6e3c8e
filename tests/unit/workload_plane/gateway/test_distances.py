"""Distances are medians that stay until they are clearly others; what is away keeps its old one."""

import asyncio

from tests.fakes.clock import FakeClock
from workload_plane.gateway.distances import SAMPLES_MIN, PeerDistances, PeerPlace, settle

NEAR, FAR = PeerPlace(host="10.0.0.1", port=1), PeerPlace(host="10.0.0.2", port=2)


class Network:
    """Connections take what the test says; None is nobody there."""

    def __init__(self) -> None:
        self.clock, self.changed = FakeClock(), asyncio.Event()
        self.seconds: dict[str, float | None] = {NEAR.host: 0.010, FAR.host: 0.080}
        self.distances = PeerDistances(self.changed, self.clock, self.connect)

    async def connect(self, host: str, port: int) -> None:
        seconds = self.seconds[host]
        if seconds is None:
            raise ConnectionRefusedError
        self.clock.advance(seconds)

    async def rounds(self, count: int) -> None:
        for _ in range(count):
            await self.distances.measure({"near": NEAR, "far": FAR})


def test_too_few_samples_say_nothing() -> None:
    assert settle(None, (0.01,) * (SAMPLES_MIN - 1)) is None
    assert settle(None, (0.01,) * SAMPLES_MIN) == 0.01


def test_a_settled_distance_moves_only_by_a_clear_margin() -> None:
    assert settle(0.100, (0.110, 0.115, 0.09)) == 0.100
    assert settle(0.100, (0.150, 0.150, 0.09)) == 0.150
    assert settle(0.0002, (0.0019, 0.0018, 0.0019)) == 0.0002, "loopback's noise is no distance"


def test_one_slow_connection_moves_nothing() -> None:
    assert settle(0.010, (0.010, 0.010, 0.9)) == 0.010


async def test_whoever_goes_by_the_distances_is_told_once_they_are_settled() -> None:
    network = Network()
    await network.rounds(SAMPLES_MIN - 1)
    assert (network.distances.seconds, network.changed.is_set()) == ({}, False)
    await network.rounds(1)
    assert {plane: round(s, 3) for plane, s in network.distances.seconds.items()} == {
        "near": 0.010,
        "far": 0.080,
    }
    assert network.changed.is_set()
    network.changed.clear()
    await network.rounds(10)
    assert not network.changed.is_set()


async def test_a_peer_that_is_away_keeps_its_distance_and_one_that_is_gone_has_none() -> None:
    network = Network()
    await network.rounds(SAMPLES_MIN)
    network.seconds[NEAR.host] = None
    await network.rounds(5)
    assert round(network.distances.seconds["near"], 3) == 0.010
    await network.distances.measure({"far": FAR})
    assert set(network.distances.seconds) == {"far"}
