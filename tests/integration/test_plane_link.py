"""The control plane's end of the link, over real mTLS streams on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from control_plane.link import admission
from control_plane.link.convert import encode_desired
from control_plane.link.registry import Registry
from control_plane.link.service import PlaneLink
from control_plane.reconcile.policy import ReconcilePolicy
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.party_uris import plane_uri
from skerry.plumbing.certificates import Subject, ensure_authority, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Exhausted
from skerry.plumbing.rpc import (
    LINK_SERVER_OPTIONS,
    ErrorInterceptor,
    TlsFiles,
    from_rpc_error,
    secure_channel,
    server_credentials,
)
from skerry.plumbing.tasks import beside
from skerry.wire.observations import report_to_proto
from skerry.wire.supply import version_to_proto
from tests.builders import a_report
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

pytestmark = pytest.mark.integration
PATIENCE_SECONDS = 10.0
USUAL = ReconcilePolicy()
Stub = plane_service_pb2_grpc.PlaneLinkServiceStub


class Bench:
    """A link server with its registry, and certificates for planes."""

    def __init__(self, directory: Path) -> None:
        self.clock = SystemClock()
        self.woken = asyncio.Event()
        self.registry = Registry(self.clock, self.woken.set)
        self._authority = directory / "authority"
        self._directory = directory
        ensure_authority(self._authority, "test", self.clock.now())
        self.address = ""

    def tls(self, name: str) -> TlsFiles:
        """Certificates of a plane."""
        return self.tls_of(self._authority, name)

    def tls_of(self, authority: Path, name: str) -> TlsFiles:
        """Certificates of a plane, of another authority."""
        subject = Subject(
            name=name,
            uris=(plane_uri("default", name),),
            dns_names=("localhost", CONTROL_PLANE_SERVER_NAME),
            addresses=("127.0.0.1",),
        )
        return issue(authority, self._directory / name, subject, self.clock.now())

    def stub(
        self, name: str
    ) -> tuple[grpc.aio.Channel, plane_service_pb2_grpc.PlaneLinkServiceStub]:
        """A client that proves itself as plane `name`."""
        channel = secure_channel(self.address, self.tls(name))
        return channel, Stub(channel)

    async def wait_for_wake(self) -> None:
        """Wait until the registry has something new for the loop."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.woken.wait()
        self.woken.clear()


@asynccontextmanager
async def a_bench(directory: Path, policy: ReconcilePolicy = USUAL) -> AsyncIterator[Bench]:
    """A running link server."""
    bench = Bench(directory)
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=LINK_SERVER_OPTIONS)
    link = PlaneLink(bench.registry, policy, bench.clock, name="cp", epoch=3, trust_domain="skerry")
    plane_service_pb2_grpc.add_PlaneLinkServiceServicer_to_server(link, server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(bench.tls("server")))
    bench.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        async with beside(link.watch()):
            yield bench
    finally:
        await server.stop(None)


def hello(plane: str, agent_id: str = "a1") -> messages.ConnectRequest:
    """What a plane says first."""
    return messages.ConnectRequest(
        hello=messages.Hello(
            project="default", observed=report_to_proto(a_report(plane)), agent_id=agent_id
        )
    )


async def test_a_plane_is_welcomed_told_its_state_and_heard(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        version = Version(epoch=3, generation=1)
        payload, digest = encode_desired(DesiredState(plane="fra", version=version))
        bench.registry.push("fra", version, payload)
        channel, stub = bench.stub("fra")
        async with channel:
            stream = stub.Connect()
            await stream.write(hello("fra"))
            welcome = await stream.read()
            assert welcome.welcome.epoch == 3
            assert welcome.welcome.lease_ms == 8000
            pushed = (await stream.read()).desired
            assert (pushed.version.epoch, pushed.version.generation) == (3, 1)
            assert pushed.digest == digest
            ack = messages.Ack(version=version_to_proto(version), digest=digest)
            await stream.write(messages.ConnectRequest(ack=ack))
            beat = messages.Heartbeat(number=7)
            await stream.write(messages.ConnectRequest(heartbeat=beat))
            assert (await stream.read()).heartbeat.number == 7
            view = bench.registry.view("fra")
            assert view.connected
            assert view.report is not None
            assert view.report.held == version
            stream.cancel()
        while bench.registry.view("fra").connected:
            await bench.wait_for_wake()


async def test_a_plane_cannot_take_another_planes_name(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        channel, stub = bench.stub("fra")
        async with channel:
            stream = stub.Connect()
            await stream.write(hello("aws"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert bench.registry.reports() == ()


async def test_a_second_agent_of_a_connected_plane_is_refused(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        channel, stub = bench.stub("fra")
        async with channel:
            first = stub.Connect()
            await first.write(hello("fra", "a1"))
            await first.read()
            second = stub.Connect()
            await second.write(hello("fra", "a2"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in second:
                    pass
            assert caught.value.code() is grpc.StatusCode.ABORTED
            assert bench.registry.view("fra").connected
            first.cancel()


async def test_a_report_of_another_plane_costs_itself_and_not_the_session(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        channel, stub = bench.stub("fra")
        async with channel:
            stream = stub.Connect()
            await stream.write(hello("fra"))
            await stream.read()
            foreign = replace(a_report("aws"))
            await stream.write(messages.ConnectRequest(observed=report_to_proto(foreign)))
            beat = messages.Heartbeat(number=1)
            await stream.write(messages.ConnectRequest(heartbeat=beat))
            assert (await stream.read()).heartbeat.number == 1
            assert [report.identity.name for report in bench.registry.reports()] == ["fra"]
            stream.cancel()


async def test_epochs_that_nobody_can_have_led_in_are_not_heard(tmp_path: Path) -> None:
    """The fuzzer's planes ended the control plane: no epoch above theirs could be stored."""
    async with a_bench(tmp_path) as bench:
        channel, stub = bench.stub("fra")
        async with channel:
            mad = hello("fra")
            mad.hello.observed.newest_epoch = 2**63 - 1
            stream = stub.Connect()
            await stream.write(mad)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "names epoch" in str(caught.value.details())
            assert bench.registry.reports() == ()
            stream = stub.Connect()
            await stream.write(hello("fra"))
            await stream.read()
            await stream.write(messages.ConnectRequest(observed=mad.hello.observed))
            beat = messages.Heartbeat(number=1)
            await stream.write(messages.ConnectRequest(heartbeat=beat))
            assert (await stream.read()).heartbeat.number == 1
            assert [report.newest_epoch for report in bench.registry.reports()] == [0]
            stream.cancel()


async def test_what_was_never_pushed_is_not_acknowledged(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        version = Version(epoch=3, generation=1)
        payload, _ = encode_desired(DesiredState(plane="fra", version=version))
        bench.registry.push("fra", version, payload)
        channel, stub = bench.stub("fra")
        async with channel:
            stream = stub.Connect()
            await stream.write(hello("fra"))
            await stream.read()
            await stream.read()
            mad = ((2**63 - 1, 1), (2, 2**63 - 1))
            for number, (epoch, generation) in enumerate((*mad, (3, 1)), 1):
                told = Version(epoch=epoch, generation=generation)
                ack = messages.Ack(version=version_to_proto(told))
                await stream.write(messages.ConnectRequest(ack=ack))
                beat = messages.Heartbeat(number=number)
                await stream.write(messages.ConnectRequest(heartbeat=beat))
                assert (await stream.read()).heartbeat.number == number
                (report,) = bench.registry.reports()
                assert report.held == (version if told == version else NEVER)
            stream.cancel()


async def test_a_plane_is_asked_what_it_holds_with_a_heartbeat_and_has_time_to_answer(
    tmp_path: Path,
) -> None:
    async with a_bench(tmp_path) as bench:
        channel, stub = bench.stub("fra")
        async with channel:
            stream = stub.Connect()
            await stream.write(hello("fra"))
            await stream.read()
            unasked = messages.ConnectRequest(held=messages.Desired(plane="fra"))
            beat = messages.ConnectRequest(heartbeat=messages.Heartbeat(number=1))
            await stream.write(unasked)  # costs itself and not the session
            await stream.write(beat)
            assert (await stream.read()).HasField("heartbeat")
            bench.registry.held.ask("fra")
            await stream.write(beat)
            assert (await stream.read()).HasField("heartbeat")
            assert (await stream.read()).HasField("tell_held")
            version = Version(epoch=3, generation=9)
            payload, digest = encode_desired(DesiredState(plane="fra", version=version))
            state = messages.Desired.FromString(payload)
            await stream.write(messages.ConnectRequest(held=state))
            await stream.write(beat)
            assert (await stream.read()).HasField("heartbeat")
            bench.registry.held.read()
            told = bench.registry.held.told()["fra"]
            assert (told.state, told.digest) == (DesiredState(plane="fra", version=version), digest)
            stream.cancel()


async def test_a_plane_that_holds_what_is_wanted_is_sent_nothing_by_a_new_leader(
    tmp_path: Path,
) -> None:
    async with a_bench(tmp_path) as bench:
        version = Version(epoch=3, generation=4)
        payload, digest = encode_desired(DesiredState(plane="fra", version=version))
        bench.registry.push("fra", version, payload)
        held = Version(epoch=2, generation=4)  # of the leader before
        report = replace(a_report("fra"), held=held, held_digest=digest)
        channel, stub = bench.stub("fra")
        async with channel:
            stream = stub.Connect()
            first = messages.Hello(
                project="default", observed=report_to_proto(report), agent_id="a1"
            )
            await stream.write(messages.ConnectRequest(hello=first))
            assert (await stream.read()).welcome.epoch == 3
            beat = messages.Heartbeat(number=1)
            await stream.write(messages.ConnectRequest(heartbeat=beat))
            assert (await stream.read()).heartbeat.number == 1  # and no push before it
            newer = Version(epoch=3, generation=5)
            bench.registry.push(
                "fra", newer, encode_desired(DesiredState(plane="fra", version=newer))[0]
            )
            assert (await stream.read()).desired.version.generation == 5
            stream.cancel()


async def test_who_holds_another_content_or_does_not_tell_is_sent_the_whole(
    tmp_path: Path,
) -> None:
    async with a_bench(tmp_path) as bench:
        for plane, digest in (("fra", b"another"), ("aws", b"")):
            version = Version(epoch=3, generation=4)
            payload, _ = encode_desired(DesiredState(plane=plane, version=version))
            bench.registry.push(plane, version, payload)
            report = replace(a_report(plane), held=version, held_digest=digest)
            channel, stub = bench.stub(plane)
            async with channel:
                stream = stub.Connect()
                first = messages.Hello(
                    project="default", observed=report_to_proto(report), agent_id="a1"
                )
                await stream.write(messages.ConnectRequest(hello=first))
                await stream.read()
                assert (await stream.read()).desired.version.generation == 4
                stream.cancel()


async def test_one_too_many_is_told_when_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "HELLOS_AT_ONCE_MAX", 0)
    async with a_bench(tmp_path) as bench:
        channel, stub = bench.stub("fra")
        async with channel:
            stream = stub.Connect()
            await stream.write(hello("fra"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            error = from_rpc_error(caught.value)
            assert isinstance(error, Exhausted)
            assert error.retry_after_seconds is not None
            assert error.retry_after_seconds >= admission.RETRY_SECONDS_MIN
        assert bench.registry.reports() == ()
