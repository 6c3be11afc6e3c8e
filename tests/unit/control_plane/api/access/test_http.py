"""The JSON port: the same credentials, judged by the same door."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from control_plane.access_settings import OperatorAccessSettings
from control_plane.api.http_gateway import HttpGateway
from control_plane.api.serving import operator_services
from control_plane.http import http_application, serve_http
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import insecure_channel
from tests.unit.control_plane.api.access.credentials import BOOTSTRAP, SECRET, written
from tests.unit.control_plane.api.conftest import running_operator

pytestmark = pytest.mark.integration


@pytest.fixture
async def session(tmp_path: Path, empty_store: Path) -> AsyncIterator[aiohttp.ClientSession]:
    access = OperatorAccessSettings(required=True, bootstrap_token_file=written(tmp_path))
    async with running_operator(tmp_path, empty_store, access) as operator:
        gateway = HttpGateway(insecure_channel(operator.address), operator_services())
        address = f"127.0.0.1:{free_port('127.0.0.1')}"
        runner = await serve_http(http_application(lambda: "", gateway), address)
        async with aiohttp.ClientSession(f"http://{address}") as session:
            yield session
        await runner.cleanup()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-Skerry-Actor": "user:root"}, 401),
        ({"Authorization": f"Bearer skt_ci_{SECRET}"}, 401),
        ({"Authorization": "Bearer \u00fc"}, 401),
        ({"Authorization": "Basic eDp5"}, 401),
        ({"Authorization": f"Bearer {BOOTSTRAP}"}, 200),
        ({"Authorization": f"bearer {BOOTSTRAP}"}, 200),
    ],
)
async def test_json_is_answered_to_who_shows_a_credential(
    session: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    for service in operator_services():
        for method in service.methods:
            if not method.name.startswith("List"):
                continue
            path = f"/{service.full_name}/{method.name}"
            is_in_a_project = "parent" in method.input_type.fields_by_name
            body = {"parent": "projects/default"} if is_in_a_project else {}
            async with session.post(path, json=body, headers=headers) as response:
                told = await response.text()
                wanted = (status, 400) if method.name == "ListRevisions" else (status,)
                assert response.status in wanted, told
                assert SECRET not in told


async def test_a_credential_may_not_claim_another_name(session: aiohttp.ClientSession) -> None:
    path = "/skerry.api.operator.v1.CatalogueService/Cordon"
    headers = {"Authorization": f"Bearer {BOOTSTRAP}", "X-Skerry-Actor": "user:root"}
    body = {"name": "projects/default/planes/x"}
    async with session.post(path, json=body, headers=headers) as response:
        assert response.status == 403
        assert "leave x-skerry-actor out" in await response.text()


async def test_health_and_metrics_ask_nobody(session: aiohttp.ClientSession) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        async with session.get(path) as response:
            assert response.status == 200
