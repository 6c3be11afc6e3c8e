"""Explain, what-if and survival asked of a real control plane, with planes on its link.

The planes are streams held by this process: what counts is that they are heard all the while.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.client.context import Context
from skerry.client.operator import AsyncOperatorClient
from skerry.client.questions import Lose, ScaleDemand, ScalePrice
from skerry.fleet.deployment import FailureDomain, PlacementPolicy, Tolerate
from skerry.fleet.party_uris import plane_uri
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.certificates import Subject, ensure_authority, issue
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import InvalidInput, NotFound, Unavailable
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import TlsFiles, secure_channel
from skerry.wire.observations import report_to_proto
from tests.builders import a_deployment, a_report

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
PRICES = {"aws": 0.4, "fra": 0.1}
START_SECONDS_MAX = 60.0
HEARTBEAT_SECONDS = 0.2
# Twice the lease would lose a plane; the figure is wide for a machine that others share.
LATE_SECONDS_MAX = 3.0


class Planes:
    """Two planes of one pool each, that report once and then only beat."""

    def __init__(self, directory: Path, address: str, clock: Clock) -> None:
        self._directory = directory
        self._address = address
        self._clock = clock
        self.late_seconds_max = 0.0

    def tls(self, name: str) -> TlsFiles:
        """Return certificates that prove a party of the fleet."""
        authority = self._directory / "authority"
        ensure_authority(authority, "test", self._clock.now())
        uris = (plane_uri("default", name),)
        subject = Subject(name=name, uris=uris, dns_names=("localhost",), addresses=(HOST,))
        return issue(authority, self._directory / name, subject, self._clock.now())

    async def serve(self, name: str) -> None:
        """Be a plane until cancelled, and remember how late the control plane answered a beat."""
        async with secure_channel(self._address, self.tls(name)) as channel:
            stream = plane_service_pb2_grpc.PlaneLinkServiceStub(channel).Connect()
            observed = report_to_proto(a_report(name))
            hello = messages.Hello(project="default", observed=observed, agent_id="a")
            await stream.write(messages.ConnectRequest(hello=hello))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(stream))
                for number in range(1_000_000):
                    beat = messages.Heartbeat(number=number)
                    await stream.write(messages.ConnectRequest(heartbeat=beat))
                    await self._clock.sleep(HEARTBEAT_SECONDS)

    async def _listen(self, stream: Any) -> None:
        last = self._clock.monotonic()
        async for answer in stream:
            if answer.HasField("heartbeat"):
                now = self._clock.monotonic()
                self.late_seconds_max = max(self.late_seconds_max, now - last - HEARTBEAT_SECONDS)
                last = now


@contextlib.asynccontextmanager
async def a_control_plane(directory: Path) -> AsyncIterator[tuple[AsyncOperatorClient, Planes]]:
    """A control plane of its own process, two planes connected to it, and a client."""
    clock = SystemClock()
    operator, link, http = (f"{HOST}:{free_port(HOST)}" for _ in range(3))
    planes = Planes(directory, link, clock)
    tls = planes.tls("server")
    settings = directory / "settings.json"
    values = {
        "name": "cp",
        "database_url": f"sqlite:///{directory}/skerry.db",
        "operator_address": operator,
        "link_address": link,
        "http_address": http,
        "tls": {"ca": str(tls.ca), "certificate": str(tls.cert), "key": str(tls.key)},
        "scheduler": {
            "moves_max": 1,
            "region_latencies": [{"client_region": "eu", "plane_region": "fra", "milliseconds": 8}],
        },
    }
    settings.write_text(json.dumps(values))
    log = (directory / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "control_plane.main", "--settings", str(settings)),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        context = Context(endpoints=(operator,))
        async with AsyncOperatorClient(context, SystemIds(clock), "user:test") as client:
            await until(clock, lambda: answers(client))
            async with asyncio.TaskGroup() as group:
                beating = [group.create_task(planes.serve(name)) for name in PRICES]
                await until(clock, lambda: are_known(client))
                yield client, planes
                for task in beating:
                    task.cancel()
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
        log.close()


async def until(clock: Clock, look: Any) -> None:
    """Look until it is so."""
    async with asyncio.timeout(START_SECONDS_MAX):
        while not await look():
            await clock.sleep(0.1)


async def answers(client: AsyncOperatorClient) -> bool:
    """Say whether the control plane answers."""
    try:
        await client.list_planes()
    except Unavailable:
        return False
    return True


async def are_known(client: AsyncOperatorClient) -> bool:
    """Say whether every plane's pool is there."""
    return len(await client.list_pools()) == len(PRICES)


async def is_placed(client: AsyncOperatorClient) -> bool:
    """Say whether what was applied is placed."""
    return bool(await client.list_placements())


async def test_a_live_fleet_answers_and_hears_its_planes_all_the_while(tmp_path: Path) -> None:
    async with a_control_plane(tmp_path) as (client, planes):
        with pytest.raises(NotFound, match="deployment 'demo' does not exist"):
            await client.explain("demo")
        for plane, price in PRICES.items():
            await client.set_pool_terms(
                f"{plane}--cpu", PoolTerms(price_per_accelerator_hour=price)
            )
        tolerate = Tolerate(domain=FailureDomain.PLANE, keep=0.5)
        await client.apply(a_deployment(replicas=4, policy=PlacementPolicy(tolerate=tolerate)))
        await until(SystemClock(), lambda: is_placed(client))
        changes_before = await client.changes_since(0)

        found = await client.explain("demo")
        assert found.replicas == 4
        assert len(found.reasons) == 2
        there = await client.explain("demo", "aws--cpu")
        assert there.reasons[0] == "survives loss of any one plane (50% kept)"
        assert there.reasons[1].startswith("without this pool: ")

        lost = await client.what_if((Lose(domain=FailureDomain.PLANE, name="fra"),))
        assert [(m.from_pool, m.to_pool, m.replicas) for m in lost.moved] == [
            ("fra--cpu", "aws--cpu", 2)
        ]
        assert lost.cost_per_hour_after - lost.cost_per_hour_before == pytest.approx(0.6)
        assert lost.unplaced == ()
        harder = await client.what_if((ScaleDemand(factor=3.0), ScalePrice(factor=2.0)))
        assert [(u.deployment, u.replicas) for u in harder.unplaced] == [("demo", 4)]
        assert "would fit if" in harder.unplaced[0].reason

        matrix = {(loss.domain, loss.name): loss for loss in await client.survive()}
        assert set(matrix) == {
            *((FailureDomain.PLANE, name) for name in PRICES),
            *((FailureDomain.REGION, f"{name}/{name}") for name in PRICES),
            *((FailureDomain.CLOUD, name) for name in PRICES),
        }
        fra = matrix[FailureDomain.PLANE, "fra"]
        assert fra.holds
        (survivor,) = fra.survivors
        assert (survivor.wanted, survivor.left, survivor.promised) == (4.0, 2.0, 2.0)

        plan = await client.get_plan()
        assert {p.pool: p.replicas_after for p in plan.placements} == {"aws--cpu": 2, "fra--cpu": 2}
        assert {level.level for level in plan.levels} >= {"unmet-class-1", "survival", "cost"}

        with pytest.raises(NotFound, match="there are aws, fra"):
            await client.what_if((Lose(domain=FailureDomain.PLANE, name="mars"),))
        with pytest.raises(InvalidInput, match="from 0 to"):
            await client.what_if((ScalePrice(factor=float("nan")),))
        assert await client.changes_since(0) == changes_before, "questions change nothing"
        assert planes.late_seconds_max < LATE_SECONDS_MAX
