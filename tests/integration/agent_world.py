"""A plane's agent as a real process, with a control plane of the test's own over mTLS.

The test pushes desired states and reads what the agent said; replicas are real processes with
the simulated engine, without Envoy unless the test starts one.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import grpc

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision
from skerry.fleet.desired import TAKES_LOADS, Assignment, DesiredState
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.generation import Version
from skerry.fleet.placement import Envelope
from skerry.plumbing import certificates
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import fixed_port
from skerry.plumbing.processes import ProcessRecord, is_alive, signal_process, spawn, terminate
from skerry.plumbing.rpc import SERVER_OPTIONS, server_credentials
from skerry.wire.desired import desired_to_proto
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.replicas.records import ReplicaRecord, read_all, read_records
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

PLANE = "here"
POOL = "here--cpu"
HOST = "127.0.0.1"
WAIT_SECONDS = 60.0  # a start of Python and gRPC takes 2 s here, several when cores are shared
ROOT = Path(__file__).parents[2]


def a_deployment(
    revision: int = 1, name: str = "demo", options: Mapping[str, str] = MappingProxyType({})
) -> Deployment:
    """Return a deployment that the simulated engine serves."""
    return Deployment(
        name=name,
        revision=Revision(
            number=revision,
            base_model=BaseModel(uri="simulated://tiny", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED, options=tuple(options.items())),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
    )


def a_desired(
    generation: int, target: int, *deployments: Deployment, epoch: int = 1, **values: Any
) -> DesiredState:
    """Return a desired state that wants `target` replicas of each deployment."""
    return DesiredState(
        plane=PLANE,
        version=Version(epoch=epoch, generation=generation),
        assignments=tuple(
            Assignment(
                deployment=one,
                envelopes=(
                    Envelope(
                        deployment=one.name, pool=POOL, floor=0, target=target, ceiling=target
                    ),
                ),
                serving_planes=(PLANE,),
            )
            for one in deployments or (a_deployment(),)
        ),
        **values,
    )


class LinkServer(plane_service_pb2_grpc.PlaneLinkServiceServicer):
    """The control plane's end: pushes what it is told to, keeps what it hears."""

    def __init__(self) -> None:
        """Begin with nothing pushed and nothing heard."""
        self.pushes: asyncio.Queue[DesiredState] = asyncio.Queue()
        self.heard: list[messages.ConnectRequest] = []
        self._news = asyncio.Event()

    async def Connect(
        self, request_iterator: AsyncIterator[messages.ConnectRequest], context: Any
    ) -> AsyncIterator[messages.ConnectResponse]:
        """Welcome the plane, echo its heartbeats and push."""
        answers: asyncio.Queue[messages.ConnectResponse] = asyncio.Queue()

        async def listen() -> None:
            async for request in request_iterator:
                self.heard.append(request)
                self._news.set()
                if request.WhichOneof("message") == "heartbeat":
                    await answers.put(messages.ConnectResponse(heartbeat=request.heartbeat))

        async def push() -> None:
            while True:
                desired = desired_to_proto(await self.pushes.get())
                await answers.put(messages.ConnectResponse(desired=desired))

        yield messages.ConnectResponse(
            welcome=messages.Welcome(
                epoch=1,
                heartbeat_period_ms=200,
                heartbeat_timeout_ms=2000,
                control_plane="test",
                features=[TAKES_LOADS],
            )
        )
        tasks = [asyncio.ensure_future(listen()), asyncio.ensure_future(push())]  # noqa: TID251
        try:
            while True:
                yield await answers.get()
        finally:
            for task in tasks:
                task.cancel()

    async def wait_for(
        self, kind: str, holds: Callable[[Any], bool] = lambda _: True, after: int = 0
    ) -> Any:
        """Return the first message of the kind, from number `after` on, that holds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                for message in self.heard[after:]:
                    if message.WhichOneof("message") == kind and holds(getattr(message, kind)):
                        return getattr(message, kind)
                self._news.clear()
                await self._news.wait()


class AgentWorld:
    """One plane's directory, its agent process, and the link server."""

    def __init__(self, directory: Path) -> None:
        """Make certificates and settings; starts nothing."""
        self.clock = SystemClock()
        self.data_dir = directory / PLANE
        self.link_address = f"{HOST}:{fixed_port(HOST)}"
        self.link = LinkServer()
        self.agent: ProcessRecord | None = None
        self._beside: list[ProcessRecord] = []
        self._server: grpc.aio.Server | None = None
        pki, now = directory / "pki", datetime.now(UTC)  # noqa: TID251
        certificates.create_authority(pki / "authority", "test", now)
        self._server_tls = self._issue(pki, "control-planes", "cp", now)
        tls = self._issue(pki, "planes", PLANE, now)
        self.gateway = {
            "host": HOST,
            **{key: fixed_port(HOST) for key in ("public_port", "peer_port", "admin_port")},
        }
        self.settings: dict[str, Any] = {
            "plane": PLANE,
            "cloud": "test",
            "region": "test-1",
            "pools": [
                {
                    "name": "cpu",
                    "accelerator": "cpu",
                    "accelerator_memory_bytes": 0,
                    "nodes": 1,
                    "accelerators_per_node": 4,
                    "host_memory_bytes": 0,
                }
            ],
            # The first one never answers: the agent has to take the next in turn.
            "control_planes": [f"{HOST}:{fixed_port(HOST)}", self.link_address],
            "data_dir": str(self.data_dir),
            "gateway": self.gateway,
            "front_port": fixed_port(HOST),
            "tls": {"ca": str(tls.ca), "certificate": str(tls.cert), "key": str(tls.key)},
            "model_dirs": [],
        }
        self.data_dir.mkdir(parents=True)
        self.settings_path = self.data_dir / "settings.json"
        self.configure()

    def configure(self, **more: Any) -> None:
        """Write the settings, with more of them; processes read them when they start."""
        self.settings |= more
        self.settings_path.write_text(json.dumps(self.settings))

    def _issue(self, pki: Path, kind: str, name: str, now: datetime) -> Any:
        subject = certificates.Subject(
            name=name,
            uris=(f"skerry://projects/default/{kind}/{name}",),
            dns_names=("localhost", *([CONTROL_PLANE_SERVER_NAME] if kind != "planes" else [])),
            addresses=(HOST,),
        )
        return certificates.issue(pki / "authority", pki / kind / name, subject, now)

    async def start_link(self) -> None:
        """Let the control plane answer."""
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        plane_service_pb2_grpc.add_PlaneLinkServiceServicer_to_server(self.link, self._server)
        self._server.add_secure_port(self.link_address, server_credentials(self._server_tls))
        await self._server.start()

    async def stop_link(self) -> None:
        """Let the control plane vanish."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def run(self, module: str, *arguments: str) -> ProcessRecord:
        """Start a process of the plane."""
        return self.run_with(self.settings_path, module, *arguments)

    def run_with(self, settings: Path, module: str, *arguments: str) -> ProcessRecord:
        """Start a process with settings of its own; it is ended with the plane's."""
        process = spawn(
            (sys.executable, "-m", module, "--settings", str(settings), *arguments),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.data_dir,
            stdout_path=self.data_dir / f"{module}.log",
        )
        self._beside.append(process)
        return process

    def start_gateway(self) -> None:
        """Start Envoy on the files that the agent has written."""
        argv = envoy_argv(self.data_dir / "gateway")
        log = self.data_dir / "envoy.log"
        self._beside.append(spawn(argv, env=None, cwd=None, stdout_path=log))

    @property
    def public(self) -> str:
        """Return the gateway's address for users."""
        return f"{HOST}:{self.gateway['public_port']}"

    async def ask(self, session: aiohttp.ClientSession) -> tuple[int, str]:
        """Send one completion through the gateway; return its status and text."""
        body = {"model": "demo", "prompt": "hello", "max_tokens": 2}
        async with session.post(f"http://{self.public}/v1/completions", json=body) as response:
            return response.status, await response.text()

    async def until_served(self, session: aiohttp.ClientSession) -> None:
        """Wait until the gateway answers with a replica's answer."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    if (await self.ask(session))[0] == 200:
                        return
                await self.clock.sleep(0.1)

    def start_agent(self) -> ProcessRecord:
        """Start the agent's process."""
        self.agent = self.run("workload_plane.main")
        return self.agent

    def kill_agent(self) -> None:
        """End the agent with SIGKILL."""
        assert self.agent is not None
        signal_process(self.agent, signal.SIGKILL)

    async def close(self) -> None:
        """End everything, replicas in order."""
        if self.agent is not None:
            await terminate(self.agent, self.clock, 10.0)
        stopper = self.run("workload_plane.main", "--stop-replicas")
        await self.until(lambda: not is_alive(stopper))
        for process in self._beside:
            await terminate(process, self.clock, 5.0)
        await self.stop_link()
        left = read_all(self.data_dir / "replicas")
        assert left == (), f"replicas are left: {left}"

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Return what `holds` returns once it is true."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (result := holds()):
                await self.clock.sleep(0.05)
            return result

    def replicas(self, state: str | None = None) -> tuple[ReplicaRecord, ...]:
        """Return the plane's replica records, of one state if given."""
        records = read_records(self.data_dir / "replicas")
        return tuple(r for r in records if state is None or r.state.value == state)

    async def ready(self, count: int) -> tuple[ReplicaRecord, ...]:
        """Wait until exactly `count` replicas are READY and nothing else is there."""

        def settled() -> tuple[ReplicaRecord, ...]:
            ready = self.replicas("ready")
            return ready if len(ready) == count == len(self.replicas()) else ()

        records: tuple[ReplicaRecord, ...] = await self.until(settled)
        return records

    def status(self) -> dict[str, Any]:
        """Return the agent's status file, empty before it is written."""
        with contextlib.suppress(FileNotFoundError):
            values: dict[str, Any] = json.loads((self.data_dir / "agent.json").read_bytes())
            return values
        return {}

    @property
    def log(self) -> str:
        """Return what the agent logged."""
        return (self.data_dir / "workload_plane.main.log").read_text()
