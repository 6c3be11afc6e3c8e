"""One stream of the link against a scripted plane: what is said and when, and what never waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from control_plane.link.convert import encode_desired
from control_plane.link.registry import Registry
from control_plane.link.service import PlaneLink
from control_plane.reconcile.policy import LARGE_FLEET_PLANES, ReconcilePolicy
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.desired import FEATURES, TAKES_PARTS, DesiredState, PeerPlane
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneCondition, PlaneState, ReplicaState
from skerry.fleet.party_uris import plane_uri
from skerry.plumbing.errors import Conflict
from skerry.wire.observations import report_to_proto
from skerry.wire.parts import PART_BYTES, Assembly, parts_of
from tests.builders import a_replica, a_report
from tests.fakes.clock import FakeClock, settle

OLDER = tuple(name for name in FEATURES if name != TAKES_PARTS)
FIRST = Version(epoch=3, generation=1)


class Context:
    """What grpc.aio gives; while the line is `slow`, only what `pass_on` lets is taken."""

    def __init__(self) -> None:
        self.written: list[messages.ConnectResponse] = []
        self._passes = asyncio.Semaphore(0)
        self.slow = False
        self.writing = 0

    def auth_context(self) -> dict[str, Any]:
        uri = plane_uri("default", "fra").encode()
        return {"transport_security_type": (b"ssl",), "peer_uri": (uri,)}

    async def write(self, response: messages.ConnectResponse) -> None:
        assert not self.writing, "gRPC takes one message at a time"
        self.writing += 1
        try:
            if self.slow:
                await self._passes.acquire()
        finally:
            self.writing -= 1
        self.written.append(response)

    async def pass_on(self) -> None:
        self._passes.release()
        await settle()

    def kinds(self) -> list[str | None]:
        return [one.WhichOneof("message") for one in self.written]


def a_hello(
    *, features: tuple[str, ...] = FEATURES, stream_number: int = 1
) -> messages.ConnectRequest:
    said = messages.Hello(
        project="default",
        observed=report_to_proto(a_report("fra")),
        features=features,
        agent_id="a1",
        stream_number=stream_number,
    )
    return messages.ConnectRequest(hello=said)


class World:
    def __init__(self) -> None:
        self.clock, self.context = FakeClock(), Context()
        self.registry = Registry(self.clock, lambda: None)
        self.link = PlaneLink(
            self.registry, ReconcilePolicy(), self.clock, name="cp", epoch=3, trust_domain="skerry"
        )
        self._requests: asyncio.Queue[messages.ConnectRequest | None] = asyncio.Queue()

    async def requests(self) -> AsyncIterator[messages.ConnectRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def say(self, request: messages.ConnectRequest | None) -> None:
        self._requests.put_nowait(request)
        await settle()

    async def hello(self, features: tuple[str, ...] = FEATURES) -> messages.Welcome:
        await self.say(a_hello(features=features))
        return self.context.written[-1].welcome

    async def beat(self, number: int) -> None:
        await self.say(messages.ConnectRequest(heartbeat=messages.Heartbeat(number=number)))

    async def push_large(self) -> bytes:
        peers = tuple(
            PeerPlane(plane=f"p{n}", cloud="c", region="r", peer_address="h:1")
            for n in range(PART_BYTES // 8)
        )
        payload, digest = encode_desired(DesiredState(plane="fra", version=FIRST, peers=peers))
        assert len(payload) > 2 * PART_BYTES
        self.registry.push("fra", FIRST, payload)
        await settle()
        return digest


async def refusal_of(world: World) -> Conflict:
    with pytest.raises(Conflict) as refused:
        await world.link.Connect(world.requests(), world.context)
    return refused.value


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    world = World()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.link.Connect(world.requests(), world.context))
        yield world
        await world.say(None)


async def test_a_plane_is_heard_while_nothing_can_be_sent_to_it() -> None:
    async with a_world() as world:
        await world.hello(OLDER)  # in one message, as to every plane of before
        world.context.slow = True
        await world.push_large()
        for number in range(1, 9):
            world.clock.advance(1.0)
            await world.beat(number)
            assert world.registry.view("fra").silent_seconds == 0.0
        world.context.slow = False
        await world.context.pass_on()
        assert world.context.kinds() == ["welcome", "desired", "heartbeat"]
        assert world.context.written[-1].heartbeat.number == 8  # the newest tells it all


async def test_what_an_older_stream_brings_late_is_not_taken_in() -> None:
    """A cut path held it up; the plane has dialled anew, and told what is so by now."""
    newest = a_report("fra", replicas=(a_replica("demo", "fra--cpu"),))
    async with a_world() as world:
        await world.hello()
        world.registry.open(newest, "a1", 3.0, stream_number=2)
        world.clock.advance(1.0)
        starting = a_replica("demo", "fra--cpu", state=ReplicaState.STARTING)
        late = report_to_proto(a_report("fra", replicas=(starting,)))
        await world.say(messages.ConnectRequest(observed=late))
        assert world.registry.view("fra").report == newest
        assert world.registry.view("fra").silent_seconds == 1.0


async def test_a_late_hello_of_a_stream_that_the_agent_gave_up_is_refused() -> None:
    """A cut path held it up; the plane is welcomed on its next one, and that is what counts."""
    newest = a_report("fra", replicas=(a_replica("demo", "fra--cpu"),))
    world = World()
    outbox = world.registry.open(newest, "a1", 3.0, stream_number=2)
    world.clock.advance(1.0)
    async with asyncio.TaskGroup() as group:
        late = group.create_task(refusal_of(world))
        await world.say(a_hello(stream_number=1))
    assert "opened another" in str(late.result())
    assert world.context.written == []
    assert world.registry.is_of("fra", outbox)
    assert world.registry.view("fra").report == newest
    assert world.registry.view("fra").silent_seconds == 1.0


async def test_a_heartbeat_is_answered_between_the_parts_of_a_large_state() -> None:
    async with a_world() as world:
        welcome = await world.hello()
        assert TAKES_PARTS in welcome.features
        world.context.slow = True
        digest = await world.push_large()
        await world.beat(1)
        await world.context.pass_on()
        await world.context.pass_on()
        assert world.context.kinds() == ["welcome", "part", "heartbeat"]
        world.context.slow = False
        await world.context.pass_on()
        assembly = Assembly()
        parts = [one.part for one in world.context.written if one.HasField("part")]
        *none, whole = [assembly.take(part) for part in parts]
        assert set(none) == {None}
        assert whole is not None
        assert messages.ConnectResponse.FromString(whole).desired.digest == digest


async def test_a_newer_state_comes_after_the_one_that_is_on_its_way() -> None:
    async with a_world() as world:
        await world.hello()
        world.context.slow = True
        await world.push_large()
        newer = Version(epoch=3, generation=2)
        payload, _ = encode_desired(DesiredState(plane="fra", version=newer))
        world.registry.push("fra", newer, payload)
        world.context.slow = False
        await world.context.pass_on()
        *parts, last = world.context.written[1:]
        assert last.desired.version.generation == 2
        assembly = Assembly()
        assert [assembly.take(one.part) for one in parts][-1] is not None


async def test_a_planes_large_message_is_taken_from_its_parts_and_a_wrong_part_costs_itself() -> (
    None
):
    async with a_world() as world:
        await world.hello()
        await world.say(messages.ConnectRequest(part=messages.Part(total_bytes=9, offset=4)))
        for whole in (
            b"\xff" * 9,
            messages.ConnectRequest(part=messages.Part()).SerializeToString(),
        ):
            for part in parts_of(whole):
                await world.say(messages.ConnectRequest(part=part))
        observed = report_to_proto(a_report("fra"))
        observed.gateway_faults.extend(f"fault {n}" for n in range(PART_BYTES // 8))
        large = messages.ConnectRequest(observed=observed).SerializeToString()
        parts = list(parts_of(large))
        assert len(parts) > 1
        for part in parts:
            await world.say(messages.ConnectRequest(part=part))
        report = world.registry.view("fra").report
        assert report is not None
        assert report.gateway_faults[0] == "fault 0"


async def test_the_first_welcome_of_a_large_fleet_has_its_terms() -> None:
    async with a_world() as world:
        world.registry.begin(5 * LARGE_FLEET_PLANES)
        welcome = await world.hello()
        assert (welcome.heartbeat_period_ms, welcome.heartbeat_timeout_ms) == (2000, 6000)


@pytest.mark.parametrize(("before", "after"), [(10, 2_000), (2_000, 10)])
async def test_a_linked_plane_is_told_once_when_the_fleet_passes_the_bound(
    before: int, after: int
) -> None:
    def conditions(planes: int) -> dict[str, PlaneCondition]:
        now = world.clock.now()
        healthy = PlaneCondition(state=PlaneState.CONNECTED, since=now)
        return {f"p{number}": healthy for number in range(planes)}

    async with a_world() as world:
        world.registry.judged(conditions(before))
        await world.hello()
        await world.beat(1)
        world.registry.judged(conditions(after))
        await world.beat(2)
        await world.beat(3)
        told = [
            (one.heartbeat.period_ms, one.heartbeat.timeout_ms) for one in world.context.written
        ]
        assert told[1:] == [(0, 0), (2000, 6000) if after > before else (1000, 3000), (0, 0)]
