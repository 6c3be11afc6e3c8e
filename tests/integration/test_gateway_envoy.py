"""The gateway with a real Envoy: two planes, fake engines, mTLS between the gateways."""

import asyncio
import io
import json
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from google.protobuf import descriptor_pb2

from skerry.fleet.observation import PeerVerdict
from skerry.plumbing.certificates import Subject, create_authority, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port
from skerry.plumbing.processes import ProcessRecord, signal_process, spawn, wait_until_gone
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.gateway.files import repair
from workload_plane.gateway.order import CLUSTERS
from workload_plane.gateway.peers import witness_views
from workload_plane.gateway.publish import PublishResult, ensure_initial, publish
from workload_plane.gateway.status import GatewayStatus, read_status, unconfirmed
from workload_plane.gateway.topology import (
    Address,
    GatewayTopology,
    ListenAddresses,
    LocalReplica,
    Peer,
    PeerTls,
    ServedModel,
)

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
CLOCK = SystemClock()
GENERATE = "/openengine.v1.Inference/Generate"
# Far above what any step takes here; a miss is a failure, not a slow machine.
SETTLE_SECONDS_MAX = 20.0


class FakeEngine:
    """OpenAI HTTP and Generate on two ports; every answer says which engine gave it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.http_port = free_port(HOST)
        self.grpc_port = free_port(HOST)
        self.requests: list[dict[str, str]] = []
        self.delay_seconds = 0.0
        self.next_event = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._grpc: grpc.aio.Server | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.http_port, reuse_address=True).start()
        self._grpc = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler: Any = grpc.unary_stream_rpc_method_handler(self._generate)
        self._grpc.add_generic_rpc_handlers((_AnyMethod(handler),))
        self._grpc.add_insecure_port(f"{HOST}:{self.grpc_port}")
        await self._grpc.start()

    async def kill(self) -> None:
        """End as a killed process does: sockets closed, connections reset."""
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
            server = self._runner.server
            for connection in list(server.connections) if server else []:
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()
            self._runner = None
        if self._grpc is not None:
            await self._grpc.stop(None)
            self._grpc = None

    def replica(self, *, draining: bool = False) -> LocalReplica:
        return LocalReplica(
            name=self.name,
            host=HOST,
            http_port=self.http_port,
            grpc_port=self.grpc_port,
            health_port=self.http_port,
            draining=draining,
        )

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.requests.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.json()
        if self.delay_seconds:
            await CLOCK.sleep(self.delay_seconds)
        if not body.get("stream"):
            return web.json_response({"engine": self.name, "model": body["model"]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {self.name}\n\n".encode())
        await self.next_event.wait()
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _generate(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield _string_field(1, self.name)


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def service(self, handler_call_details: Any) -> Any:
        return self._handler


@dataclass
class Plane:
    """One gateway: its topology, its folder and its Envoy."""

    topology: GatewayTopology
    folder: Path
    envoy: ProcessRecord | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.topology.listen.public_port}"

    def start(self) -> None:
        ensure_initial(self.topology, self.folder, descriptor_set())
        self.envoy = spawn(
            envoy_argv(self.folder),
            env=None,
            cwd=None,
            stdout_path=self.folder / "envoy.log",
            die_with_parent=True,
        )

    async def kill(self) -> None:
        if self.envoy is not None:
            signal_process(self.envoy, signal.SIGKILL)
            await wait_until_gone(self.envoy)
            self.envoy = None

    async def publish(self, *tombstones: str) -> PublishResult:
        return await asyncio.to_thread(
            publish, self.topology, self.folder, descriptor_set(), frozenset(tombstones)
        )


@dataclass
class World:
    """Two planes, `a` and `b`, and a client."""

    client: aiohttp.ClientSession
    authority: Path
    planes: dict[str, Plane] = field(default_factory=dict)
    engines: dict[str, FakeEngine] = field(default_factory=dict)

    async def status(self, plane: str) -> GatewayStatus | None:
        return await read_status(self.client, self.planes[plane].topology.listen.admin_port)

    async def chat(self, plane: str, model: str = "m1", **extra: Any) -> tuple[int, Any]:
        url = f"{self.planes[plane].url}/v1/chat/completions"
        async with self.client.post(url, json={"model": model, **extra}) as response:
            return response.status, await response.json()

    async def certificate(self, plane: str) -> bytes | None:
        """Return the certificate that a plane's peer listener shows now."""
        port = self.planes[plane].topology.listen.peer_port
        _, writer = await asyncio.open_connection(
            HOST, port, ssl=peer_context(self), server_hostname=plane
        )
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = connection.getpeercert(binary_form=True)
        writer.transport.abort()
        return certificate

    async def settled(self, plane: str, published: PublishResult) -> None:
        """Wait until Envoy has taken up what was published and knows every host's health."""

        async def done() -> bool:
            status = await self.status(plane)
            return (
                status is not None
                and status.live
                and unconfirmed(status, published.versions) == ()
                and all(
                    host.healthy is not None for hosts in status.hosts.values() for host in hosts
                )
            )

        await eventually(done)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SETTLE_SECONDS_MAX):
        while not await condition():
            await CLOCK.sleep(0.02)


def descriptor_set() -> bytes:
    """Return the smallest description of Generate that has the model in field 2."""
    text = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    one = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    file = descriptor_pb2.FileDescriptorProto(
        name="generate.proto", package="openengine.v1", syntax="proto3"
    )
    request = file.message_type.add(name="GenerateRequest")
    request.field.add(name="request_id", number=1, type=text, label=one)
    request.field.add(name="model", number=2, type=text, label=one)
    response = file.message_type.add(name="GenerateResponse")
    response.field.add(name="request_id", number=1, type=text, label=one)
    file.service.add(name="Inference").method.add(
        name="Generate",
        input_type=".openengine.v1.GenerateRequest",
        output_type=".openengine.v1.GenerateResponse",
        server_streaming=True,
    )
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def _string_field(number: int, value: str) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value.encode()


def a_model(name: str, *engines: FakeEngine, peers: tuple[str, ...] = ()) -> ServedModel:
    return ServedModel(
        served_name=f"m{name}",
        deployment=f"d{name}",
        ttft_bound_seconds=5,
        total_deadline_seconds=30,
        replicas=tuple(engine.replica() for engine in engines),
        peers=peers,
    )


@asynccontextmanager
async def a_world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield two planes whose gateways run and serve nothing yet."""
    authority = tmp_path / "authority"
    create_authority(authority, "test", CLOCK.now())
    listens = {
        name: ListenAddresses(
            public_host=HOST,
            public_port=free_port(HOST),
            peer_host=HOST,
            peer_port=free_port(HOST),
            admin_port=free_port(HOST),
        )
        for name in ("a", "b")
    }
    async with aiohttp.ClientSession() as client:
        world = World(client=client, authority=authority)
        front = FakeEngine("front")
        world.engines["front"] = front
        await front.start()
        for name, other in (("a", "b"), ("b", "a")):
            subject = Subject(name=name, dns_names=(name,))
            issued = issue(authority, tmp_path / f"tls-{name}", subject, CLOCK.now())
            peer_port = listens[other].peer_port
            topology = GatewayTopology(
                plane=name,
                project="default",
                listen=listens[name],
                front=Address(host=HOST, port=front.grpc_port),
                peers=(Peer(plane=other, host=HOST, peer_port=peer_port, distance_rank=1),),
                tls=PeerTls(
                    certificate_path=str(issued.cert),
                    key_path=str(issued.key),
                    authority_path=str(issued.ca),
                    verify_plane_names=True,
                ),
            )
            world.planes[name] = Plane(topology=topology, folder=tmp_path / f"gateway-{name}")
            world.planes[name].folder.mkdir()
            world.planes[name].start()
        try:
            yield world
        finally:
            for plane in world.planes.values():
                await plane.kill()
            for engine in world.engines.values():
                await engine.kill()


@asynccontextmanager
async def a_fleet(tmp_path: Path) -> AsyncIterator[World]:
    """Yield two planes that both serve `m1` (one replica each); `a` also serves `m2`."""
    async with a_world(tmp_path) as world:
        for name in ("a1", "b1", "a2"):
            world.engines[name] = FakeEngine(name)
            await world.engines[name].start()
        a, b = world.planes["a"], world.planes["b"]
        b.topology = replace(b.topology, models=(a_model("1", world.engines["b1"], peers=("a",)),))
        a.topology = replace(
            a.topology,
            models=(
                a_model("1", world.engines["a1"], peers=("b",)),
                a_model("2", world.engines["a2"], peers=("b",)),
            ),
        )
        await world.settled("b", await b.publish())
        await world.settled("a", await a.publish())

        async def peers_seen() -> bool:
            statuses = [await world.status(name) for name in ("a", "b")]
            return all(s and s.peers and all(p.serving for p in s.peers.values()) for s in statuses)

        await eventually(peers_seen)
        yield world


@asynccontextmanager
async def peer_request(
    world: World, plane: str, method: str, path: str, headers: dict[str, str]
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask a plane's peer listener as another plane's gateway would."""
    port = world.planes[plane].topology.listen.peer_port
    async with world.client.request(
        method,
        f"https://{HOST}:{port}{path}",
        headers=headers,
        ssl=peer_context(world),
        server_hostname=plane,
    ) as response:
        yield response


def peer_context(world: World) -> ssl.SSLContext:
    tls = world.planes["a"].topology.tls
    assert tls is not None
    context = ssl.create_default_context(cafile=tls.authority_path)
    context.load_cert_chain(tls.certificate_path, tls.key_path)
    return context


async def generate(
    world: World, plane: str, model: str, path: str = GENERATE, **metadata: str
) -> str:
    port = world.planes[plane].topology.listen.public_port
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        method: Any = channel.unary_stream(path)
        call = method(
            _string_field(2, model) if model else b"", metadata=tuple(metadata.items()), timeout=10
        )
        answers = [answer async for answer in call]
    return str(answers[0][2:].decode())


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
        assert await generate(world, "a", "m1", "/grpc.health.v1.Health/Check") == "front"


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
        world.engines["a1"].delay_seconds = 60.0
        world.engines["b1"].next_event.set()
        url = f"{a.url}/v1/chat/completions"
        async with world.client.post(url, json={"model": "m1", "stream": True}) as response:
            assert await response.content.readuntil(b"\n\n") == b"data: b1\n\n"
        # The peer can tell that this was the second try.
        assert world.engines["b1"].requests[-1]["x-envoy-attempt-count"] == "2"
        status, body = await world.chat("a")
        assert (status, body["error"]["code"]) == (504, "deadline_exceeded")


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
            assert response.status == 404


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
            for swap in range(20):
                grown = (replace(base[0], replicas=(*base[0].replicas, third.replica())), base[1])
                models = (*grown, a_model("3", third)) if swap % 2 == 0 else base
                a.topology = replace(a.topology, models=models)
                await world.settled("a", await a.publish("d3", "a3"))
            done.set()
        assert failed == []
        assert count > 100
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
        listen = replace(a.topology.listen, admin_port=free_port(HOST))
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
