"""Planes whose gateways ask a real picker process, for tests/integration/test_picker.py."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from skerry.fleet.routing import Routing
from skerry.plumbing.files import write_atomically
from skerry.plumbing.processes import ProcessRecord, signal_process, spawn, wait_until_gone
from tests.integration.gateway_world import (
    CLOCK,
    HOST,
    FakeEngine,
    Plane,
    World,
    a_model,
    a_world,
    eventually,
    listening_port,
)
from workload_plane.gateway.picker_file import build_picker_file
from workload_plane.gateway.topology import ServedModel

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class PickerHandle:
    """The picker of one plane."""

    plane: Plane
    data_dir: Path
    metrics_port: int
    process: ProcessRecord | None = None

    def start(self) -> None:
        listen, tls = self.plane.topology.listen, self.plane.topology.tls
        assert tls is not None
        settings = {
            "plane": self.plane.topology.plane,
            "cloud": "c",
            "region": "r",
            "pools": [],
            "data_dir": str(self.data_dir),
            "gateway": {
                "host": HOST,
                "public_port": listen.public_port,
                "peer_port": listen.peer_port,
                "admin_port": listen.admin_port,
                "picker_port": self.metrics_port,
            },
            "front_port": listen.public_port,
            "tls": {
                "ca": tls.authority_path,
                "certificate": tls.certificate_path,
                "key": tls.key_path,
            },
        }
        path = self.data_dir / "settings.json"
        path.write_text(json.dumps(settings))
        self.process = spawn(
            [sys.executable, "-m", "workload_plane.picker.main", "--settings", str(path)],
            env=None,
            cwd=ROOT,
            stdout_path=self.data_dir / "picker.log",
            die_with_parent=True,
        )

    async def kill(self) -> None:
        if self.process is not None:
            signal_process(self.process, signal.SIGKILL)
            await wait_until_gone(self.process)
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        signal_process(self.process, number)


@dataclass
class PickedWorld:
    """Two planes with a picker each."""

    world: World
    pickers: dict[str, PickerHandle] = field(default_factory=dict)

    async def publish(self, plane: str, *models: ServedModel, gone: tuple[str, ...] = ()) -> None:
        """Publish to the gateway and to the picker, as the agent does, and wait for both."""
        one = self.world.planes[plane]
        one.topology = replace(one.topology, models=models)
        published = await one.publish(*gone)
        self.tell(plane)
        await self.world.settled(plane, published)
        await self.asked(plane)

        async def knows() -> bool:
            values = await self.metrics(plane)
            return all(
                f'skerry_picker_waiting_requests{{deployment="{model.deployment}"}}' in values
                for model in models
            )

        await eventually(knows)

    def tell(self, plane: str) -> None:
        values = build_picker_file(self.world.planes[plane].topology)
        path = self.pickers[plane].data_dir / "picker.json"
        write_atomically(path, json.dumps(values).encode())

    async def asked(self, plane: str) -> None:
        """Wait until the gateway takes its picker for alive."""

        async def alive() -> bool:
            port = self.world.planes[plane].topology.listen.admin_port
            url = f"http://{HOST}:{port}/clusters?format=json"
            async with self.world.client.get(url) as answer:
                clusters = (await answer.json(content_type=None))["cluster_statuses"]
            hosts = [
                host
                for cluster in clusters
                if cluster["name"] == "picker"
                for host in cluster.get("host_statuses", ())
            ]
            # A plane that serves nothing has the cluster too.
            return bool(hosts) and all(
                not host["health_status"].get("failed_active_health_check")
                and not host["health_status"].get("pending_active_hc")
                for host in hosts
            )

        await eventually(alive)

    async def metrics(self, plane: str) -> dict[str, float]:
        url = f"http://{HOST}:{self.pickers[plane].metrics_port}/metrics"
        try:
            async with self.world.client.get(url) as answer:
                lines = (await answer.text()).splitlines()
        except aiohttp.ClientConnectionError:
            return {}  # not up yet
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    async def shows(self, plane: str, metric: str, value: float) -> None:
        """Wait until the plane's picker shows this value."""

        async def done() -> bool:
            return (await self.metrics(plane)).get(metric) == value

        await eventually(done)

    async def engine(self, name: str) -> FakeEngine:
        engine = self.world.engines[name] = FakeEngine(name)
        await engine.start()
        return engine


@asynccontextmanager
async def a_picked_world(tmp_path: Path) -> AsyncIterator[PickedWorld]:
    """Yield two planes with gateways and pickers that serve nothing yet."""
    async with a_world(tmp_path, picks=True) as world:
        picked = PickedWorld(world=world)
        for name, plane in world.planes.items():
            data_dir = tmp_path / name
            data_dir.mkdir(exist_ok=True)
            handle = PickerHandle(plane=plane, data_dir=data_dir, metrics_port=listening_port())
            picked.pickers[name] = handle
            handle.start()
        try:
            yield picked
        finally:
            for handle in picked.pickers.values():
                await handle.kill()


def a_routed_model(
    name: str, *engines: FakeEngine, peers: tuple[str, ...] = (), **more: Any
) -> ServedModel:
    """Return a model with a routing and what else the picker is told."""
    routing = Routing(**more.pop("routing", {}))
    return replace(a_model(name, *engines, peers=peers), routing=routing, **more)


async def steady(world: World, seconds: float, rate: float, **body: Any) -> list[int]:
    """Return the statuses of requests sent at a steady rate for so long, open loop."""
    statuses: list[int] = []

    async def one() -> None:
        status, _ = await world.chat("a", "m1", **body)
        statuses.append(status)

    async with asyncio.TaskGroup() as group:
        for _ in range(int(seconds * rate)):
            group.create_task(one())
            await CLOCK.sleep(1.0 / rate)
    return statuses
