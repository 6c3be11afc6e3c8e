"""Two planes with real gateways and fake engines, for tests/integration/test_gateway_envoy.py."""

import asyncio
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
from aiohttp import web
from google.protobuf import descriptor_pb2

from skerry.plumbing.certificates import Subject, create_authority, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import fixed_port
from skerry.plumbing.processes import ProcessRecord, signal_process, spawn, wait_until_gone
from workload_plane.gateway.envoy import envoy_argv
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

HOST = "127.0.0.1"
CLOCK = SystemClock()
GENERATE = "/openengine.v1.Inference/Generate"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # a HealthCheckResponse
# Far above what any step takes here; a miss is a failure, not a slow machine.
SETTLE_SECONDS_MAX = 20.0


class FakeEngine:
    """OpenAI HTTP and Generate on two ports; every answer says which engine gave it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.http_port = listening_port()
        self.grpc_port = listening_port()
        self.requests: list[dict[str, str]] = []
        self.delay_seconds = 0.0
        self.status = 200
        self.grpc_status = grpc.StatusCode.OK
        # What its answers tell that they used; nothing where None.
        self.usage: dict[str, Any] | None = None
        self.next_event = asyncio.Event()
        self.ended = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        # Of a Generate: the head is sent before the first, the only message after the second.
        self.generating = asyncio.Event()
        self.may_generate = asyncio.Event()
        self.may_generate.set()
        self._runner: web.AppRunner | None = None
        self._grpc: grpc.aio.Server | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_get("/health", self._health)
        for path in ("chat/completions", "completions", "embeddings", "responses"):
            app.router.add_post(f"/v1/{path}", self._chat)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.http_port, reuse_address=True).start()
        self._grpc = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler: Any = grpc.unary_stream_rpc_method_handler(self._generate)
        health: Any = grpc.unary_unary_rpc_method_handler(self._grpc_health)
        self._grpc.add_generic_rpc_handlers((_AnyMethod(handler, health),))
        self._grpc.add_insecure_port(f"{HOST}:{self.grpc_port}")
        await self._grpc.start()

    async def kill(self) -> None:
        """End as a killed process does: sockets closed, connections reset."""
        self.may_answer.set()
        self.next_event.set()
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
        await self.may_answer.wait()
        if self.status != 200:
            return web.json_response({"engine": self.name}, status=self.status)
        if not body.get("stream"):
            used = {} if self.usage is None else {"usage": self.usage}
            return web.json_response({"engine": self.name, "model": body["model"], **used})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {self.name}\n\n".encode())
        try:
            await self.next_event.wait()
        except asyncio.CancelledError:
            self.ended.set()  # the client, or the gateway, went away
            raise
        if self.usage is not None:
            told = json.dumps({"choices": [], "usage": self.usage})
            await response.write(f"data: {told}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _grpc_health(self, request: bytes, context: Any) -> bytes:
        await self.may_answer.wait()
        return SERVING

    async def _generate(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self.may_answer.wait()
        if self.grpc_status is not grpc.StatusCode.OK:
            await context.abort(self.grpc_status, "as told")
        await context.send_initial_metadata(())
        self.generating.set()
        await self.may_generate.wait()
        yield string_field(1, self.name)


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self, handler: Any, health: Any) -> None:
        self._handler = handler
        self._health = health

    def service(self, handler_call_details: Any) -> Any:
        is_health = handler_call_details.method == HEALTH_CHECK
        return self._health if is_health else self._handler


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


def listening_port() -> int:
    """Return a free port that nobody else is given before Envoy listens there."""
    return fixed_port(HOST)


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


def string_field(number: int, value: str) -> bytes:
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
async def a_world(tmp_path: Path, *, picks: bool = False) -> AsyncIterator[World]:
    """Yield two planes whose gateways run and serve nothing yet."""
    authority = tmp_path / "authority"
    create_authority(authority, "test", CLOCK.now())
    listens = {
        name: ListenAddresses(
            public_host=HOST,
            public_port=listening_port(),
            peer_host=HOST,
            peer_port=listening_port(),
            admin_port=listening_port(),
        )
        for name in ("a", "b")
    }
    async with aiohttp.ClientSession() as client:
        world = World(client=client, authority=authority)
        front = FakeEngine("front")
        world.engines["front"] = front
        await front.start()
        for name, other in (("a", "b"), ("b", "a")):
            uris = (f"skerry://projects/default/planes/{name}",)
            subject = Subject(name=name, uris=uris, dns_names=(name,))
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
                picker_directory=str(tmp_path / name / "picker") if picks else "",
                picks=picks,
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
            string_field(2, model) if model else b"", metadata=tuple(metadata.items()), timeout=10
        )
        answers = [answer async for answer in call]
    return str(answers[0][2:].decode())
