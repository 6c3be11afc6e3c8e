"""What a peer tells of its load is believed up to a bound, however it is sent."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from skerry.plumbing.certificates import Subject, create_authority, issue
from skerry.plumbing.clock import SystemClock
from workload_plane.picker.facts import PeerLoad
from workload_plane.picker.peer_loads import Loads, PeerLoads, parse_loads
from workload_plane.picker.wire import LOAD_PATH

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
CLOCK = SystemClock()
TOLD = b'{"chat": {"in_flight_min": 2, "ready": 1}}'


@pytest.mark.parametrize(
    "told",
    [
        b'{"chat": {"in_flight_min": 1e999, "ready": 1}}',
        b'{"chat": {"in_flight_min": 2, "ready": -1}}',
        b'{"chat": {"in_flight_min": 2, "ready": ' + b"9" * 400 + b"}}",
        b'{"chat": {"in_flight_min": "2", "ready": true}}',
        b'{"chat": {"in_flight_min": 2}}',
        b'{"chat": []}',
        b"[]",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_whatever_else_a_peer_tells_is_no_load_and_ends_no_picker(told: bytes) -> None:
    with pytest.raises(ValueError, match="not a peer's loads"):
        parse_loads(told)


@pytest.mark.parametrize(
    ("padding", "known"), [(0, {"chat": PeerLoad(2, 1)}), (2 * 1024 * 1024, None)]
)
async def test_an_answer_of_untold_length_is_read_up_to_a_bound(
    padding: int, known: Loads, tmp_path: Path
) -> None:
    create_authority(tmp_path / "ca", "test", CLOCK.now())
    tls = issue(tmp_path / "ca", tmp_path, Subject(name="b", dns_names=("b",)), CLOCK.now())

    async def tell(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(TOLD + b" " * padding)
        return answer

    application = web.Application()
    application.router.add_get(LOAD_PATH, tell)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.cert, tls.key)
    await web.TCPSite(runner, HOST, 0, ssl_context=context).start()
    address = f"{HOST}:{runner.addresses[0][1]}"
    answers: asyncio.Queue[tuple[str, Loads]] = asyncio.Queue()
    try:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            loads = PeerLoads(session, tls, CLOCK)
            follower = group.create_task(
                loads.follow(lambda: {"b": address}, lambda *told: answers.put_nowait(told))
            )
            assert await asyncio.wait_for(answers.get(), 10.0) == ("b", known)
            follower.cancel()
    finally:
        await runner.cleanup()
