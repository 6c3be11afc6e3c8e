"""One connection against a scripted stream: what is said, when, and why it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport, ToldDecision
from skerry.fleet.desired import TAKES_LOADS, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneReport
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity
from skerry.plumbing.errors import Unavailable
from skerry.plumbing.rpc import TlsFiles
from skerry.wire.desired import desired_from_proto, desired_to_proto
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.converge.test_plan import wants
from workload_plane.autoscale.history import KeptDecision
from workload_plane.desired_state.accept import Refuse
from workload_plane.link.connection import Connection, LinkSettings, Past
from workload_plane.link.session import SessionState

SETTINGS = LinkSettings(
    control_planes=("h:1",),
    tls=TlsFiles(ca=Path("ca"), cert=Path("cert"), key=Path("key")),
    project="default",
    agent_id="run-1",
)


async def at_once(_request: messages.ConnectRequest) -> None:
    """Take no time: a line as fast as it may be."""


class Stream:
    """What grpc.aio gives, with the other side played by the test."""

    def __init__(self) -> None:
        self.written: list[messages.ConnectRequest] = []
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled = False
        self.echoes = True
        self.line: Callable[[messages.ConnectRequest], Awaitable[None]] = at_once

    async def write(self, request: messages.ConnectRequest) -> None:
        await self.line(request)
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
    evidence = None

    def __init__(self) -> None:
        self.refusal: Refuse | None = None
        self.offers = 0
        self.held = 0
        self.payload = b""
        self.counted = LoadReport()
        self.decided: tuple[KeptDecision, ...] = ()

    def report(self) -> PlaneReport:
        return PlaneReport(
            held=Version(epoch=0, generation=self.held),
            identity=PlaneIdentity(name="here", cloud="c", region="r"),
            pools=(),
            gateway=GatewayAddresses(http="", grpc="", peer=""),
        )

    def loads(self) -> LoadReport:
        return self.counted

    def decisions_after(self, number: int) -> tuple[KeptDecision, ...]:
        return tuple(one for one in self.decided if one.number > number)

    async def stored(self) -> bytes:
        return self.payload

    async def offer(self, payload: bytes) -> DesiredState | Refuse:
        self.offers += 1
        return self.refusal or desired_from_proto(messages.Desired.FromString(payload))


class World:
    def __init__(self, past: Past | None = None) -> None:
        self.clock, self.stream, self.side = FakeClock(), Stream(), Side()
        self.changed = asyncio.Event()
        parts = (self.stream, SETTINGS, self.side, self.changed, self.clock)
        self.connection = Connection(*parts, past)
        self.error: BaseException | None = None

    async def hold(self) -> None:
        try:
            await self.connection.hold()
        except Unavailable as error:
            self.error = error

    async def welcome(self, *features: str) -> None:
        welcome = messages.Welcome(
            heartbeat_period_ms=1000, heartbeat_timeout_ms=3000, features=features
        )
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


async def test_hello_numbers_the_streams_of_a_run_of_the_agent() -> None:
    world = World(Past(streams=4))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.hold())
        await world.clock.run_for(0)
        task.cancel()
    assert world.stream.said("hello")[0].stream_number == world.connection.number == 5


async def test_without_a_welcome_the_connection_is_given_up(world: World) -> None:
    await world.clock.run_for(6)
    assert "no Welcome" in str(world.error)
    assert world.stream.cancelled
    assert world.connection.state is SessionState.IDLE


async def test_heartbeats_keep_coming_and_the_same_report_is_not_said_again(world: World) -> None:
    await world.welcome()
    await world.clock.run_for(59)
    assert world.error is None
    assert len(world.stream.said("heartbeat")) == pytest.approx(59, abs=2)
    assert world.stream.said("observed") == []  # Hello told it all
    await world.clock.run_for(10)
    assert len(world.stream.said("observed")) == 1


async def test_what_changed_without_a_word_is_reported_in_a_while(world: World) -> None:
    await world.welcome()
    world.side.held = 7
    await world.clock.run_for(6)
    assert [seen.held.generation for seen in world.stream.said("observed")] == [7]


async def test_every_report_says_when_it_was_told_by_the_clock_that_dates_its_views(
    world: World,
) -> None:
    began = world.clock.monotonic()
    (hello,) = world.stream.said("hello")
    assert hello.observed.told_seconds == began
    await world.welcome()
    await world.clock.run_for(70.0)
    (again,) = world.stream.said("observed")
    assert again.told_seconds > began + 55.0
    again.ClearField("told_seconds")
    hello.observed.ClearField("told_seconds")
    assert again == hello.observed


async def test_a_storm_of_changes_is_one_report_each_fifth_of_a_second(world: World) -> None:
    await world.welcome()
    before = len(world.stream.said("observed"))
    for held in range(100):
        world.side.held = held
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
    await world.clock.run_for(3.01)
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


async def test_asked_what_it_holds_a_plane_tells_all_of_it_byte_for_byte(world: World) -> None:
    world.side.payload = desired_to_proto(wants(4)).SerializeToString() + b"\xca\x3e\x01\x07"
    await world.welcome()
    question = messages.ConnectResponse(tell_held=messages.TellHeld())
    world.stream.answers.put_nowait(question)
    await world.clock.run_for(0.01)
    [held] = world.stream.said("held")
    assert held.SerializeToString() == world.side.payload
    world.side.payload = b""
    world.stream.answers.put_nowait(question)
    await world.clock.run_for(0.01)
    assert world.stream.said("held")[1] == messages.Desired()  # that it cannot tell, it tells


async def test_a_leader_of_an_epoch_that_is_over_is_refused_though_the_disk_is_older() -> None:
    world = World(Past(epoch=5))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.hold())
        await world.clock.run_for(0)
        await world.welcome()
        await world.push()
        (nack,) = world.stream.said("nack")
        assert "a leader of 5 was heard" in nack.reason
        assert world.side.offers == 0
        task.cancel()


async def test_a_plane_that_is_heard_again_takes_pushes_at_once(world: World) -> None:
    await world.welcome()
    world.stream.echoes = False
    for _ in range(9):
        world.stream.answers.put_nowait(messages.ConnectResponse(heartbeat=messages.Heartbeat()))
        await world.clock.run_for(0.5)
    states = [world.connection.state]
    sent = world.stream.said("heartbeat")[-1]
    world.stream.answers.put_nowait(messages.ConnectResponse(heartbeat=sent))
    await world.clock.run_for(0.0)
    states.append(world.connection.state)
    assert states == [SessionState.MUTED, SessionState.LINKED]


async def test_a_push_that_came_while_the_plane_was_not_heard_is_taken_once_it_is(
    world: World,
) -> None:
    await world.welcome()
    world.stream.echoes = False
    for _ in range(9):
        world.stream.answers.put_nowait(messages.ConnectResponse(heartbeat=messages.Heartbeat()))
        await world.clock.run_for(0.5)
    await world.push()
    assert world.side.offers == 0
    sent = world.stream.said("heartbeat")[-1]
    world.stream.answers.put_nowait(messages.ConnectResponse(heartbeat=sent))
    await world.clock.run_for(0.5)
    assert [ack.version.generation for ack in world.stream.said("ack")] == [1]


async def test_a_push_that_comes_again_or_late_takes_the_plane_nowhere(world: World) -> None:
    await world.welcome()
    await world.push()
    await world.push()
    assert [ack.version.generation for ack in world.stream.said("ack")] == [1, 1]


def counted(requests: float) -> LoadReport:
    reading = LoadReading(
        at=1.0,
        requests_total=requests,
        prompt_tokens_total=0.0,
        finished_total=0.0,
        output_tokens_total=0.0,
        in_flight=0.0,
    )
    return LoadReport(loads=(DeploymentLoad(deployment="demo", reading=reading),))


async def test_each_count_is_told_once_to_a_control_plane_that_takes_it(world: World) -> None:
    world.side.counted = counted(1.0)
    await world.welcome(TAKES_LOADS)
    await world.clock.run_for(10)
    world.side.counted = counted(1.0)  # counted again: nothing more had come
    await world.clock.run_for(10)
    told = world.stream.said("loads")
    assert [one.loads[0].reading.requests_total for one in told] == [1.0, 1.0]


async def test_a_control_plane_of_an_earlier_release_is_told_no_counts(world: World) -> None:
    world.side.counted = counted(1.0)
    await world.welcome()
    await world.clock.run_for(10)
    assert world.stream.said("loads") == []


async def test_what_the_last_heartbeat_said_of_targets_is_known_and_nothing_is_not_no(
    world: World,
) -> None:
    await world.welcome()
    told = []
    for current in (None, True, False, None):
        beat = messages.Heartbeat(targets_current=current)
        world.stream.answers.put_nowait(messages.ConnectResponse(heartbeat=beat))
        await world.clock.run_for(0.01)
        told.append(world.connection.targets_current)
    assert told == [None, True, False, None]


def decided(*numbers: int) -> tuple[KeptDecision, ...]:
    """Decisions whose targets are their numbers."""
    return tuple(
        KeptDecision(
            number=number,
            at=float(number),
            deployment="demo",
            decision=ToldDecision(
                decided_at=None,
                sentence=f"for {number}.",
                because="need",
                target=number,
                ready=1,
                starting=0,
                draining=0,
                floor=1,
                ceiling=900,
            ),
        )
        for number in numbers
    )


def told_targets(world: World) -> list[list[int]]:
    return [[d.decision.target for d in one.decisions] for one in world.stream.said("loads")]


async def test_decisions_made_while_nobody_heard_are_told_first_and_each_once(
    world: World,
) -> None:
    world.side.decided = decided(*range(1, 101))
    world.side.counted = counted(1.0)
    await world.welcome(TAKES_LOADS)
    await world.clock.run_for(2)
    world.side.counted = counted(2.0)
    await world.clock.run_for(2)
    world.side.decided = decided(*range(1, 102))
    world.side.counted = counted(3.0)
    await world.clock.run_for(2)
    world.side.counted = counted(4.0)
    await world.clock.run_for(2)
    assert told_targets(world) == [[*range(1, 65)], [*range(65, 101)], [101], []]


async def test_in_a_fleet_of_thousands_a_plane_that_connects_tells_its_last_decisions_only(
    world: World,
) -> None:
    world.side.planes = 8_192
    world.side.decided = decided(*range(1, 101))
    world.side.counted = counted(1.0)
    await world.welcome(TAKES_LOADS)
    await world.clock.run_for(2)
    assert told_targets(world) == [[97, 98, 99, 100]]
