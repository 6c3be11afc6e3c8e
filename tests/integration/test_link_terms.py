"""The first plane of a large fleet is welcomed with its terms, by a leader that just began."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.reconcile.policy import (
    LARGE_FLEET_PERIOD_SECONDS,
    LARGE_FLEET_PLANES,
    LARGE_FLEET_TIMEOUT_SECONDS,
)
from control_plane.store.engine import open_database
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.planes import record_report
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.fleet.party_uris import plane_uri
from skerry.plumbing.certificates import Subject, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.rpc import TlsFiles, secure_channel
from tests.builders import a_report
from tests.empty_store import make_empty_store
from tests.integration.test_leadership import a_control_plane
from tests.integration.test_plane_link import hello

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

PLANES = LARGE_FLEET_PLANES + 1
PATIENCE_SECONDS = 60.0


def store_planes(path: Path) -> None:
    database, now = open_database(make_empty_store(path)), SystemClock().now()
    try:
        with database.write() as session:
            epoch = take_leadership(session, "before", now)
            write = WriteContext(epoch=epoch, actor="plane", now=now)
            for number in range(PLANES):
                record_report(session, write, a_report(f"p{number:04d}", pools=()))
    finally:
        database.close()


async def first_welcome(address: str, tls: TlsFiles) -> messages.Welcome:
    """Call until the port is there: before the leader has judged anything, then."""
    async with asyncio.timeout(PATIENCE_SECONDS), secure_channel(address, tls) as channel:
        stub: Any = plane_service_pb2_grpc.PlaneLinkServiceStub(channel)
        while True:
            stream = stub.Connect(wait_for_ready=True)
            try:
                await stream.write(hello("p0000"))
                answer: messages.ConnectResponse = await stream.read()
                return answer.welcome
            except grpc.aio.AioRpcError:
                continue
            finally:
                stream.cancel()


async def test_the_first_plane_of_a_large_fleet_is_welcomed_with_its_terms(tmp_path: Path) -> None:
    await asyncio.to_thread(store_planes, tmp_path / "skerry.db")
    async with a_control_plane(tmp_path) as (_, at):
        subject = Subject(
            name="p0000",
            uris=(plane_uri("default", "p0000"),),
            dns_names=("localhost",),
            addresses=("127.0.0.1",),
        )
        tls = issue(tmp_path / "authority", tmp_path / "p0000", subject, SystemClock().now())
        welcome = await first_welcome(at["link_address"], tls)
    assert welcome.heartbeat_period_ms == LARGE_FLEET_PERIOD_SECONDS * 1000
    assert welcome.heartbeat_timeout_ms == LARGE_FLEET_TIMEOUT_SECONDS * 1000
