"""The operators' port by TLS, with a real control plane: who believes whom, what is plaintext."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio

from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.cli.supervisor.parts import start_part
from skerry.cli.supervisor.preparation import Choices, prepare
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.supervisor.stopping import stop_fleet
from skerry.client.async_operator import AsyncOperatorClient
from skerry.client.context import Context
from skerry.client.operator import OperatorClient
from skerry.client.retrying import NO_RETRIES
from skerry.plumbing.certificates import ensure_authority
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import InvalidInput, Unavailable
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.rpc import insecure_channel

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOCK = SystemClock()
SECONDS_MAX = 60.0
PARENT = {"parent": "projects/default"}
LIST_PLANES = "/skerry.api.operator.v1.OperatorService/ListPlanes"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[DataDirectory, Layout]]:
    directory = DataDirectory(tmp_path_factory.mktemp("fleet"))
    layout = prepare(directory, 1, "simulated", CLOCK.now(), os.environ, Choices(tls=True))
    key = PartKey(role=Role.CONTROL_PLANE)
    record = start_part(directory, key)
    assert record is not None
    try:
        await until_answered(fleet_context(directory, layout))
        yield directory, layout
    finally:
        await stop_fleet(directory, {key: record}, CLOCK)


async def until_answered(context: Context) -> None:
    async with a_client(context) as client, asyncio.timeout(SECONDS_MAX):
        while True:
            with contextlib.suppress(Unavailable):
                await client.list_planes()
                return
            await CLOCK.sleep(0.1)


def a_client(context: Context) -> AsyncOperatorClient:
    return AsyncOperatorClient(context, SystemIds(CLOCK), "user:test", retries=NO_RETRIES)


async def refusal(context: Context) -> None:
    async with a_client(context) as client:
        with pytest.raises(Unavailable):
            await client.list_planes()


async def test_who_trusts_the_fleets_authority_is_answered(
    served: tuple[DataDirectory, Layout],
) -> None:
    context = fleet_context(*served)
    async with a_client(context) as client:
        assert await client.list_planes() == ()

    def blocking() -> tuple[Any, ...]:
        with OperatorClient(context, SystemIds(CLOCK), "user:test") as client:
            return client.list_planes()

    assert await asyncio.to_thread(blocking) == ()


async def test_how_long_its_certificate_lasts_is_among_the_metrics(
    served: tuple[DataDirectory, Layout],
) -> None:
    address = served[1].control_planes[0].http_address
    async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    (line,) = [one for one in lines if one.startswith("skerry_operator_certificate_left_seconds ")]
    assert float(line.split()[1]) > 86_400


async def test_a_token_is_not_told_in_plaintext_nor_to_who_is_no_control_plane(
    served: tuple[DataDirectory, Layout], tmp_path: Path
) -> None:
    context = fleet_context(*served)
    await refusal(replace(context, ca_file=None))
    other = ensure_authority(tmp_path, "another", CLOCK.now())
    await refusal(replace(context, ca_file=other))
    # A plane of the fleet could listen on loopback, but has no certificate of that name.
    await refusal(replace(context, server_name="plane.skerry.internal"))
    with pytest.raises(InvalidInput, match="caFile"):
        a_client(replace(context, ca_file=tmp_path / "none"))


async def test_the_port_itself_has_no_plaintext(served: tuple[DataDirectory, Layout]) -> None:
    async with insecure_channel(served[1].operator_address) as channel:
        call: Any = channel.unary_unary(LIST_PLANES)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", timeout=10.0)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_json_on_loopback_answers_as_before(served: tuple[DataDirectory, Layout]) -> None:
    directory, layout = served
    url = f"http://{layout.control_planes[0].http_address}{LIST_PLANES}"
    token = directory.operator_token.read_text().strip()
    async with aiohttp.ClientSession() as http:
        async with http.post(url, json={}) as answer:
            assert answer.status == 401, await answer.text()
        headers = {"authorization": f"Bearer {token}"}
        async with http.post(url, json=PARENT, headers=headers) as answer:
            assert (answer.status, await answer.json()) == (200, {})


async def test_the_dashboard_signs_in_by_the_plaintext_of_its_own_process(
    served: tuple[DataDirectory, Layout],
) -> None:
    directory, layout = served
    url = f"http://{layout.control_planes[0].dashboard_address}"
    token = directory.operator_token.read_text().strip()
    jar = aiohttp.CookieJar(unsafe=True)  # its address is a number
    async with aiohttp.ClientSession(cookie_jar=jar, headers={"Origin": url}) as http:
        async with http.post(f"{url}/login", data={"token": f"{token}x"}) as answer:
            assert answer.status == 401
        async with http.get(f"{url}/timeline") as answer:
            assert answer.status == 401
        async with http.post(f"{url}/login", data={"token": token}) as answer:
            assert (answer.status, answer.url.path) == (200, "/")
        async with http.get(f"{url}/timeline") as answer:
            page = await answer.text()
            assert answer.status == 200, page
    assert "<h1>Timeline</h1>" in page
    assert "Not current" not in page, "the operator API answered, though its port is TLS"
