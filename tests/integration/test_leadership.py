"""A control plane of its own process that loses leadership, or is told to stop, says so first."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.store.engine import open_database
from control_plane.store.leadership import take_leadership
from skerry.plumbing.certificates import Subject, ensure_authority, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import insecure_channel

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
SECONDS_MAX = 60.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextlib.asynccontextmanager
async def a_control_plane(directory: Path) -> AsyncIterator[tuple[Any, dict[str, str]]]:
    """Yield the process and its addresses."""
    clock = SystemClock()
    authority = directory / "authority"
    ensure_authority(authority, "test", clock.now())
    subject = Subject(name="server", uris=(), dns_names=("localhost",), addresses=(HOST,))
    tls = issue(authority, directory / "server", subject, clock.now())
    ports = {
        f"{port}_address": f"{HOST}:{free_port(HOST)}" for port in ("operator", "link", "http")
    }
    url = f"sqlite:///{directory}/skerry.db"
    files = {"ca": str(tls.ca), "certificate": str(tls.cert), "key": str(tls.key)}
    settings = directory / "settings.json"
    settings.write_text(json.dumps({"name": "cp", "database_url": url, "tls": files, **ports}))
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "control_plane.main", "--settings", str(settings)),
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process, {**ports, "database_url": url}
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def statuses(address: str, started: asyncio.Event) -> list[int]:
    """Return what a Watch heard until its stream ended."""
    heard = []
    async with insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for answer in stub.Watch(
                health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=SECONDS_MAX
            ):
                heard.append(answer.status)
                started.set()
    return heard


@pytest.mark.parametrize("how", ["deposed", "told to stop"])
async def test_not_serving_is_said_before_the_ports_close(tmp_path: Path, how: str) -> None:
    async with asyncio.timeout(SECONDS_MAX), a_control_plane(tmp_path) as (process, at):
        started = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(statuses(at["operator_address"], started))
            await started.wait()
            if how == "deposed":
                database = open_database(at["database_url"])
                await database.run(take_leadership, "cp-2", SystemClock().now())
                database.close()
            else:
                process.send_signal(signal.SIGTERM)
            code = await process.wait()
        assert watch.result() == [SERVING, NOT_SERVING]
        assert (code == 0) == (how == "told to stop")


async def test_the_same_api_answers_as_json_at_the_http_address(tmp_path: Path) -> None:
    async with asyncio.timeout(SECONDS_MAX), a_control_plane(tmp_path) as (_, at):
        clock = SystemClock()
        async with aiohttp.ClientSession(f"http://{at['http_address']}") as session:
            status = 0
            while status != 200:
                await clock.sleep(0.1)
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with session.post(
                        "/skerry.api.operator.v1.OperatorService/ListChanges",
                        json={"parent": "projects/default"},
                    ) as response:
                        status, told = response.status, await response.json()
        assert told["changes"][0]["kind"] == "leadership.taken"
