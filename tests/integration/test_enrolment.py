"""Planes join, renew and are put out: the control plane's ports over real TLS, on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from control_plane.api.access.attempts import FAILURES_AT_ONCE
from control_plane.link.enrolment import Enrolment, EnrolmentParts, Issuer
from control_plane.link.join_port import serve_join_port
from control_plane.link.registry import Registry
from control_plane.link.service import PlaneLink
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.store.engine import open_database
from control_plane.store.joining import create_plane_invite, revoke_plane
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.schema import upgrade
from skerry.api.plane.v1 import enrolment_pb2_grpc, plane_service_pb2_grpc
from skerry.client.enrolment import (
    Door,
    certificate_times,
    identity_files,
    join,
    rejoin,
    renew,
)
from skerry.fleet.joining import (
    JoinToken,
    PlaneIdentity,
    PlaneInvite,
    digest_of_proof,
    parse_token,
    proof_text,
    token_text,
)
from skerry.fleet.party_uris import Naming, UriForm, plane_uri
from skerry.plumbing.certificate_requests import ensure_key, issuer_der
from skerry.plumbing.certificates import Subject, create_authority, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import (
    Denied,
    Exhausted,
    Infeasible,
    NotLeading,
    Unauthenticated,
    Unavailable,
)
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import fixed_port
from skerry.plumbing.rpc import (
    LINK_SERVER_OPTIONS,
    ErrorInterceptor,
    TlsFiles,
    secure_channel,
    server_credentials,
)
from skerry.plumbing.tasks import beside
from tests.fakes.clock import FakeClock
from tests.integration.test_plane_link import hello
from workload_plane.link.renewal import Member, Renewal
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

pytestmark = pytest.mark.integration
HOST = "127.0.0.1"
NAME = CONTROL_PLANE_SERVER_NAME
LIFE_SECONDS = 3_600.0
PATIENCE_SECONDS = 20.0
Stub = plane_service_pb2_grpc.PlaneLinkServiceStub


class Gate:
    """A control plane's link and join ports; its clock is the test's, which begins at `now`."""

    def __init__(self, folder: Path, now: datetime) -> None:
        """Make the authority, the control plane's certificate and an empty store."""
        self.folder = folder
        self.clock = FakeClock(now)
        self.authority = folder / "authority"
        create_authority(self.authority, "test", now - timedelta(days=1))
        self.tls = self.party(NAME)
        upgrade(f"sqlite:///{folder / 'skerry.db'}")
        self.database = open_database(f"sqlite:///{folder / 'skerry.db'}")
        self.registry = Registry(self.clock, lambda: None)
        self.epoch = 0
        self.link_address = self.join_address = ""

    @property
    def door(self) -> Door:
        """Where planes join."""
        return Door(addresses=[self.join_address], server_name=NAME)

    def party(self, name: str) -> TlsFiles:
        """Certificates of a party that nobody invited."""
        subject = Subject(name=name, dns_names=(name, "localhost"), addresses=(HOST,))
        return issue(self.authority, self.folder / name, subject, SystemClock().now())

    def write(self) -> WriteContext:
        """The right to write, now."""
        return WriteContext(epoch=self.epoch, actor="user:root", now=self.clock.now())

    async def invite(self, plane: str) -> JoinToken:
        """Invite a plane for an hour and return its token."""
        proof = proof_text(plane, f"{plane:s>43}"[:43])
        now = self.clock.now()
        made = PlaneInvite(
            plane=plane, creator="user:root", created_at=now, expires_at=now + timedelta(hours=1)
        )
        digest = digest_of_proof(proof)
        await self.database.run(create_plane_invite, self.write(), made, digest, "")
        return parse_token(token_text(proof, issuer_der(self.tls.cert, self.tls.ca)))

    async def joined(self, plane: str) -> TlsFiles:
        """Let a plane join and return its files."""
        files = identity_files(self.folder / plane)
        await join(self.door, await self.invite(plane), files)
        return files

    async def revoke(self, plane: str) -> None:
        """Put a plane out, as the operator API does."""
        self.registry.identities.put(await self.database.run(revoke_plane, self.write(), plane, ""))


def uris_of(files: TlsFiles) -> list[str]:
    """Return the URIs in a party's certificate."""
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


async def ending(stream: Any) -> grpc.aio.AioRpcError:
    """Return how a stream ends."""
    try:
        while await stream.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the stream ended well")


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait, in real time, until something holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await SystemClock().sleep(0.02)


@asynccontextmanager
async def a_gate(
    folder: Path,
    *,
    behind: timedelta = timedelta(),
    issues: bool = True,
    form: UriForm = UriForm.SKERRY,
) -> AsyncIterator[Gate]:
    """Both ports of a control plane that leads, its clock behind the real one."""
    gate = Gate(folder, SystemClock().now() - behind)
    gate.epoch = await gate.database.run(take_leadership, "cp-1", gate.clock.now())
    issuer = Issuer(
        authority=gate.authority, naming=Naming(project="default", form=form), seconds=LIFE_SECONDS
    )
    enrolment = Enrolment(
        EnrolmentParts(
            database=gate.database,
            identities=gate.registry.identities,
            issuer=issuer if issues else None,
            clock=gate.clock,
            epoch=lambda: gate.epoch,
            refusal=lambda: NotLeading("another one leads"),
        )
    )
    gate.join_address = f"{HOST}:{fixed_port(HOST)}"
    joining = await serve_join_port(enrolment, gate.tls, gate.join_address)
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=LINK_SERVER_OPTIONS)
    link = PlaneLink(
        gate.registry,
        ReconcilePolicy(),
        gate.clock,
        name="cp",
        epoch=gate.epoch,
        trust_domain="skerry",
    )
    plane_service_pb2_grpc.add_PlaneLinkServiceServicer_to_server(link, server)
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(enrolment, server)
    port = server.add_secure_port(f"{HOST}:0", server_credentials(gate.tls))
    gate.link_address = f"{HOST}:{port}"
    await server.start()
    try:
        yield gate
    finally:
        await joining.stop(None)
        await server.stop(None)
        gate.database.close()


async def test_who_was_invited_makes_a_key_joins_and_is_linked(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate:
        files = await gate.joined("fra")
        assert files.key.stat().st_mode & 0o777 == 0o600
        ends_at = certificate_times(files.cert).ends_at
        assert abs(ends_at - gate.clock.now()) < timedelta(seconds=LIFE_SECONDS + 2)
        async with secure_channel(gate.link_address, files, server_name=NAME) as channel:
            stream = Stub(channel).Connect()
            await stream.write(hello("fra"))
            assert (await stream.read()).welcome.control_plane == "cp"
            stream.cancel()
            await renew(channel, "default", "fra", files)


async def test_planes_get_spiffe_ids_where_that_is_set_and_those_of_before_go_on(
    tmp_path: Path,
) -> None:
    async with a_gate(tmp_path, form=UriForm.SPIFFE) as gate:
        files, others = await gate.joined("fra"), await gate.joined("aws")
        subject = Subject(name="plane", uris=(plane_uri("default", "aws"),))
        old = issue(gate.authority, tmp_path / "old", subject, gate.clock.now())
        for plane, shown, owned in (("fra", files, files), ("aws", old, others)):
            async with secure_channel(gate.link_address, shown, server_name=NAME) as channel:
                await renew(channel, "default", plane, owned)
            assert uris_of(owned) == [f"spiffe://skerry/project/default/plane/{plane}"]
        async with secure_channel(gate.link_address, files, server_name=NAME) as channel:
            stream = Stub(channel).Connect()
            await stream.write(hello("fra"))
            assert (await stream.read()).welcome.control_plane == "cp"
            posing = Stub(channel).Connect()
            await posing.write(hello("aws"))
            error = await ending(posing)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_token_opens_once_and_the_same_machine_may_repeat_it(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate:
        token = await gate.invite("fra")
        files = identity_files(tmp_path / "fra")
        await join(gate.door, token, files)
        with pytest.raises(Unauthenticated, match="opens nothing"):
            await join(gate.door, token, identity_files(tmp_path / "thief"))
        assert not identity_files(tmp_path / "thief").cert.exists()


async def test_nobody_is_shown_a_token_who_is_not_of_the_authority_in_it(tmp_path: Path) -> None:
    # Trust on first use would send the proof to whoever answers.
    async with a_gate(tmp_path) as gate:
        token = await gate.invite("fra")
        other = create_authority(tmp_path / "other", "test", SystemClock().now())
        foreign = issuer_der(other, other)
        files = identity_files(tmp_path / "fra")
        with pytest.raises(Unavailable):
            await join(gate.door, replace(token, authority=foreign), files)
        posing = Door(addresses=[gate.join_address], server_name="somebody.else")
        with pytest.raises(Unavailable):
            await join(posing, token, files)
        await join(gate.door, token, files)


async def test_who_guesses_is_sent_away_and_others_still_join(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate:
        token = await gate.invite("fra")
        wrong = replace(token, proof=proof_text("fra", "x" * 43))
        for _ in range(FAILURES_AT_ONCE):
            with pytest.raises(Unauthenticated):
                await join(gate.door, wrong, identity_files(tmp_path / "guess"))
        with pytest.raises(Exhausted) as caught:
            await join(gate.door, wrong, identity_files(tmp_path / "guess"))
        assert caught.value.retry_after_seconds == 1.0
        gate.clock.advance(2.0)
        await join(gate.door, token, identity_files(tmp_path / "fra"))


async def test_a_revoked_plane_loses_its_stream_and_gets_no_other(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate:
        files = await gate.joined("fra")
        async with secure_channel(gate.link_address, files, server_name=NAME) as channel:
            stream = Stub(channel).Connect()
            await stream.write(hello("fra"))
            await stream.read()
            await gate.revoke("fra")
            another = Stub(channel).Connect()
            await another.write(hello("fra"))
            for refused in (stream, another):
                error = await ending(refused)
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                assert "was revoked" in str(error.details())
            with pytest.raises(Denied, match="was revoked"):
                await renew(channel, "default", "fra", files)
        with pytest.raises(Denied, match="was revoked"):
            await rejoin(gate.door, "default", "fra", files)


async def test_a_revoked_plane_without_an_invitation_stays_out_too(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate:
        uri = ("skerry://projects/default/planes/fra",)
        subject = Subject(name="fra", uris=uri, dns_names=("fra",))
        files = issue(gate.authority, tmp_path / "made", subject, gate.clock.now())
        gate.registry.identities.load([PlaneIdentity(plane="fra", revoked_at=gate.clock.now())])
        async with secure_channel(gate.link_address, files, server_name=NAME) as channel:
            stream = Stub(channel).Connect()
            await stream.write(hello("fra"))
            error = await ending(stream)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_whose_certificate_has_ended_comes_back_by_its_key(tmp_path: Path) -> None:
    behind = timedelta(seconds=2 * LIFE_SECONDS)
    async with a_gate(tmp_path, behind=behind) as gate:
        files = await gate.joined("fra")
        assert certificate_times(files.cert).ends_at < SystemClock().now()
        async with secure_channel(gate.link_address, files, server_name=NAME) as channel:
            with pytest.raises(Unavailable):  # the link does not look at what has ended
                await renew(channel, "default", "fra", files)
        gate.clock.advance(behind.total_seconds())
        key = files.key.read_bytes()
        await rejoin(gate.door, "default", "fra", files)
        assert files.key.read_bytes() == key
        async with secure_channel(gate.link_address, files, server_name=NAME) as channel:
            await renew(channel, "default", "fra", files)


async def test_an_agent_that_was_away_too_long_comes_back_by_itself(tmp_path: Path) -> None:
    async with a_gate(tmp_path, behind=timedelta(seconds=2 * LIFE_SECONDS)) as gate:
        files = await gate.joined("fra")
        first = certificate_times(files.cert).ends_at
        member = Member(project="default", plane="fra", files=files, door=gate.door)
        renewal = Renewal(member, lambda: None, gate.clock, SystemIds(gate.clock))
        async with beside(renewal.run()):
            gate.clock.advance(0.6 * LIFE_SECONDS)
            await eventually(lambda: "no control plane is linked" in renewal.last_error)
            gate.clock.advance(LIFE_SECONDS)
            await eventually(lambda: certificate_times(files.cert).ends_at > first)


async def test_another_key_or_another_planes_certificate_renews_nothing(tmp_path: Path) -> None:
    async with a_gate(tmp_path) as gate:
        files, others = await gate.joined("fra"), await gate.joined("aws")
        async with secure_channel(gate.link_address, others, server_name=NAME) as channel:
            with pytest.raises(Denied, match="not one of"):
                await renew(channel, "default", "fra", files)
        stolen = replace(files, key=tmp_path / "new.key")
        ensure_key(stolen.key)
        with pytest.raises(Denied, match="another key"):
            await rejoin(gate.door, "default", "fra", stolen)
        with pytest.raises(Denied, match="not joined by invitation"):
            await rejoin(gate.door, "default", "gcp", files)


async def test_a_standby_says_so_and_one_without_an_authority_what_to_do(tmp_path: Path) -> None:
    async with a_gate(tmp_path, issues=False) as gate:
        token = await gate.invite("fra")
        with pytest.raises(Infeasible, match="issues no certificates"):
            await join(gate.door, token, identity_files(tmp_path / "fra"))
        gate.epoch = 0
        with pytest.raises(NotLeading):
            await join(gate.door, token, identity_files(tmp_path / "fra"))
