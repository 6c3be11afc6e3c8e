"""One connection against a scripted stream: what is said, when, and why it ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import PlaneReport
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity
from skerry.plumbing.errors import Unavailable
from skerry.plumbing.rpc import TlsFiles
from skerry.wire.desired import desired_from_proto, desired_to_proto
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.converge.test_plan import wants
from workload_plane.desired_state.accept import Refuse
from workload_plane.link.connection import Connection, LinkSettings
from workload_plane.link.session import SessionState

SETTINGS = LinkSettings(
    control_planes=("h:1",),
    tls=TlsFiles(ca=Path("ca"), cert=Path("cert"), key=Path("key")),
    project="default",
    agent_id="run-1",
)


class Stream:
    """What grpc.aio gives, with the other side played by the test."""

    def __init__(self) -> None:
        self.written: list[messages.ConnectRequest] = []
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled = False
        self.echoes = True

    async def write(self, request: messages.ConnectRequest) -> None:
        self.written.append(request)
        if self.echoes and request.WhichOneof("message") == "heartbeat":
            self.answers.put_nowait(messages.ConnectResponse(heartbeat=request.heartbeat))

    async def read(self) -> Any:
        return await self.answers.get()

    def cancel(self) -> None:
        self.cancelled = True

    def said(self, kind: str) -> list[Any]:
        return [getattr(w, kind) for w in self.written if w.WhichOneof("message") == kind]


class Side:
    planes = 3

    def __init__(self) -> None:
        self.refusal: Refuse | None = None
        self.offers = 0

    def report(self) -> PlaneReport:
        return PlaneReport(
            identity=PlaneIdentity(name="here", cloud="c", region="r"),
            pools=(),
            gateway=GatewayAddresses(http="", grpc="", peer=""),
        )

    async def offer(self, payload: bytes) -> DesiredState | Refuse:
        self.offers += 1
        return self.refusal or desired_from_proto(messages.Desired.FromString(payload))


class World:
    def __init__(self) -> None:
        self.clock, self.stream, self.side = FakeClock(), Stream(), Side()
        self.changed = asyncio.Event()
        self.connection = Connection(self.stream, SETTINGS, self.side, self.changed, self.clock)
        self.error: BaseException | None = None

    async def hold(self) -> None:
        try:
            await self.connection.hold()
        except Unavailable as error:
            self.error = error

    async def welcome(self) -> None:
        welcome = messages.Welcome(heartbeat_period_ms=1000, heartbeat_timeout_ms=3000)
        self.stream.answers.put_nowait(messages.ConnectResponse(welcome=welcome))
        await self.clock.run_for(0.01)

    async def push(self) -> None:
        desired = desired_to_proto(wants(1))
        self.stream.answers.put_nowait(messages.ConnectResponse(desired=desired))
        await self.clock.run_for(0.01)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.hold())
        await world.clock.run_for(0)
        yield world
        task.cancel()


async def test_hello_comes_first_and_nothing_more_before_the_welcome(world: World) -> None:
    await world.clock.run_for(4)
    assert [w.WhichOneof("message") for w in world.stream.written] == ["hello"]
    assert world.stream.said("hello")[0].agent_id == "run-1"


async def test_without_a_welcome_the_connection_is_given_up(world: World) -> None:
    await world.clock.run_for(6)
    assert "no Welcome" in str(world.error)
    assert world.stream.cancelled
    assert world.connection.state is SessionState.IDLE


async def test_heartbeats_and_reports_keep_coming(world: World) -> None:
    await world.welcome()
    await world.clock.run_for(60)
    assert world.error is None
    assert len(world.stream.said("heartbeat")) == pytest.approx(60, abs=2)
    assert len(world.stream.said("observed")) == pytest.approx(13, abs=1)


async def test_a_storm_of_changes_is_one_report_each_fifth_of_a_second(world: World) -> None:
    await world.welcome()
    before = len(world.stream.said("observed"))
    for _ in range(100):
        world.changed.set()
        await world.clock.run_for(0.01)
    assert 4 <= len(world.stream.said("observed")) - before <= 6


async def test_a_push_is_answered_with_ack_or_nack(world: World) -> None:
    await world.welcome()
    await world.push()
    (ack,) = world.stream.said("ack")
    assert ack.version.generation == 1
    assert ack.digest == desired_to_proto(wants(1)).digest
    world.side.refusal = Refuse(reason="too old")
    await world.push()
    assert [nack.reason for nack in world.stream.said("nack")] == ["too old"]


async def test_a_control_plane_that_does_not_hear_us_may_not_push(world: World) -> None:
    await world.welcome()
    world.stream.echoes = False
    for _ in range(9):  # it speaks, so it is not silent
        world.stream.answers.put_nowait(messages.ConnectResponse(heartbeat=messages.Heartbeat()))
        await world.clock.run_for(0.5)
    assert world.connection.state is SessionState.MUTED
    await world.push()
    assert world.side.offers == 0
    for _ in range(6):
        world.stream.answers.put_nowait(messages.ConnectResponse(heartbeat=messages.Heartbeat()))
        await world.clock.run_for(0.5)
    assert "does not hear us" in str(world.error)


async def test_silence_ends_the_connection_within_the_timeout(world: World) -> None:
    await world.welcome()
    await world.clock.run_for(10)
    world.stream.echoes = False
    await world.clock.run_for(4.5)
    assert "silent" in str(world.error)


async def test_the_end_of_the_stream_ends_the_connection(world: World) -> None:
    await world.welcome()
    world.stream.answers.put_nowait(grpc.aio.EOF)
    await world.clock.run_for(0.01)
    assert "ended the stream" in str(world.error)


async def test_a_senseless_message_costs_the_connection_and_nothing_else(world: World) -> None:
    await world.welcome()
    await world.welcome()
    assert "WELCOMED" in str(world.error)
