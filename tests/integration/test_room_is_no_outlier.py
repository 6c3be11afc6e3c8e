"""Refusals of the waiting room, with a real Envoy: no failure of a host, which it puts out."""

import asyncio
from pathlib import Path

import grpc

from tests.integration.gateway_world import HOST, World, eventually, generate
from tests.integration.picker_world import PickedWorld, a_picked_world, a_routed_model
from workload_plane.gateway.outliers import GATEWAY_ERRORS_IN_A_ROW
from workload_plane.picker.wire import HELD_HEADER, WAITING_ROOM

# So many that each kind of answer alone would put a host out.
REQUESTS = GATEWAY_ERRORS_IN_A_ROW + 2


async def put_out(world: World) -> set[tuple[str, str]]:
    """Return (cluster, host) of all that plane `a` leaves out for its answers."""
    port = world.planes["a"].topology.listen.admin_port
    async with world.client.get(f"http://{HOST}:{port}/clusters?format=json") as answer:
        clusters = (await answer.json(content_type=None))["cluster_statuses"]
    return {
        (cluster["name"], host["hostname"])
        for cluster in clusters
        for host in cluster.get("host_statuses", ())
        if host["health_status"].get("failed_outlier_check")
    }


async def refused_over_grpc(world: World) -> grpc.StatusCode:
    try:
        await generate(world, "a", "m1")
    except grpc.aio.AioRpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


async def refused_over_http(world: World) -> tuple[int, str, bool]:
    url = f"{world.planes['a'].url}/v1/chat/completions"
    async with world.client.post(url, json={"model": "m1"}) as response:
        code = (await response.json())["error"]["code"]
        return response.status, code, HELD_HEADER in response.headers


async def without_replicas(picked: PickedWorld) -> None:
    """Publish a deployment of two replicas, both gone."""
    engines = [await picked.engine(name) for name in ("a1", "a2")]
    for engine in engines:
        await engine.kill()
    queue = {"queue_seconds_max": 1.0}
    await picked.publish("a", a_routed_model("1", *engines, routing=queue))


async def test_requests_that_nobody_took_in_time_do_not_put_the_waiting_room_out(
    tmp_path: Path,
) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        await without_replicas(picked)
        over_http = await asyncio.gather(*(refused_over_http(world) for _ in range(REQUESTS)))
        assert over_http == [(503, "no_ready_replica", False)] * REQUESTS
        over_grpc = await asyncio.gather(*(refused_over_grpc(world) for _ in range(REQUESTS)))
        assert over_grpc == [grpc.StatusCode.UNAVAILABLE] * REQUESTS
        assert await put_out(world) == set()
        # Who comes now waits as those before did, and is answered by the next replica.
        async with asyncio.TaskGroup() as group:
            held = group.create_task(world.chat("a", "m1"))
            called = group.create_task(generate(world, "a", "m1"))
            await picked.shows("a", 'skerry_picker_waiting_requests{deployment="d1"}', 2)
            await world.engines["a1"].start()
        assert (held.result()[0], called.result()) == (200, "a1")


async def test_a_replica_that_answers_503_is_put_out_beside_a_waiting_room(
    tmp_path: Path,
) -> None:
    async with a_picked_world(tmp_path) as picked:
        world = picked.world
        engines = [await picked.engine(name) for name in ("a1", "a2")]
        await picked.publish("a", a_routed_model("1", *engines))
        world.engines["a1"].status = 503

        async def is_out() -> bool:
            assert (await world.chat("a", "m1"))[0] == 200  # of two the other one answers
            return ("http/d1", "a1") in await put_out(world)

        await eventually(is_out)
        assert len(world.engines["a1"].requests) <= GATEWAY_ERRORS_IN_A_ROW
        assert ("http/d1", WAITING_ROOM) not in await put_out(world)
