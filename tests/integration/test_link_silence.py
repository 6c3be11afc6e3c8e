"""Peers that hang without dying, and a direction that is lost: real processes, real sockets."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane.link.convert import encode_desired
from control_plane.reconcile.policy import ReconcilePolicy
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from tests.integration.link_world import Side, a_relay
from tests.integration.test_leadership import a_control_plane
from tests.integration.test_plane_link import Bench, a_bench
from tests.integration.test_takeover import slowness
from workload_plane.link.client import LinkClient
from workload_plane.link.connection import LinkSettings
from workload_plane.link.session import SessionState, Terms

pytestmark = pytest.mark.integration

# A third of the product's, so that three timeouts fit into a test. From the stop on, and twice as
# long only where each core has two others to serve; to the millisecond the timeouts are held in
# tests/unit/workload_plane/link.
QUICK = ReconcilePolicy(
    heartbeat_period_seconds=0.3, heartbeat_timeout_seconds=0.9, lease_seconds=2.4
)
# What was on its way when the peer was stopped is still heard, some milliseconds later.
ON_THE_WAY_SECONDS = 0.25
PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.01


async def until(holds: Callable[[], bool]) -> float:
    """Return how long it took until it held, without the longest that this loop stood still.

    What notices runs in this loop, too: a timer that the machine's load makes late is no fault of
    the link's.
    """
    clock = SystemClock()
    began = looked_at = clock.monotonic()
    stood_still = 0.0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await clock.sleep(_LOOK_SECONDS)
            now = clock.monotonic()
            stood_still = max(stood_still, now - looked_at - _LOOK_SECONDS)
            looked_at = now
    return clock.monotonic() - began - stood_still


def a_client(bench: Bench, address: str, side: Side) -> LinkClient:
    """A plane's link to that address."""
    settings = LinkSettings(
        control_planes=(address,), tls=bench.tls("fra"), project="default", agent_id="a1"
    )
    return LinkClient(settings, side, asyncio.Event(), bench.clock, SystemIds(bench.clock))


async def test_a_plane_that_hangs_is_noticed_within_the_timeout_and_ended_with_its_lease(
    tmp_path: Path,
) -> None:
    async with a_bench(tmp_path, QUICK) as bench:
        tls = bench.tls("fra")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.link_peer", bench.address, "fra"),
            *(str(tls.ca), str(tls.cert), str(tls.key)),
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            await until(lambda: bench.registry.view("fra").connected)
            await bench.clock.sleep(QUICK.heartbeat_period_seconds)
            bench.woken.clear()
            process.send_signal(signal.SIGSTOP)
            noticed = await until(bench.woken.is_set)
            assert noticed < (QUICK.heartbeat_timeout_seconds + ON_THE_WAY_SECONDS) * slowness()
            assert bench.registry.view("fra").connected  # suspected, not given up
            await until(lambda: not bench.registry.view("fra").connected)
            process.send_signal(signal.SIGCONT)
            await until(lambda: bench.registry.view("fra").connected)
        finally:
            process.kill()
            await process.wait()


async def test_a_control_plane_that_hangs_is_noticed_within_the_timeout(tmp_path: Path) -> None:
    async with a_bench(tmp_path / "bench") as bench, a_control_plane(tmp_path) as (process, at):
        tls = bench.tls_of(tmp_path / "authority", "fra")
        settings = LinkSettings(
            control_planes=(at["link_address"],),
            tls=tls,
            project="default",
            agent_id="a1",
            server_name="localhost",
        )
        clock = bench.clock
        client = LinkClient(settings, Side("fra"), asyncio.Event(), clock, SystemIds(clock))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(client.run())
            await until(lambda: client.state is SessionState.LINKED)
            await clock.sleep(1.0)
            process.send_signal(signal.SIGSTOP)
            noticed = await until(lambda: client.state is not SessionState.LINKED)
            assert noticed < (Terms().timeout_seconds + ON_THE_WAY_SECONDS) * slowness()
            process.send_signal(signal.SIGCONT)
            await until(lambda: client.state is SessionState.LINKED)
            running.cancel()


async def test_a_plane_that_is_not_heard_takes_no_pushes_until_it_is(tmp_path: Path) -> None:
    async with a_bench(tmp_path, QUICK) as bench, a_relay(bench.address) as relay:
        side = Side("fra")
        client = a_client(bench, relay.address, side)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(client.run())
            await until(lambda: client.state is SessionState.LINKED)
            relay.deaf = True
            muted_at: list[int] = []
            for generation in range(1, 200):
                # It goes on talking, so the plane hears it; what the plane says is lost.
                version = Version(epoch=3, generation=generation)
                payload, _ = encode_desired(DesiredState(plane="fra", version=version))
                bench.registry.push("fra", version, payload)
                await bench.clock.sleep(0.05)
                if client.state is SessionState.MUTED:
                    muted_at.append(generation)
                if client.state is SessionState.IDLE:
                    break
            assert muted_at, "pushes alone must not keep a session alive"
            assert max(side.accepted) <= muted_at[0]
            relay.deaf = False
            await until(lambda: client.state is SessionState.LINKED)
            await until(lambda: max(side.accepted) == generation)
            assert side.accepted == sorted(side.accepted)
            running.cancel()
