"""The gateway with a real Envoy: two planes, fake engines, mTLS between the gateways."""

import asyncio
import contextlib
import io
import json
import signal
import ssl
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from skerry.fleet.observation import PeerVerdict
from skerry.plumbing.certificates import Subject, issue
from skerry.plumbing.processes import signal_process, spawn, wait_until_gone
from tests.integration.gateway_world import (
    CLOCK,
    GENERATE,
    HEALTH_CHECK,
    HOST,
    SETTLE_SECONDS_MAX,
    FakeEngine,
    Plane,
    a_fleet,
    a_model,
    eventually,
    generate,
    listening_port,
    peer_request,
    string_field,
)
from workload_plane.gateway import routes
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.gateway.files import repair
from workload_plane.gateway.order import CLUSTERS
from workload_plane.gateway.peers import witness_views

pytestmark = pytest.mark.integration


async def test_requests_reach_the_replica_of_the_model_their_body_names(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        assert await world.chat("a", "m1") == (200, {"engine": "a1", "model": "m1"})
        assert await world.chat("a", "m2") == (200, {"engine": "a2", "model": "m2"})
        assert await world.chat("b", "m1") == (200, {"engine": "b1", "model": "m1"})


async def test_clients_cannot_set_headers_that_gateways_trust(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        url = f"{world.planes['a'].url}/v1/chat/completions"
        forged = {"x-skerry-forged": "1", "x-skerry-deployment": "d2", "x-envoy-max-retries": "9"}
        async with world.client.post(url, json={"model": "m1"}, headers=forged) as response:
            assert (response.status, response.headers["x-skerry-plane"]) == (200, "a")
        (seen,) = world.engines["a1"].requests
        assert "x-skerry-forged" not in seen
        assert "x-envoy-max-retries" not in seen
        assert seen["x-skerry-deployment"] == "d1"


async def test_wrong_requests_are_told_what_is_wrong(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        url = world.planes["a"].url
        chat = "/v1/chat/completions"
        cases: list[tuple[str, str, bytes, int, str, str]] = [
            ("POST", chat, b'{"model":"nope"}', 404, "model_not_found", "`nope` is not served"),
            ("POST", chat, b'{"model":"nope"}', 404, "model_not_found", "served: m1, m2"),
            ("POST", "/v1/completions", b'{"model": 5}', 400, "missing_model", "string `model`"),
            ("POST", chat, b"{}", 400, "missing_model", "string `model`"),
            ("POST", chat, b"", 400, "missing_model", "string `model`"),
            ("POST", chat, b'{"mod', 400, "invalid_json", "not valid JSON"),
            ("POST", chat, b'{"x":"' + b"x" * 2**22 + b'"}', 413, "body_too_large", "4 MiB"),
            ("GET", chat, b"", 405, "method_not_allowed", "POST"),
            ("GET", "/nope", b"", 404, "unknown_path", "/v1/models"),
            ("GET", "/v1/models/nope", b"", 404, "model_not_found", "served: m1, m2"),
        ]
        for method, path, body, status, code, words in cases:
            headers = {"content-type": "application/json; charset=utf-8"}
            async with world.client.request(
                method, url + path, data=io.BytesIO(body) if body else None, headers=headers
            ) as response:
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (status, code), (path, body[:40])
                assert words in error["message"]
                assert response.content_type == "application/json"


async def test_models_are_listed_by_the_gateway_itself(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        url = world.planes["a"].url
        async with world.client.get(f"{url}/v1/models") as response:
            listed = await response.json()
        assert [entry["id"] for entry in listed["data"]] == ["m1", "m2"]
        async with world.client.get(f"{url}/v1/models/m2?x=1") as response:
            assert (await response.json())["owned_by"] == "default"


async def test_events_of_a_stream_pass_at_once(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        url = f"{world.planes['a'].url}/v1/chat/completions"
        async with world.client.post(url, json={"model": "m1", "stream": True}) as response:
            # The engine sends its second event only after the first was read here.
            assert await response.content.readuntil(b"\n\n") == b"data: a1\n\n"
            world.engines["a1"].next_event.set()
            assert await response.content.readuntil(b"\n\n") == b"data: [DONE]\n\n"


async def test_grpc_shares_the_port_and_is_routed_by_the_message(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        assert await generate(world, "a", "m1") == "a1"
        assert await generate(world, "a", "m2") == "a2"
        assert await generate(world, "a", "", **{"x-model": "m2"}) == "a2"
        assert await generate(world, "a", "nope") == "front"
        assert await generate(world, "a", "") == "front"
        assert await generate(world, "a", "m1", "/openengine.v1.Control/GetLoad") == "front"
        assert await generate(world, "a", "m1", "/grpc.health.v1.Health/Watch") == "front"
        assert await generate(world, "a", "m1", HEALTH_CHECK) == ""  # the status, and no name


async def test_a_killed_replica_costs_no_request_that_had_not_begun(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        world.engines["a1"].delay_seconds = world.engines["b1"].delay_seconds = 0.05
        answered: list[tuple[int, str]] = []

        async def one(delay_seconds: float) -> None:
            await CLOCK.sleep(delay_seconds)
            status, body = await world.chat("a")
            answered.append((status, body.get("engine", "")))

        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(one(number / 150))
            await CLOCK.sleep(0.5)
            await world.engines["a1"].kill()
        assert [entry for entry in answered if entry[0] != 200] == []
        assert {engine for _, engine in answered} == {"a1", "b1"}
        assert await generate(world, "a", "m1") == "b1"


async def test_a_model_served_only_at_peers_is_served(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        a = world.planes["a"]
        first, *others = a.topology.models
        a.topology = replace(a.topology, models=(replace(first, replicas=()), *others))
        await world.settled("a", await a.publish("a1"))
        url = f"{a.url}/v1/chat/completions"
        async with world.client.post(url, json={"model": "m1"}) as response:
            assert (await response.json())["engine"] == "b1"
            assert response.headers["x-skerry-plane"] == "b"
        assert world.engines["b1"].requests[-1]["x-envoy-attempt-count"] == "1"
        assert "x-skerry-deployment" in world.engines["b1"].requests[-1]


async def test_a_forwarded_request_is_never_forwarded_again(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        await world.engines["b1"].kill()
        headers = {"x-skerry-deployment": "d1"}
        async with peer_request(world, "b", "POST", "/v1/completions", headers) as response:
            assert response.status == 503
            assert (await response.json())["error"]["type"] == "server_error"
        assert world.engines["a1"].requests == []


async def test_nothing_ready_anywhere_is_an_honest_503(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        for engine in ("a1", "b1"):
            await world.engines[engine].kill()
        assert (await world.chat("a"))[0] == 503

        async def known() -> bool:
            status = await world.status("a")
            return status is not None and not any(h.healthy for h in status.hosts["http/d1"])

        await eventually(known)
        status, body = await world.chat("a")
        assert (status, body["error"]["code"]) == (503, "no_ready_replica")


async def test_a_stream_that_does_not_begin_is_tried_elsewhere_and_a_late_answer_is_cut(
    tmp_path: Path,
) -> None:
    async with a_fleet(tmp_path) as world:
        a = world.planes["a"]
        first, *others = a.topology.models
        hasty = replace(first, ttft_bound_seconds=0.2, total_deadline_seconds=1)
        a.topology = replace(a.topology, models=(hasty, *others))
        await world.settled("a", await a.publish())
        world.engines["a1"].may_answer.clear()
        world.engines["b1"].next_event.set()
        url = f"{a.url}/v1/chat/completions"
        async with world.client.post(url, json={"model": "m1", "stream": True}) as response:
            assert await response.content.readuntil(b"\n\n") == b"data: b1\n\n"
        # The peer can tell that this was the second try.
        assert world.engines["b1"].requests[-1]["x-envoy-attempt-count"] == "2"
        status, body = await world.chat("a")
        assert (status, body["error"]["code"]) == (504, "deadline_exceeded")


# An engine of its own process, so that it can be stopped: answers /health and every POST.
STOPPABLE = """
import http.server, sys
class Engine(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b'{"engine": "stoppable"}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Engine).serve_forever()
"""


async def test_a_stopped_replica_gets_nothing_new_and_its_requests_move_when_it_is_killed(
    tmp_path: Path,
) -> None:
    async with a_fleet(tmp_path) as world:
        a, port = world.planes["a"], listening_port()
        log = tmp_path / "engine.log"
        argv = [sys.executable, "-c", STOPPABLE, str(port)]
        engine = spawn(argv, env=None, cwd=None, stdout_path=log, die_with_parent=True)
        try:
            replica = replace(world.engines["a1"].replica(), name="s", http_port=port)
            first, *others = a.topology.models
            replica = replace(replica, health_port=port)
            a.topology = replace(a.topology, models=(replace(first, replicas=(replica,)), *others))
            await world.settled("a", await a.publish())

            async def serves() -> bool:
                return bool((await world.chat("a"))[1].get("engine") == "stoppable")

            await eventually(serves)
            signal_process(engine, signal.SIGSTOP)

            async def noticed() -> bool:
                status = await world.status("a")
                return status is not None and status.hosts["http/d1"][0].healthy is False

            async with asyncio.TaskGroup() as group:
                waiting = [group.create_task(world.chat("a")) for _ in range(5)]
                await eventually(noticed)
                # Nothing new goes there; what waits is freed by whoever kills what hangs.
                assert (await world.chat("a"))[1]["engine"] == "b1"
                # (On a busy machine one or the other was sent so late that it went elsewhere.)
                assert not all(task.done() for task in waiting)
                signal_process(engine, signal.SIGKILL)
            answers = [task.result() for task in waiting]
            assert answers == [(200, {"engine": "b1", "model": "m1"})] * 5
        finally:
            signal_process(engine, signal.SIGKILL)
            await wait_until_gone(engine)


async def test_renewed_certificates_are_taken_up_while_requests_pass(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        before = await world.certificate("b")
        subject = Subject(name="b", dns_names=("b",))
        await asyncio.to_thread(issue, world.authority, tmp_path / "tls-b", subject, CLOCK.now())
        await world.engines["a1"].kill()

        async def renewed() -> bool:
            assert (await world.chat("a")) == (200, {"engine": "b1", "model": "m1"})
            return await world.certificate("b") != before

        await eventually(renewed)


async def test_the_peers_listener_wants_a_certificate_of_the_fleet(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        port = world.planes["a"].topology.listen.peer_port
        tls = world.planes["b"].topology.tls
        assert tls is not None
        context = ssl.create_default_context(cafile=tls.authority_path)
        stranger = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=stranger) as session:
            with pytest.raises((aiohttp.ClientError, OSError)):
                await session.get(f"https://{HOST}:{port}/skerry/alive", server_hostname="a")
        async with peer_request(world, "a", "GET", "/skerry/alive", {}) as response:
            assert await response.json() == {"plane": "a"}
        unknown = {"x-skerry-deployment": "unknown"}
        async with peer_request(world, "a", "POST", "/v1/completions", unknown) as response:
            assert response.status == 503
            assert (await response.json())["error"]["code"] == "deployment_not_found"
        async with peer_request(world, "a", "GET", "/nothing", {}) as response:
            assert response.status == 404


async def test_no_page_of_envoys_admin_ends_it(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        admin = f"http://{HOST}:{world.planes['a'].topology.listen.admin_port}"
        for path in ("/config_dump?include_eds", "/quitquitquit", "/logging?level=trace"):
            async with world.client.post(admin + path) as response:
                assert response.status == 403, path
        async with world.client.get(f"{admin}/config_dump?include_eds") as response:
            assert response.status == 403
        for path in ("/stats/prometheus", "/clusters?format=json", "/certs", "/ready"):
            async with world.client.get(admin + path) as response:
                assert response.status == 200, path
        assert (await world.chat("a"))[0] == 200


async def test_a_revoked_planes_certificate_is_refused_by_its_peers(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        b = world.planes["b"]

        async def answers(status: int) -> bool:
            async with peer_request(world, "b", "GET", "/skerry/alive", {}) as response:
                return response.status == status

        revoked = ("projects/default/planes/a", "projects/default/planes/c")
        spiffe = "spiffe://whichever.example/project/default/plane"
        for uri in ("skerry://projects/default/planes/a", f"{spiffe}/a"):
            subject = Subject(name="a", uris=(uri,), dns_names=("a",))
            issue(world.authority, tmp_path / "tls-a", subject, CLOCK.now())
            for names, status in ((revoked, 403), (revoked[1:], 200)):
                b.topology = replace(b.topology, revoked=names)
                await b.publish()
                await eventually(partial(answers, status))
                assert (await world.chat("b"))[0] == 200  # users of the plane see nothing of it


async def test_a_peer_that_serves_a_deployment_no_more_is_no_clients_404(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        a, b = world.planes["a"], world.planes["b"]
        first, *others = a.topology.models
        a.topology = replace(a.topology, models=(replace(first, replicas=()), *others))
        await world.settled("a", await a.publish("a1"))
        assert (await world.chat("a"))[1]["engine"] == "b1"
        b.topology = replace(b.topology, models=b.topology.models[1:])
        await b.publish("d1", "b1")  # which the other gateway is about to see
        codes = set()

        async def seen() -> bool:
            status, body = await world.chat("a")
            codes.add((status, body.get("error", {}).get("code")))
            return (503, "no_ready_replica") in codes

        await eventually(seen)
        assert {status for status, _ in codes} <= {200, 503}
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await generate(world, "a", "m1")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_swapping_everything_under_load_fails_nothing(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        a = world.planes["a"]
        third = FakeEngine("a3")
        world.engines["a3"] = third
        await third.start()
        failed: list[Any] = []
        done = asyncio.Event()
        count = 0

        async def load() -> None:
            nonlocal count
            while not done.is_set():
                status, body = await world.chat("a")
                count += 1
                if status != 200:
                    failed.append(body)

        base = a.topology.models
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            for swap in range(10):
                grown = (replace(base[0], replicas=(*base[0].replicas, third.replica())), base[1])
                models = (*grown, a_model("3", third)) if swap % 2 == 0 else base
                a.topology = replace(a.topology, models=models)
                await world.settled("a", await a.publish("d3", "a3"))
            done.set()
        assert failed == []
        assert count > 20
        assert (await world.chat("a", "m3"))[0] == 404


async def test_a_draining_replica_ends_its_streams_and_gets_no_more(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        a = world.planes["a"]
        second = FakeEngine("a3")
        world.engines["a3"] = second
        await second.start()
        url = f"{a.url}/v1/chat/completions"
        async with world.client.post(url, json={"model": "m1", "stream": True}) as response:
            assert await response.content.readuntil(b"\n\n") == b"data: a1\n\n"
            first, *others = a.topology.models
            leaving = world.engines["a1"].replica(draining=True)
            models = (replace(first, replicas=(leaving, second.replica())), *others)
            a.topology = replace(a.topology, models=models)
            await world.settled("a", await a.publish())
            engines = {(await world.chat("a"))[1]["engine"] for _ in range(20)}
            assert engines == {"a3"}
            status = await world.status("a")
            assert status is not None
            assert status.in_flight["d1"].here_from_clients == 1
            world.engines["a1"].next_event.set()
            assert await response.content.readuntil(b"\n\n") == b"data: [DONE]\n\n"


async def test_a_torn_file_keeps_the_last_good_and_is_repaired_for_a_restart(
    tmp_path: Path,
) -> None:
    async with a_fleet(tmp_path) as world:
        a = world.planes["a"]
        torn = a.folder / CLUSTERS
        whole = torn.read_bytes()
        temporary = torn.with_name("torn")
        temporary.write_bytes(whole[: len(whole) // 2])
        temporary.rename(torn)

        async def reported() -> bool:
            status = await world.status("a")
            return status is not None and CLUSTERS in status.rejected

        await eventually(reported)
        assert (await world.chat("a"))[0] == 200
        await a.kill()
        assert await world.status("a") is None
        assert repair(a.folder) == (CLUSTERS,)
        # Nobody but a supervisor with the files: no agent, no topology.
        a.envoy = spawn(
            envoy_argv(a.folder), env=None, cwd=None, stdout_path=a.folder / "envoy.log"
        )

        async def back() -> bool:
            try:
                return (await world.chat("a"))[0] == 200
            except aiohttp.ClientError:
                return False

        await eventually(back)


async def test_witnesses_see_a_killed_gateway_within_three_seconds(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:

        async def verdict() -> PeerVerdict:
            status = await world.status("a")
            assert status is not None
            return witness_views(status.peers)[0].verdict

        assert await verdict() is PeerVerdict.SERVING
        await world.engines["b1"].kill()
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while await verdict() is not PeerVerdict.REACHABLE:
                await CLOCK.sleep(0.02)
        await world.planes["b"].kill()
        async with asyncio.timeout(3.0):
            while await verdict() is not PeerVerdict.UNREACHABLE:
                await CLOCK.sleep(0.02)


async def test_a_second_gateway_on_the_same_port_is_reported_not_shared(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        a = world.planes["a"]
        listen = replace(a.topology.listen, admin_port=listening_port())
        double = Plane(
            topology=replace(a.topology, models=(), listen=listen), folder=tmp_path / "double"
        )
        double.folder.mkdir()
        world.planes["double"] = double
        double.start()

        async def refused() -> bool:
            status = await world.status("double")
            return status is not None and bool(status.rejected)

        await eventually(refused)
        assert json.dumps((await world.chat("a"))[1]) == '{"engine": "a1", "model": "m1"}'


async def test_a_hundred_deployments_need_no_more_watches_than_one(tmp_path: Path) -> None:
    # Linux gives a user 128 inotify handles; Envoy aborts when it asks for one more.
    async with a_fleet(tmp_path) as world:
        a = world.planes["a"]
        assert a.envoy is not None
        before = inotify_handles(a.envoy.pid)
        engine = world.engines["a2"]
        many = [
            replace(a_model(f"9{number}"), replicas=(replace(engine.replica(), name=f"x{number}"),))
            for number in range(100)
        ]
        a.topology = replace(a.topology, models=(*a.topology.models, *many))
        await world.settled("a", await a.publish())

        async def served() -> bool:
            # A hundred first health checks take their time on a busy machine.
            return await world.chat("a", "m999") == (200, {"engine": "a2", "model": "m999"})

        await eventually(served)
        assert await generate(world, "a", "m999") == "a2"
        assert inotify_handles(a.envoy.pid) == before < 16


def inotify_handles(pid: int) -> int:
    """Return how many inotify handles a process holds."""
    handles = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a connection that ended since the listing
            handles.append(str(link.readlink()))
    return handles.count("anon_inode:inotify")


async def test_nobody_waits_for_a_front_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "FRONT_SECONDS_MAX", 1.0)
    async with a_fleet(tmp_path) as world:
        world.engines["front"].may_answer.clear()
        started = CLOCK.monotonic()
        late = {
            GENERATE: grpc.StatusCode.UNAVAILABLE,
            HEALTH_CHECK: grpc.StatusCode.DEADLINE_EXCEEDED,
            "/openengine.v1.Control/GetLoad": grpc.StatusCode.DEADLINE_EXCEEDED,
        }
        calls = [generate(world, "a", "", path) for path in late]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer, status in zip(answers, late.values(), strict=True):
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert answer.code() is status
        assert CLOCK.monotonic() - started < 8.0  # the callers' own bound is ten seconds

        async def is_left_out() -> bool:
            status = await world.status("a")
            return status is not None and status.hosts["front"][0].healthy is False

        await eventually(is_left_out)
        with pytest.raises(grpc.aio.AioRpcError, match="no healthy upstream"):
            await generate(world, "a", "", "/openengine.v1.Control/GetLoad")
        assert await generate(world, "a", "m1") == "a1"


@pytest.mark.parametrize("seconds", [None, 20.0])
async def test_what_bounds_the_fronts_answers_bounds_no_stream_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    """A message's route is the front's before its model is read: its bound must not stay."""
    monkeypatch.setattr(routes, "FRONT_SECONDS_MAX", 1.0)
    async with a_fleet(tmp_path) as world:
        engine = world.engines["a1"]
        engine.may_generate.clear()
        port = world.planes["a"].topology.listen.public_port
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            method: Any = channel.unary_stream(GENERATE)
            call = method(string_field(2, "m1"), timeout=seconds)
            await engine.generating.wait()
            await CLOCK.sleep(2.5)
            engine.may_generate.set()
            assert [answer async for answer in call] == [string_field(1, "a1")]
