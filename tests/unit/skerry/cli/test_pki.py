"""The fleet's certificates: who may be the control plane, and that they are renewed in time."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.cli.supervisor.layout import DataDirectory, Layout, extend_layout
from skerry.cli.supervisor.pki import FleetPki, ensure_pki, is_renewal_due
from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import PlaneReport
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.rpc import SERVER_OPTIONS, TlsFiles, server_credentials
from tests.builders import a_report
from workload_plane.autoscale.history import KeptDecision
from workload_plane.desired_state.accept import Refuse
from workload_plane.link.client import LinkClient
from workload_plane.link.connection import LinkSettings
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PATIENCE_SECONDS = 10.0


def a_layout(planes: int = 2) -> Layout:
    """Return a layout with made-up ports."""
    ports = itertools.count(20_000)
    return extend_layout(None, planes, "llamacpp", lambda: next(ports))


def names_of(tls: TlsFiles) -> set[str]:
    """Return the DNS names in a certificate."""
    certificate = x509.load_pem_x509_certificate(tls.cert.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names.get_values_for_type(x509.DNSName))


def test_only_the_control_plane_carries_the_name_that_the_link_asks_for(tmp_path: Path) -> None:
    pki = ensure_pki(DataDirectory(tmp_path), a_layout(), NOW)
    assert CONTROL_PLANE_SERVER_NAME in names_of(pki.control_plane)
    assert len(pki.planes) == 2
    for tls in pki.planes.values():
        assert CONTROL_PLANE_SERVER_NAME not in names_of(tls)


def uri_of(tls: TlsFiles) -> str:
    """Return the one URI in a certificate."""
    certificate = x509.load_pem_x509_certificate(tls.cert.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return str(uri)


def test_a_new_fleet_has_spiffe_ids_and_one_of_before_keeps_its_uris_until_it_is_told(
    tmp_path: Path,
) -> None:
    new, before = DataDirectory(tmp_path / "new"), DataDirectory(tmp_path / "before")
    (plane,) = ensure_pki(new, a_layout(1), NOW).planes.values()
    assert uri_of(plane) == f"spiffe://skerry/project/default/plane/{plane.cert.stem}"
    settings = before.control_plane / "settings.json"
    settings.parent.mkdir(parents=True)
    for told, expected in (
        ({"joining": {"certificate_seconds": 60}}, "skerry://projects/default/planes/"),
        (
            {"joining": {"certificate_uri": "spiffe"}, "trust_domain": "acme.example"},
            "spiffe://acme.example/project/default/plane/",
        ),
    ):
        settings.write_text(json.dumps(told))
        (plane,) = ensure_pki(before, a_layout(1), NOW).planes.values()
        assert uri_of(plane) == f"{expected}{plane.cert.stem}"
    settings.write_text(json.dumps({"joining": {"certificate_uri": "urn"}}))
    with pytest.raises(InvalidInput, match=r"settings\.json are wrong"):
        ensure_pki(before, a_layout(1), NOW)


def test_the_certificates_are_looked_at_at_the_start_and_once_a_day() -> None:
    assert is_renewal_due(None, NOW)
    assert not is_renewal_due(NOW, NOW + timedelta(hours=23))
    assert is_renewal_due(NOW, NOW + timedelta(days=1))
    assert is_renewal_due(NOW, NOW - timedelta(seconds=1)), "the clock was set back"


def test_a_look_renews_every_certificate_past_half_its_life_and_no_other(tmp_path: Path) -> None:
    directory, layout = DataDirectory(tmp_path), a_layout()

    def held(pki: FleetPki) -> list[bytes]:
        return [tls.cert.read_bytes() for tls in (pki.control_plane, *pki.planes.values())]

    first = held(ensure_pki(directory, layout, NOW))
    assert held(ensure_pki(directory, layout, NOW + timedelta(days=14))) == first
    renewed = held(ensure_pki(directory, layout, NOW + timedelta(days=16)))
    assert all(new != old for new, old in zip(renewed, first, strict=True))


class _Answers(plane_service_pb2_grpc.PlaneLinkServiceServicer):
    """Welcomes whoever comes."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def Connect(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        self.asked.set()
        yield messages.ConnectResponse(
            welcome=messages.Welcome(
                epoch=1, heartbeat_period_ms=1000, heartbeat_timeout_ms=3000, control_plane="x"
            )
        )
        await asyncio.Event().wait()


@asynccontextmanager
async def a_server(tls: TlsFiles) -> AsyncIterator[tuple[str, _Answers]]:
    """Serve the link with somebody's certificate; yields the address."""
    service = _Answers()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    plane_service_pb2_grpc.add_PlaneLinkServiceServicer_to_server(service, server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(tls))
    await server.start()
    try:
        yield f"127.0.0.1:{port}", service
    finally:
        await server.stop(None)


class _Side:
    """A plane with nothing to tell."""

    planes = 1
    evidence = None

    def report(self) -> PlaneReport:
        return a_report("aws-us-east-1")

    def loads(self) -> LoadReport:
        return LoadReport()

    def decisions_after(self, number: int) -> tuple[KeptDecision, ...]:
        return ()

    async def stored(self) -> bytes:
        return b""

    async def offer(self, payload: bytes) -> DesiredState | Refuse:
        raise AssertionError("nothing is offered")


@asynccontextmanager
async def a_link(tls: TlsFiles, address: str) -> AsyncIterator[LinkClient]:
    """Keep a link to the address as whoever owns the certificate."""
    clock = SystemClock()
    settings = LinkSettings(control_planes=(address,), tls=tls, project="default", agent_id="a")
    link = LinkClient(settings, _Side(), asyncio.Event(), clock, SystemIds(clock))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(link.run())
        yield link
        running.cancel()


@pytest.mark.integration
@pytest.mark.parametrize("is_impostor", [False, True])
async def test_a_plane_cannot_pose_as_the_control_plane(tmp_path: Path, is_impostor: bool) -> None:
    clock = SystemClock()
    pki = ensure_pki(DataDirectory(tmp_path), a_layout(), clock.now())
    own, other = pki.planes.values()
    serving = other if is_impostor else pki.control_plane
    async with a_server(serving) as (address, service), a_link(own, address) as link:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not link.last_error and not service.asked.is_set():
                await clock.sleep(0.01)
        assert service.asked.is_set() is not is_impostor
