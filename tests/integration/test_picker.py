"""The picker with a real Envoy: steering, spillover, waiting, and life without it."""

import asyncio
import contextlib
import dataclasses
import signal
import tracemalloc
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from skerry.fleet.routing import RoutingPolicy
from skerry.plumbing.clock import SystemClock
from tests.integration.gateway_world import CLOCK, GENERATE, eventually, generate
from tests.integration.picker_world import a_picked_world, a_routed_model, steady
from workload_plane.picker.demand_file import parse_demand
from workload_plane.picker.facts import DeploymentTold
from workload_plane.picker.http_server import Exchange, HttpServer
from workload_plane.picker.picker import Picker
from workload_plane.picker.room import Room
from workload_plane.picker.room_grpc import build_room_server
from workload_plane.picker.wire import DEPLOYMENT_HEADER

LEAST = RoutingPolicy.LEAST_REQUEST
PROMPT = "The quick brown fox jumps over the lazy dog. " * 300  # some 3,400 tokens


def conversation(user: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{user}: {PROMPT}"}]


async def test_a_prompt_goes_where_its_prefix_is_cached(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        engines = [await picked.engine(name) for name in ("a1", "a2")]
        await picked.publish("a", a_routed_model("1", *engines))
        seen: dict[str, set[str]] = {"ann": set(), "bob": set()}
        for _ in range(5):
            for user in seen:
                status, answer = await world.chat("a", "m1", messages=conversation(user))
                assert status == 200
                seen[user].add(answer["engine"])

                async def quiet() -> bool:
                    values = await picked.metrics("a")
                    return values["skerry_picker_pending_tokens" + '{deployment="d1"}'] == 0

                await eventually(quiet)
        assert [len(names) for names in seen.values()] == [1, 1]
        assert seen["ann"] != seen["bob"]
        values = await picked.metrics("a")
        assert values['skerry_picker_cached_tokens_total{deployment="d1"}'] > 20_000


async def test_every_request_is_joined_to_its_log_entry(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        engines = [await picked.engine(name) for name in ("a1", "a2")]
        await picked.publish("a", a_routed_model("1", *engines))
        statuses = await steady(picked.world, 2.0, 100.0)
        answers = [await generate(picked.world, "a", "m1") for _ in range(5)]
        assert set(statuses) == {200}
        assert set(answers) <= {"a1", "a2"}

        async def joined() -> bool:
            values = await picked.metrics("a")
            return values['skerry_picker_log_entries_total{outcome="matched"}'] == 205

        await eventually(joined)
        values = await picked.metrics("a")
        assert values['skerry_picker_requests_total{outcome="steered"}'] == 205
        assert values["skerry_picker_open_requests"] == 0


async def test_a_busy_plane_spills_to_a_peer_that_is_less_so(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        here, there = await picked.engine("a1"), await picked.engine("b1")
        await picked.publish("b", a_routed_model("1", there))
        await picked.publish("a", a_routed_model("1", here, peers=("b",)))
        here.may_answer.clear()
        there.may_answer.clear()
        await picked.shows("a", 'skerry_picker_known_peers{deployment="d1"}', 1)
        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(world.chat("a", "m1"))
                await CLOCK.sleep(0.01)

            async def all_came() -> bool:
                return len(here.requests) + len(there.requests) == 12

            await eventually(all_came)
            here.may_answer.set()
            there.may_answer.set()
        # Six stay; the rest is shared evenly, with a margin of two against ping-pong.
        assert 6 <= len(here.requests) <= 8
        assert len(there.requests) >= 4
        values = await picked.metrics("b")
        assert values['skerry_picker_requests_total{outcome="steered"}'] >= 4  # forwarded ones too


async def test_nothing_fails_when_the_picker_is_killed_or_hangs(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        engines = [await picked.engine(name) for name in ("a1", "a2")]
        await picked.publish("a", a_routed_model("1", *engines))
        picker = picked.pickers["a"]
        async with asyncio.TaskGroup() as group:
            load = group.create_task(steady(picked.world, 8.0, 200.0))
            await CLOCK.sleep(1.0)
            picker.signal(signal.SIGSTOP)
            await CLOCK.sleep(1.5)  # its guard would kill it after 2.25 s
            picker.signal(signal.SIGCONT)
            await CLOCK.sleep(1.0)
            await picker.kill()
            await CLOCK.sleep(1.5)
            picker.start()
        assert load.result() == [200] * 1600

        async def steers_again() -> bool:
            await picked.world.chat("a", "m1")
            values = await picked.metrics("a")
            return values.get('skerry_picker_requests_total{outcome="steered"}', 0) > 0

        await eventually(steers_again)


async def test_a_draining_replica_gets_nothing_new(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        first, second = await picked.engine("a1"), await picked.engine("a2")
        model = a_routed_model("1", first, second)
        await picked.publish("a", model)
        await picked.world.chat("a", "m1", messages=conversation("ann"))
        cached = first if first.requests else second
        leaving = tuple(engine.replica(draining=engine is cached) for engine in (first, second))
        await picked.publish("a", dataclasses.replace(model, replicas=leaving))
        await picked.shows("a", 'skerry_picker_usable_replicas{deployment="d1"}', 1)
        before = len(cached.requests)
        for _ in range(10):
            status, _ = await picked.world.chat("a", "m1", messages=conversation("ann"))
            assert status == 200
        assert len(cached.requests) == before


async def test_a_killed_replica_costs_no_request(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        engines = [await picked.engine(name) for name in ("a1", "a2")]
        await picked.publish("a", a_routed_model("1", *engines))
        async with asyncio.TaskGroup() as group:
            load = group.create_task(steady(picked.world, 4.0, 100.0))
            await CLOCK.sleep(1.0)
            await engines[0].kill()
        assert load.result() == [200] * 400


async def test_a_new_picker_knows_what_is_under_way(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        first, second = await picked.engine("a1"), await picked.engine("a2")
        await picked.publish("a", a_routed_model("1", first, second, routing={"policy": LEAST}))
        first.may_answer.clear()
        second.may_answer.clear()
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(world.chat("a", "m1"))
                await CLOCK.sleep(0.02)

            async def all_came() -> bool:
                return len(first.requests) + len(second.requests) == 6

            await eventually(all_came)
            second.may_answer.set()  # its three end
            await picked.pickers["a"].kill()
            picked.pickers["a"].start()
            await picked.shows("a", 'skerry_picker_unasked_requests{deployment="d1"}', 3)
            await picked.asked("a")
            for _ in range(3):
                _, answer = await world.chat("a", "m1")
                assert answer["engine"] == "a2"
            first.may_answer.set()


async def test_requests_wait_for_the_first_replica_and_all_are_answered(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        await picked.publish("a", a_routed_model("1"))
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(world.chat("a", "m1")) for _ in range(20)]
            called = [group.create_task(generate(world, "a", "m1")) for _ in range(5)]

            async def all_wait() -> bool:
                values = await picked.metrics("a")
                return values['skerry_picker_waiting_requests{deployment="d1"}'] == 25

            async def is_told() -> bool:
                told = (picked.pickers["a"].data_dir / "demand.json").read_bytes()
                found = parse_demand(told).get("d1")
                return found is not None and found.waiting > 0

            await eventually(all_wait)
            await eventually(is_told)
            engine = await picked.engine("a1")
            await picked.publish("a", a_routed_model("1", engine))
        assert [task.result()[0] for task in held] == [200] * 20
        assert [task.result() for task in called] == ["a1"] * 5


async def test_who_can_wait_no_longer_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        queue = {"queue_requests_max": 2, "queue_seconds_max": 1.0}
        await picked.publish("a", a_routed_model("1", routing=queue))
        url = f"{world.planes['a'].url}/v1/chat/completions"

        async def ask() -> tuple[int, str, str]:
            async with world.client.post(url, json={"model": "m1"}) as response:
                body = await response.json()
                return (
                    response.status,
                    response.headers.get("retry-after", ""),
                    body["error"]["code"],
                )

        answers = await asyncio.gather(*(ask() for _ in range(4)))
        assert sorted(answers) == [
            (429, "1", "queue_full"),
            (429, "1", "queue_full"),
            (503, "1", "no_ready_replica"),
            (503, "1", "no_ready_replica"),
        ]


async def test_who_waits_in_a_picker_that_hangs_is_freed_within_five_seconds(
    tmp_path: Path,
) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        await picked.publish("a", a_routed_model("1"))
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(world.chat("a", "m1")) for _ in range(5)]
            called = [group.create_task(_refusal(generate(world, "a", "m1"))) for _ in range(3)]
            await picked.shows("a", 'skerry_picker_waiting_requests{deployment="d1"}', 8)
            picked.pickers["a"].signal(signal.SIGSTOP)
            async with asyncio.timeout(5.0):
                answers = [await task for task in held]
                refusals = [await task for task in called]
        assert [status for status, _ in answers] == [503] * 5
        assert {body["error"]["code"] for _, body in answers} <= {
            "no_ready_replica",
            "replica_lost",
        }
        assert refusals == [grpc.StatusCode.UNAVAILABLE] * 3


async def test_a_saturated_engine_gets_no_more_and_the_rest_waits_its_turn(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        engine = await picked.engine("a1")
        await picked.publish("a", a_routed_model("1", engine, concurrent_requests=2))
        engine.may_answer.clear()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(world.chat("a", "m1")) for _ in range(12)]

            async def some_wait() -> bool:
                values = await picked.metrics("a")
                return values['skerry_picker_waiting_requests{deployment="d1"}'] >= 8

            await eventually(some_wait)
            assert len(engine.requests) <= 4  # two slots, and what keeps them busy
            engine.may_answer.set()
        assert [task.result()[0] for task in tasks] == [200] * 12


async def test_an_engine_that_refuses_over_grpc_gets_fewer_at_once(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        engine = await picked.engine("a1")
        await picked.publish("a", a_routed_model("1", engine, concurrent_requests=8))
        engine.may_answer.clear()
        engine.grpc_status = grpc.StatusCode.RESOURCE_EXHAUSTED
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(_refusal(generate(world, "a", "m1"))) for _ in range(10)]
            await picked.shows("a", "skerry_picker_open_requests", 10)
            engine.may_answer.set()
        assert {task.result() for task in calls} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        await picked.shows("a", "skerry_picker_open_requests", 0)
        engine.may_answer.clear()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(world.chat("a", "m1")) for _ in range(6)]
            await picked.shows("a", 'skerry_picker_waiting_requests{deployment="d1"}', 2)
            engine.may_answer.set()
        assert [task.result()[0] for task in tasks] == [200] * 6


async def test_a_deadline_sends_nobody_to_the_engine_that_is_full(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        engine = await picked.engine("a1")
        queue = {"queue_seconds_max": 1.0}
        await picked.publish("a", a_routed_model("1", engine, concurrent_requests=2, routing=queue))
        engine.may_answer.clear()
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(world.chat("a", "m1")) for _ in range(4)]

            async def all_run() -> bool:
                return len(engine.requests) == 4

            await eventually(all_run)
            late = [group.create_task(world.chat("a", "m1")) for _ in range(12)]
            called = group.create_task(_refusal(generate(world, "a", "m1")))
            answers = [await task for task in late]
            assert await called is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len(engine.requests) == 4
            engine.may_answer.set()
        assert [(status, body["error"]["code"]) for status, body in answers] == [
            (429, "replicas_busy")
        ] * 12
        assert [task.result()[0] for task in running] == [200] * 4


async def test_a_request_whose_only_replica_died_waits_for_the_next(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        engine = await picked.engine("a1")
        await picked.publish("a", a_routed_model("1", engine))
        assert (await world.chat("a", "m1"))[0] == 200
        assert await generate(world, "a", "m1") == "a1"
        engine.may_answer.clear()
        async with asyncio.TaskGroup() as group:
            under_way = group.create_task(world.chat("a", "m1"))  # its connection is reset

            async def came() -> bool:
                return len(engine.requests) == 2

            await eventually(came)
            await engine.kill()
            at_once = [group.create_task(world.chat("a", "m1")) for _ in range(5)]
            called = [group.create_task(generate(world, "a", "m1")) for _ in range(3)]

            async def all_wait() -> bool:
                values = await picked.metrics("a")
                return values.get('skerry_picker_waiting_requests{deployment="d1"}') == 9

            await eventually(all_wait)
            await engine.start()
        assert [task.result()[0] for task in (under_way, *at_once)] == [200] * 6
        assert [task.result() for task in called] == ["a1"] * 3


async def test_who_waits_is_answered_by_a_peer_that_comes(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        there = await picked.engine("b1")
        await picked.publish("b", a_routed_model("1"))
        await picked.publish("a", a_routed_model("1", peers=("b",)))
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(world.chat("a", "m1")) for _ in range(6)]
            called = [group.create_task(generate(world, "a", "m1")) for _ in range(3)]

            async def all_wait() -> bool:
                values = await picked.metrics("a")
                return values.get('skerry_picker_waiting_requests{deployment="d1"}') == 9

            await eventually(all_wait)
            await picked.publish("b", a_routed_model("1", there))
        answers = [task.result() for task in held]
        assert [(status, body["engine"]) for status, body in answers] == [(200, "b1")] * 6
        assert [task.result() for task in called] == ["b1"] * 3


async def test_a_plane_without_a_replica_sends_its_peer_no_more_than_that_takes(
    tmp_path: Path,
) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        there = await picked.engine("b1")
        await picked.publish("b", a_routed_model("1", there, concurrent_requests=2))
        await picked.publish("a", a_routed_model("1", peers=("b",), concurrent_requests=2))
        await picked.shows("a", 'skerry_picker_known_peers{deployment="d1"}', 1)
        there.may_answer.clear()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(world.chat("a", "m1")) for _ in range(12)]
            await picked.shows("a", 'skerry_picker_waiting_requests{deployment="d1"}', 8)

            async def arrived() -> bool:
                return len(there.requests) == 4  # two slots, and what keeps them busy

            await eventually(arrived)
            there.may_answer.set()
        answers = [task.result() for task in tasks]
        assert [(status, body["engine"]) for status, body in answers] == [(200, "b1")] * 12


async def test_a_call_that_waits_holds_none_of_its_message(tmp_path: Path) -> None:
    picker, clock = Picker(), SystemClock()
    picker.update([DeploymentTold("d", queue_requests_max=8, hold_seconds=60.0)], 0.0)
    room = Room(picker, clock)
    server = build_room_server(room)
    server.add_insecure_port(f"unix:{tmp_path}/room.sock")
    await server.start()
    messages = [bytes(3 * 1024 * 1024) for _ in range(8)]
    metadata = ((DEPLOYMENT_HEADER, "d"),)
    tracemalloc.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/room.sock") as channel:
            method: Any = channel.unary_stream(GENERATE)
            calls = [method(message, metadata=metadata) for message in messages]

            async def all_wait() -> bool:
                return room.waiting == 8

            await eventually(all_wait)
            held, _ = tracemalloc.get_traced_memory()
            for call in calls:
                call.cancel()
    finally:
        tracemalloc.stop()
        await server.stop(None)
    assert held < len(messages[0])  # of all eight together


async def test_an_answer_that_fails_is_logged_and_ends_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(exchange: Exchange) -> None:
        raise LookupError("a fault of ours")

    web = HttpServer(fail, body_bytes_max=9, keep_bytes_max=9)
    server = await asyncio.get_running_loop().create_server(web, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    server.close()
    # The first and the second; from then on ever fewer.
    assert [record.getMessage() for record in caplog.records].count("answer.failed") == 2


async def _refusal(call: Awaitable[str]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


async def test_a_large_body_is_steered_by_its_beginning_and_arrives_whole(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        engines = [await picked.engine(name) for name in ("a1", "a2")]
        await picked.publish("a", a_routed_model("1", *engines))
        body = "x" * 600_000
        for _ in range(2):
            status, _ = await world.chat("a", "m1", messages=[{"role": "user", "content": body}])
            assert status == 200
        values = await picked.metrics("a")
        assert values['skerry_picker_requests_total{outcome="steered"}'] == 2
        assert values['skerry_picker_prompt_tokens_total{deployment="d1"}'] > 290_000


async def test_forged_headers_steer_nothing(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        good, bad = await picked.engine("a1"), await picked.engine("a2")
        await picked.publish("a", a_routed_model("1", good), a_routed_model("2", bad))
        headers = {
            "x-skerry-endpoint": f"127.0.0.1:{bad.http_port}",
            "x-skerry-ticket": "1",
            "x-skerry-deployment": "d2",
            "x-envoy-max-retries": "9",
        }
        url = f"{world.planes['a'].url}/v1/chat/completions"
        async with world.client.post(url, json={"model": "m1"}, headers=headers) as response:
            assert (await response.json())["engine"] == "a1"
        assert "x-envoy-max-retries" not in good.requests[0]
        assert bad.requests == []
