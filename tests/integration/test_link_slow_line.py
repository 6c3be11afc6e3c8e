"""A state that a line takes longer for than a silence may last arrives, and the link is kept."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from control_plane.link.convert import encode_desired
from skerry.fleet.desired import DesiredState, PeerPlane
from skerry.fleet.generation import Version
from tests.faults.proxy import a_proxy, dial
from tests.integration.link_world import Side
from tests.integration.test_link_silence import a_client, until
from tests.integration.test_plane_link import a_bench
from workload_plane.link.session import SessionState, Terms

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MEGABIT_BYTES = 1_000_000 / 8  # a second
STATE_BYTES_MIN = 430_000  # a plane's, in a large fleet
ARRIVES_SECONDS_MAX = 25.0


def a_large_state(generation: int) -> bytes:
    peers = tuple(
        PeerPlane(plane=f"plane-{n:05d}", cloud="aws", region="us-east-1", peer_address="h:1")
        for n in range(13_000)
    )
    version = Version(epoch=3, generation=generation)
    payload, _ = encode_desired(DesiredState(plane="fra", version=version, peers=peers))
    assert len(payload) > STATE_BYTES_MIN
    return payload


async def test_a_large_state_arrives_over_a_slow_line_and_the_link_is_kept(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        host, port = bench.address.split(":")
        async with a_proxy(partial(dial, host, int(port))) as line:
            side = Side("fra")
            client = a_client(bench, line.address, side)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(client.run())
                await until(lambda: client.state is SessionState.LINKED)
                line.bytes_per_second = MEGABIT_BYTES
                version = Version(epoch=3, generation=1)
                payload = await asyncio.to_thread(a_large_state, 1)
                bench.registry.push("fra", version, payload)
                silences: list[float] = []

                def has_arrived() -> bool:
                    silences.append(bench.registry.view("fra").silent_seconds)
                    return bool(side.accepted)

                took = await until(has_arrived)
                assert took > len(payload) / MEGABIT_BYTES > Terms().timeout_seconds
                assert took < ARRIVES_SECONDS_MAX
                assert max(silences) < Terms().timeout_seconds
                assert (line.connections, side.accepted) == (1, [1])
                assert client.state is SessionState.LINKED
                running.cancel()
