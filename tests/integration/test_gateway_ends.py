"""How a gateway ends, is started anew, and says that it refused something, with a real Envoy."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.gateway_world import (
    CLOCK,
    HOST,
    Plane,
    World,
    a_fleet,
    a_model,
    descriptor_set,
    eventually,
    peer_context,
    peer_request,
)
from tests.integration.picker_world import a_picked_world, a_routed_model
from workload_plane.gateway import files, listeners, resources
from workload_plane.gateway.bootstrap import BootstrapKeeper
from workload_plane.gateway.condition import (
    CONFIRM_SECONDS_MAX,
    Watch,
    gateway_faults,
    refused_files,
)
from workload_plane.gateway.draining import drain_gateway
from workload_plane.gateway.files import BOOTSTRAP, PROPOSED_BOOTSTRAP
from workload_plane.gateway.order import CLUSTERS
from workload_plane.gateway.outliers import EJECTION_SECONDS, ERRORS_IN_A_ROW
from workload_plane.gateway.program import Programs, ProgramVersions
from workload_plane.gateway.publish import ensure_initial
from workload_plane.gateway.trial import try_start
from workload_plane.gateway.wire import Json

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_fleet(tmp_path) as fleet:
        yield fleet


def rewrite(path: Path, change: Any) -> None:
    """Put another content of the right version into a file, as a newer release might write it."""
    resources = json.loads(path.read_bytes())["resources"]
    change(resources)
    version = files.version_of(tuple(resources))
    fresh = path.with_name("fresh")
    fresh.write_text(json.dumps({"version_info": version, "resources": resources}))
    fresh.rename(path)


async def test_a_drained_gateway_ends_every_stream_and_peers_have_turned_away(
    world: World,
) -> None:
    a = world.planes["a"]
    url = f"{a.url}/v1/chat/completions"
    streams = [await world.client.post(url, json={"model": "m1", "stream": True}) for _ in range(9)]
    for stream in streams:
        assert await stream.content.readuntil(b"\n\n") == b"data: a1\n\n"

    async def refuses() -> bool:
        try:
            async with aiohttp.ClientSession() as fresh, fresh.get(f"{a.url}/health") as response:
                assert response.status == 503, "whoever asks is told before connections are refused"
                return False
        except aiohttp.ClientError:
            return True

    async def told() -> bool:
        async with aiohttp.ClientSession() as fresh, fresh.get(f"{a.url}/health") as response:
            return response.status == 503

    async with asyncio.TaskGroup() as group:
        drain = group.create_task(drain_gateway(a.topology.listen.admin_port, CLOCK))
        await eventually(told)
        # Meanwhile it still serves whoever has not heard.
        async with aiohttp.ClientSession() as fresh:
            async with fresh.post(url, json={"model": "m1"}) as response:
                assert (response.status, response.headers["connection"]) == (200, "close")
        await eventually(refuses)
        status = await world.status("b")
        assert status is not None
        assert [host.healthy for host in status.hosts["http/d1"] if host.name == "a"] == [False]
        assert (await world.chat("b"))[0] == 200
        assert not drain.done()
        world.engines["a1"].next_event.set()
        for stream in streams:
            assert await stream.content.readuntil(b"\n\n") == b"data: [DONE]\n\n"
            stream.close()
    assert drain.result() == (True, 0)


async def test_a_drain_is_bounded_and_one_of_a_dead_gateway_is_over(world: World) -> None:
    a = world.planes["a"]
    url = f"{a.url}/v1/chat/completions"
    stream = await world.client.post(url, json={"model": "m1", "stream": True})
    assert await stream.content.readuntil(b"\n\n") == b"data: a1\n\n"
    port = a.topology.listen.admin_port
    assert await drain_gateway(port, CLOCK, 0.5) == (True, 1)
    stream.close()
    await a.kill()
    assert await drain_gateway(port, CLOCK) == (False, 0)


async def test_a_trial_start_of_good_files_serves_and_touches_nothing(world: World) -> None:
    a = world.planes["a"]
    before = {path: path.read_bytes() for path in a.folder.rglob("*.json")}
    assert await try_start(a.folder, CLOCK) == ""
    assert {path: path.read_bytes() for path in a.folder.rglob("*.json")} == before
    assert (await world.chat("a"))[0] == 200


async def test_a_trial_start_finds_unknown_fields_in_static_and_dynamic_files(
    world: World, tmp_path: Path
) -> None:
    a = world.planes["a"]
    bootstrap = json.loads((a.folder / BOOTSTRAP).read_bytes())
    (a.folder / "odd.json").write_text(json.dumps({**bootstrap, "of_a_newer_release": True}))
    fault = await try_start(a.folder, CLOCK, "odd.json")
    assert fault.startswith("it ended at once")
    assert "of_a_newer_release" in fault

    def change(clusters: list[Json]) -> None:
        clusters[0]["of_a_newer_release"] = True

    rewrite(a.folder / CLUSTERS, change)
    fault = await try_start(a.folder, CLOCK)
    assert fault.startswith("it refuses its files (cluster_manager.cds.update_rejected)")
    assert (await world.chat("a"))[0] == 200, "the running one keeps the last good"


async def test_a_refused_update_is_told_upwards_until_it_is_mended(world: World) -> None:
    a = world.planes["a"]
    good = (a.folder / CLUSTERS).read_bytes()
    published = await a.publish()

    def change(clusters: list[Json]) -> None:
        clusters[0]["connect_timeout"] = "never"

    rewrite(a.folder / CLUSTERS, change)
    versions = {**published.versions, CLUSTERS: "the-one-that-is-refused"}

    async def faults() -> tuple[str, ...]:
        status = await world.status("a")
        late = CONFIRM_SECONDS_MAX + 1
        return gateway_faults(Watch(now=late, answered_at=late, status=status, published=versions))

    async def told() -> bool:
        return any("Envoy refused them" in fault and CLUSTERS in fault for fault in await faults())

    await eventually(told)
    fresh = (a.folder / CLUSTERS).with_name("fresh")
    fresh.write_bytes(good)
    fresh.rename(a.folder / CLUSTERS)
    versions[CLUSTERS] = published.versions[CLUSTERS]

    async def mended() -> bool:
        return await faults() == ()

    await eventually(mended)


async def unasked() -> Programs:
    return Programs()


async def test_another_program_that_refuses_the_files_is_told_and_the_running_one_serves(
    world: World,
) -> None:
    a = world.planes["a"]
    versions = ProgramVersions(a.topology.listen.admin_port)
    async with aiohttp.ClientSession() as session:
        programs = await versions.ask(session, CLOCK.monotonic())
    assert programs.running == programs.next != "", "it runs and would be started"

    async def as_after_an_upgrade() -> Programs:
        return programs._replace(running="of-before")

    keeper = BootstrapKeeper(a.folder, CLOCK, as_after_an_upgrade)
    good = (a.folder / CLUSTERS).read_bytes()

    def change(clusters: list[Json]) -> None:
        clusters[0]["of_a_newer_release"] = True

    rewrite(a.folder / CLUSTERS, change)
    assert await keeper.keep()
    assert keeper.fault.startswith("it refuses its files (cluster_manager.cds.update_rejected)")
    (told,) = gateway_faults(
        Watch(now=0, answered_at=0, status=await world.status("a"), trial=keeper.fault)
    )
    assert told.startswith("gateway: a new Envoy would not serve")
    assert (await world.chat("a"))[0] == 200
    (a.folder / CLUSTERS).write_bytes(good)
    assert await keeper.keep()
    assert keeper.fault == ""
    assert not await keeper.keep()


async def test_a_changed_bootstrap_is_tried_before_it_is_the_one_to_start_from(
    world: World,
) -> None:
    a = world.planes["a"]
    old = (a.folder / BOOTSTRAP).read_bytes()
    moved = replace(a.topology, project="other")
    ensure_initial(moved, a.folder, descriptor_set())
    assert (a.folder / BOOTSTRAP).read_bytes() == old
    keeper = BootstrapKeeper(a.folder, CLOCK, unasked)
    assert await keeper.keep()
    assert (keeper.fault, (a.folder / PROPOSED_BOOTSTRAP).exists()) == ("", False)
    assert b'"other"' in (a.folder / BOOTSTRAP).read_bytes()
    status = await world.status("a")
    assert status is not None
    assert status.uptime_seconds is not None
    assert not keeper.is_newer_than(replace(status, uptime_seconds=0))
    assert keeper.is_newer_than(replace(status, uptime_seconds=3_600))


async def test_a_bootstrap_that_no_envoy_starts_from_is_never_put_in_force(world: World) -> None:
    a = world.planes["a"]
    old = (a.folder / BOOTSTRAP).read_bytes()
    bad = {**json.loads(old), "of_a_newer_release": True}
    assert files.write_bootstrap(a.folder, bad)
    keeper = BootstrapKeeper(a.folder, CLOCK, unasked)
    assert await keeper.keep()
    assert "of_a_newer_release" in keeper.fault
    assert (a.folder / BOOTSTRAP).read_bytes() == old
    # What the operator takes back is forgotten.
    assert not files.write_bootstrap(a.folder, json.loads(old))
    assert not await keeper.keep()
    assert keeper.fault == ""


async def test_a_replica_whose_every_answer_is_an_error_is_left_out(world: World) -> None:
    a: Plane = world.planes["a"]
    first, *others = a.topology.models
    third, fourth = world.engines["a2"], world.engines["b1"]
    replicas = tuple(engine.replica() for engine in (world.engines["a1"], third, fourth))
    a.topology = replace(a.topology, models=(replace(first, replicas=replicas, peers=()), *others))
    await world.settled("a", await a.publish())
    world.engines["a1"].status = 500

    async def left_out() -> bool:
        answers = [await world.chat("a") for _ in range(20)]
        return all(status == 200 for status, _ in answers)

    await eventually(left_out)


async def test_what_is_left_out_stays_so_although_its_health_checks_pass(world: World) -> None:
    a: Plane = world.planes["a"]
    first, *others = a.topology.models
    replicas = tuple(world.engines[name].replica() for name in ("a1", "a2", "b1"))
    a.topology = replace(a.topology, models=(replace(first, replicas=replicas, peers=()), *others))
    await world.settled("a", await a.publish())
    broken = world.engines["a1"]
    broken.status = 500
    while len(broken.requests) < ERRORS_IN_A_ROW:
        await world.chat("a")
    until = CLOCK.monotonic() + EJECTION_SECONDS / 2  # five of its health checks
    while CLOCK.monotonic() < until:
        assert (await world.chat("a"))[0] == 200


async def test_errors_at_once_are_left_out_by_the_picker(
    tmp_path: Path,
) -> None:
    async with a_picked_world(tmp_path) as picked:
        engines = [await picked.engine(name) for name in ("a1", "a2", "a3")]
        await picked.publish("a", a_routed_model("1", *engines))
        broken, *good = engines
        broken.status = 500
        for engine in good:
            engine.delay_seconds = 0.02  # the broken one is always the least busy
        async with asyncio.TaskGroup() as group:
            rounds = [group.create_task(_statuses(picked.world, 75)) for _ in range(4)]
        statuses = [status for one in rounds for status in one.result()]
        assert len(statuses) == 300
        assert statuses.count(500) == len(broken.requests) <= ERRORS_IN_A_ROW + 10
        assert set(statuses[-40:]) == {200}


async def _statuses(world: World, count: int) -> list[int]:
    return [(await world.chat("a"))[0] for _ in range(count)]


async def test_a_single_replica_is_never_left_out_and_its_errors_are_its_own(
    world: World,
) -> None:
    a = world.planes["a"]
    first, *others = a.topology.models
    a.topology = replace(a.topology, models=(replace(first, peers=()), *others))
    await world.settled("a", await a.publish())
    world.engines["a1"].status = 500
    assert {status for status, _ in [await world.chat("a") for _ in range(60)]} == {500}
    world.engines["a1"].status = 200
    assert (await world.chat("a"))[0] == 200


async def test_a_long_silent_answer_and_a_long_prefill_are_not_cut(world: World) -> None:
    a = world.planes["a"]
    engine = world.engines["a1"]
    # Ten times as silent as the objective, and well inside the bounds that follow from it.
    patient = replace(
        a_model("1", engine), ttft_bound_seconds=1.5, total_deadline_seconds=30, peers=("b",)
    )
    a.topology = replace(a.topology, models=(patient, *a.topology.models[1:]))
    await world.settled("a", await a.publish())
    engine.delay_seconds = 4.0  # below 3 x the bound; far above every health check
    url = f"{a.url}/v1/chat/completions"
    engine.next_event.set()
    assert await world.chat("a") == (200, {"engine": "a1", "model": "m1"})
    async with world.client.post(url, json={"model": "m1", "stream": True}) as response:
        assert await response.content.readuntil(b"\n\n") == b"data: a1\n\n"
    assert len(engine.requests) == 2, "neither was sent again"


async def test_a_gateway_killed_after_a_refused_update_comes_back_with_what_it_last_took_up(
    world: World,
) -> None:
    a = world.planes["a"]
    published = await a.publish()
    files.confirm(a.folder, published.versions)

    def change(clusters: list[Json]) -> None:
        clusters[0]["connect_timeout"] = "never"

    rewrite(a.folder / CLUSTERS, change)
    refused = {**published.versions, CLUSTERS: files.published_versions(a.folder)[CLUSTERS]}

    async def seen() -> bool:
        status = await world.status("a")
        return status is not None and refused_files(status, refused, {}) == (CLUSTERS,)

    await eventually(seen)
    assert files.revert(a.folder, (CLUSTERS,)) == (CLUSTERS,)
    assert files.published_versions(a.folder) == dict(published.versions)
    await a.kill()
    a.start()

    async def back() -> bool:
        try:
            return (await world.chat("a"))[0] == 200
        except aiohttp.ClientError:
            return False

    await eventually(back)


async def test_all_that_waits_on_a_dead_plane_is_answered_by_a_peer_at_once(world: World) -> None:
    # Envoy's default budget is 3 retries, and a fixed one of 256 would fail what is beyond it.
    engine, many = world.engines["a1"], 400
    engine.may_answer.clear()
    connector = aiohttp.TCPConnector(limit=0)
    url = f"{world.planes['a'].url}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=connector) as client:

        async def one() -> tuple[int, str]:
            async with client.post(url, json={"model": "m1"}) as response:
                return response.status, (await response.json()).get("engine", "")

        async def all_wait() -> bool:
            return len(engine.requests) == many

        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(one()) for _ in range(many)]
            await eventually(all_wait)
            await engine.kill()
    assert {answer.result() for answer in answers} == {(200, "b1")}


async def test_gateways_speak_nothing_older_than_tls_1_3(world: World) -> None:
    old = peer_context(world)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    port = world.planes["b"].topology.listen.peer_port
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection(HOST, port, ssl=old, server_hostname="b")


async def test_clients_that_fill_the_public_port_shut_out_no_peer_and_are_closed_when_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CONNECTIONS_MAX", 20)
    monkeypatch.setattr(listeners, "_FIRST_WORD_SECONDS", 2.0)
    async with a_fleet(tmp_path) as world:
        port = world.planes["a"].topology.listen.public_port
        silent = [await asyncio.open_connection(HOST, port) for _ in range(40)]
        with pytest.raises(aiohttp.ClientError):
            async with aiohttp.ClientSession() as fresh:
                await fresh.get(f"{world.planes['a'].url}/v1/models")
        async with peer_request(world, "a", "GET", "/skerry/alive", {}) as response:
            assert response.status == 200
        async with peer_request(world, "a", "GET", "/health", {"host": "d1"}) as response:
            assert response.status == 200, "its peers go on to take it for READY"
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
        async with aiohttp.ClientSession() as fresh:
            async with fresh.get(f"{world.planes['a'].url}/v1/models") as response:
                assert response.status == 200
