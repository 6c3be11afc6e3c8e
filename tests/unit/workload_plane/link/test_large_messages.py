"""Large messages of a connection go and come in parts, with heartbeats between them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.desired import FEATURES, TAKES_PARTS, DesiredState, PeerPlane
from skerry.fleet.generation import Version
from skerry.wire.desired import desired_to_proto
from skerry.wire.parts import PART_BYTES, Assembly, parts_of
from tests.unit.workload_plane.link.test_connection import World
from workload_plane.link.session import SessionState, Terms

PART_SECONDS = 1.0  # on the slowest line that large messages may go over
GENERATION = 7


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.hold())
        await world.clock.run_for(0)
        yield world
        task.cancel()


def a_large_state() -> messages.Desired:
    peers = tuple(
        PeerPlane(plane=f"p{n}", cloud="c", region="r", peer_address="h:1")
        for n in range(PART_BYTES // 2)
    )
    version = Version(epoch=1, generation=GENERATION)
    return desired_to_proto(DesiredState(plane="here", version=version, peers=peers))


async def ask_for_all_held(world: World, *features: str) -> None:
    """Have the plane tell what it holds, of several parts, over a line that is slow."""
    world.side.payload = a_large_state().SerializeToString()
    await world.welcome(*features)

    async def slow_line(request: messages.ConnectRequest) -> None:
        if request.WhichOneof("message") in ("part", "held"):
            await world.clock.sleep(PART_SECONDS * request.ByteSize() / PART_BYTES)

    world.stream.line = slow_line
    question = messages.ConnectResponse(tell_held=messages.TellHeld())
    world.stream.answers.put_nowait(question)
    await world.clock.run_for(40)


async def test_heartbeats_go_between_the_parts_of_what_is_told_and_nothing_else_does(
    world: World,
) -> None:
    await ask_for_all_held(world, TAKES_PARTS)
    kinds = [one.WhichOneof("message") for one in world.stream.written]
    first, last = kinds.index("part"), len(kinds) - kinds[::-1].index("part")
    parts = kinds[first:last].count("part")
    assert parts > Terms().timeout_seconds * 2  # in one message nothing would be heard so long
    assert set(kinds[first:last]) == {"part", "heartbeat"}
    assert kinds[first:last].count("heartbeat") >= parts - 2
    assert world.error is None
    assembly = Assembly()
    *none, whole = [assembly.take(one) for one in world.stream.said("part")]
    assert set(none) == {None}
    assert whole is not None
    held = messages.ConnectRequest.FromString(whole).held
    assert held.SerializeToString() == world.side.payload


async def test_a_control_plane_that_takes_no_parts_is_told_in_one_message(world: World) -> None:
    await ask_for_all_held(world)
    assert world.stream.said("part") == []


async def test_what_is_said_after_a_large_message_comes_after_its_last_part(world: World) -> None:
    await world.welcome(TAKES_PARTS)

    async def slow_line(request: messages.ConnectRequest) -> None:
        if request.WhichOneof("message") == "part":
            await world.clock.sleep(0.1)

    world.stream.line = slow_line
    world.side.payload = a_large_state().SerializeToString()
    question = messages.ConnectResponse(tell_held=messages.TellHeld())
    world.stream.answers.put_nowait(question)
    await world.clock.run_for(0.05)
    await world.push()
    await world.clock.run_for(10)
    kinds = [one.WhichOneof("message") for one in world.stream.written]
    assert kinds.index("ack") > len(kinds) - 1 - kinds[::-1].index("part")


async def test_a_state_that_takes_longer_than_the_timeout_is_taken_up_from_its_parts(
    world: World,
) -> None:
    assert TAKES_PARTS in FEATURES  # Hello names them
    await world.welcome(TAKES_PARTS)
    pushed = messages.ConnectResponse(desired=a_large_state())
    parts = list(parts_of(pushed.SerializeToString()))
    assert len(parts) > Terms().timeout_seconds
    for part in parts:
        assert world.side.offers == 0
        world.stream.answers.put_nowait(messages.ConnectResponse(part=part))
        await world.clock.run_for(PART_SECONDS)
    assert world.connection.state is SessionState.LINKED
    assert [ack.version.generation for ack in world.stream.said("ack")] == [GENERATION]


async def test_a_newer_push_in_one_message_does_not_spoil_the_parts_of_another(
    world: World,
) -> None:
    await world.welcome(TAKES_PARTS)
    pushed = messages.ConnectResponse(desired=a_large_state())
    first, *others = parts_of(pushed.SerializeToString())
    world.stream.answers.put_nowait(messages.ConnectResponse(part=first))
    await world.push()
    for part in others:
        world.stream.answers.put_nowait(messages.ConnectResponse(part=part))
    await world.clock.run_for(1)
    assert [ack.version.generation for ack in world.stream.said("ack")] == [1, GENERATION]


async def test_a_part_that_goes_on_nothing_ends_the_connection_so_that_all_is_sent_again(
    world: World,
) -> None:
    await world.welcome(TAKES_PARTS)
    lost = messages.Part(total_bytes=9, offset=4, data=b"later")
    world.stream.answers.put_nowait(messages.ConnectResponse(part=lost))
    await world.clock.run_for(0.01)
    assert "goes on nothing" in str(world.error)


async def test_terms_told_in_a_heartbeat_are_followed_from_then_on(world: World) -> None:
    await world.welcome()
    beat = messages.Heartbeat(number=0, period_ms=2000, timeout_ms=6000)
    world.stream.answers.put_nowait(messages.ConnectResponse(heartbeat=beat))
    await world.clock.run_for(2)
    before = len(world.stream.said("heartbeat"))
    await world.clock.run_for(20)
    assert len(world.stream.said("heartbeat")) - before == pytest.approx(10, abs=1)
    world.stream.echoes = False
    await world.clock.run_for(3.5)
    assert world.error is None
    await world.clock.run_for(2.6)
    assert "silent" in str(world.error)
