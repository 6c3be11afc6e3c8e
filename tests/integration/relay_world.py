"""Two planes with real gateways, real replica hosts, and a relay before one of them."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from skerry.api.openengine.v1 import generation_pb2, openengine_pb2_grpc
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.routing import Routing
from skerry.plumbing.ports import is_listening
from skerry.plumbing.processes import ProcessRecord, kill_group, signal_process, spawn, terminate
from tests.integration.gateway_world import (
    CLOCK,
    HOST,
    World,
    a_world,
    eventually,
    listening_port,
)
from tests.integration.replica_process import RunningReplica, a_spec, an_engine, running_replica
from workload_plane.gateway.topology import LocalReplica, RelayPorts, ServedModel

SERVED, DEPLOYMENT = "chat-model", "chat"


@dataclass
class RelayWorld:
    """The planes `a` (with the relay) and `b`, and the replicas by name."""

    world: World
    ports: RelayPorts
    folder: Path
    engine: EngineSpec
    tasks: asyncio.TaskGroup
    relay: ProcessRecord | None = None
    replicas: dict[str, RunningReplica] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)  # of the last Generate
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def start_relay(self, **settings: int) -> None:
        """Start the relay's process and wait until it listens."""
        known = [{"deployment": DEPLOYMENT, "engine": self.engine.name.value}]
        (self.folder / "relay.json").write_text(json.dumps({"format": 1, "deployments": known}))
        path = self.folder / "settings.json"
        ports = self.ports
        values = {
            "plane": "a",
            "cloud": "test",
            "region": "test",
            "pools": [],
            "data_dir": str(self.folder),
            "gateway": {"public_port": 1, "peer_port": 2, "admin_port": 3},
            "front_port": 4,
            "relay": {
                "http_port": ports.http_port,
                "grpc_port": ports.grpc_port,
                "inner_port": ports.inner_port,
                **settings,
            },
        }
        path.write_text(json.dumps(values))
        self.relay = spawn(
            [sys.executable, "-m", "workload_plane.relay.main", "--settings", str(path)],
            env=None,
            cwd=None,
            stdout_path=self.folder / "relay.log",
            die_with_parent=True,
        )

        async def listens() -> bool:
            return await is_listening(HOST, ports.http_port)

        await eventually(listens)

    async def start_replica(self, name: str, **options: str) -> None:
        """Start a replica host, which is not routed to before `serve`."""
        engine = replace(self.engine, options=(*self.engine.options, *_pairs(options)))
        ports = {f"{kind}_port": listening_port() for kind in ("http", "grpc", "health")}
        spec = a_spec(self.folder / name, engine, name=name, served_name=SERVED, **ports)
        self.replicas[name] = await self.stack.enter_async_context(running_replica(spec))

    async def kill_replica(self, name: str) -> None:
        """Kill a replica's host and its engine, as a lost node does."""
        replica = self.replicas[name]
        record = replica.record()
        for process in (record.engine, replica.process):
            if process is not None:
                signal_process(process, signal.SIGKILL)

    async def serve(self, plane: str, *names: str, peers: tuple[str, ...] = ()) -> None:
        """Route a plane's deployment to those replicas and peers, and wait until it is so."""
        model = ServedModel(
            served_name=SERVED,
            deployment=DEPLOYMENT,
            ttft_bound_seconds=5,
            total_deadline_seconds=30,
            replicas=tuple(self._local(name) for name in names),
            peers=peers,
            routing=Routing(continuation=plane == "a"),
        )
        here = self.world.planes[plane]
        here.topology = replace(here.topology, models=(model,))
        gone = {name for name in self.replicas if name not in names}
        await self.world.settled(plane, await here.publish(*gone))

        async def healthy() -> bool:
            status = await self.world.status(plane)
            hosts = status.hosts.get(f"http/{DEPLOYMENT}", ()) if status else ()
            seen = [host for host in hosts if host.healthy]
            # A waiting room, if there is one, is no host of ours.
            return len(seen) >= len(names) + len(peers)

        await eventually(healthy)

    def _local(self, name: str) -> LocalReplica:
        fake = self.world.engines.get(name)
        return fake.replica() if fake is not None else _local(self.replicas[name])

    async def metric(self, name: str) -> float:
        """Return the sum of one of the relay's metrics over its labels."""
        url = f"http://{HOST}:{self.ports.http_port}/metrics"
        async with self.world.client.get(url) as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    async def stream(
        self, body: dict[str, Any], path: str = "chat/completions", on_event: Any = None
    ) -> list[Any]:
        """Return the events of one stream through plane a's public port."""
        url = f"{self.world.planes['a'].url}/v1/{path}"
        found: list[Any] = []
        asked = {"model": SERVED, "stream": True, **body}
        async with self.world.client.post(url, json=asked) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if line.startswith(b"data: "):
                    data = line[6:].strip()
                    found.append("[DONE]" if data == b"[DONE]" else json.loads(data))
                    if on_event is not None:
                        on_event(len(found))
        return found

    async def generate(
        self, request: generation_pb2.GenerateRequest, on_response: Any = None
    ) -> list[generation_pb2.GenerateResponse]:
        """Return the responses of one Generate through plane a's public port."""
        port = self.world.planes["a"].topology.listen.public_port
        request.model = SERVED
        found: list[generation_pb2.GenerateResponse] = []
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            call = openengine_pb2_grpc.InferenceStub(channel).Generate(request, timeout=60)
            async for response in call:
                found.append(response)
                if on_response is not None:
                    on_response(len(found))
            self.trailers = {str(key): str(value) for key, value in await call.trailing_metadata()}
        return found


@contextlib.asynccontextmanager
async def a_relay_world(
    tmp_path: Path, engine: EngineSpec | None = None, *, picks: bool = False
) -> AsyncIterator[RelayWorld]:
    """Yield the planes with a relay, serving nothing yet."""
    ports = RelayPorts(
        http_port=listening_port(), grpc_port=listening_port(), inner_port=listening_port()
    )
    folder = tmp_path / "plane-a"
    folder.mkdir()
    async with a_world(tmp_path, picks=picks) as world:
        engine = engine or simulated()
        tasks = asyncio.TaskGroup()
        relayed = RelayWorld(world=world, ports=ports, folder=folder, engine=engine, tasks=tasks)
        async with relayed.stack, tasks:
            a = world.planes["a"]
            a.topology = replace(a.topology, relay=ports)
            await relayed.start_relay()
            try:
                yield relayed
            finally:
                if relayed.relay is not None:
                    signal_process(relayed.relay, signal.SIGCONT)
                    await terminate(relayed.relay, CLOCK, 5.0)
                    kill_group(relayed.relay)


def simulated(**options: str) -> EngineSpec:
    """Return a simulated engine that gives a token every 20 ms to each of 32 streams."""
    engine = an_engine(
        EngineName.SIMULATED,
        **{"tpot_seconds": "0.02", "tpot_seconds_per_request": "0", "jitter": "0", **options},
    )
    return replace(engine, concurrent_requests=32)


def a_question(text: str, **more: Any) -> dict[str, Any]:
    """Return a chat of one message that is answered alike every time."""
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}


def text_of(events: Iterable[Any]) -> str:
    """Return the text of a chat's or a completion's events."""
    text = ""
    for event in events:
        if event == "[DONE]" or not event["choices"]:
            continue
        choice = event["choices"][0]
        text += (choice["delta"].get("content") if "delta" in choice else choice["text"]) or ""
    return text


def same(events: list[Any]) -> list[Any]:
    """Return the events without their one id and time; fails when there are two of either."""
    told = [event for event in events if event != "[DONE]"]
    assert len({(event["id"], event["created"]) for event in told}) == 1
    return [e if e == "[DONE]" else {**e, "id": "", "created": 0} for e in events]


class Milestone:
    """An event that is set when the nth thing of any stream has come."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reached = asyncio.Event()

    def __call__(self, count: int) -> None:
        if count >= self.count:
            self.reached.set()


def _local(replica: RunningReplica) -> LocalReplica:
    spec = replica.spec
    return LocalReplica(
        name=spec.name,
        host=spec.host,
        http_port=spec.http_port,
        grpc_port=spec.grpc_port,
        health_port=spec.health_port,
    )


def _pairs(options: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((key.replace("_", "-"), value) for key, value in options.items())
