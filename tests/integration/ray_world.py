"""A Ray cluster of this machine for tests: a head and a second node, kept by our own code.

One for each module of tests that asks for it, since Ray takes 15 s to come up; replicas are the
stand-in host's, or real hosts with the simulated engine.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.fleet.pool import PoolShape
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import free_port
from workload_plane.ray_settings import default_temp_dir
from workload_plane.replicas.local import HostCommand, host_command
from workload_plane.replicas.ray.cluster import RayPlace
from workload_plane.replicas.ray.own_nodes import end_own_nodes, read_processes
from workload_plane.replicas.ray.runtime import RayRuntime, ray_runtime
from workload_plane.replicas.ray.settings import OwnNode, RayPool, RaySettings

STAND_IN = Path(__file__).parents[1] / "contract" / "stand_in_host.py"
PLANE = "here"
POOL = f"{PLANE}--cpu"
NODES = ("n1", "n2")
ACCELERATORS_PER_NODE = 3
UP_SECONDS_MAX = 240.0  # 15 s on a quiet machine; with a load of 19 on two cores 90 s did not do
SHAPE = PoolShape(
    name="cpu",
    accelerator="cpu",
    accelerator_memory_bytes=0,
    nodes=0,
    accelerators_per_node=ACCELERATORS_PER_NODE,
    host_memory_bytes=0,
)


def stand_in_command(spec: Path) -> Sequence[str]:
    """Return the command of a host that serves nothing; launchers find it by its name."""
    return (sys.executable, str(STAND_IN), "--spec", str(spec))


def ray_settings(directory: Path, nodes: tuple[str, ...] = NODES) -> RaySettings:
    """Return the settings of a cluster whose files are in the directory."""
    return RaySettings(
        pools=(RayPool(name="cpu", labels={"skerry.io/pool": "cpu"}, resource="CPU"),),
        token_file=directory / "ray" / "token",
        temp_dir=default_temp_dir(directory),
        data_dir=directory / "ray",
        port=free_port("127.0.0.1"),
        nodes=tuple(OwnNode(name=name, pool="cpu") for name in nodes),
    )


@dataclass
class RayWorld:
    """The cluster and the runtimes on it; each runtime runs until it is closed."""

    directory: Path
    settings: RaySettings
    command: HostCommand = host_command

    def __post_init__(self) -> None:
        """Begin with nothing started."""
        self.clock = SystemClock()
        self._running: list[asyncio.Task[None]] = []

    def runtime(self) -> RayRuntime:
        """Return a new agent's runtime, running."""
        runtime = self.runtime_apart()
        self._running.append(asyncio.ensure_future(runtime.run()))  # noqa: TID251
        return runtime

    def runtime_apart(self) -> RayRuntime:
        """Return a runtime that does not reach for Ray."""
        place = RayPlace(
            plane=PLANE,
            shapes=(SHAPE,),
            settings=self.settings,
            replicas_dir=self.directory / "replicas",
            logs_dir=self.directory / "logs",
            command=self.command,
        )
        return ray_runtime(place, self.clock, SystemIds(self.clock))

    async def until(self, holds: Callable[[], object], seconds: float = UP_SECONDS_MAX) -> None:
        """Wait until it holds."""
        async with asyncio.timeout(seconds):
            while not holds():
                await self.clock.sleep(0.1)

    async def open(self, runtime: RayRuntime, nodes: tuple[str, ...] = NODES) -> None:
        """Wait until the nodes take replicas."""
        async with asyncio.timeout(UP_SECONDS_MAX):
            while True:
                await runtime.list()
                supply = runtime.supply
                names = {node.name for node in supply.nodes if node.ready}
                if not supply.stopped and set(nodes) <= names - supply.closed:
                    return
                await self.clock.sleep(0.2)

    async def close_runtimes(self) -> None:
        """End the runtimes as the end of an agent does; Ray and replicas go on."""
        for task in self._running:
            task.cancel()
        for task in self._running:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._running.clear()

    async def close(self) -> None:
        """End the cluster, by its records."""
        await self.close_runtimes()
        await end_own_nodes(self.settings, self.clock)
        assert read_processes(self.settings) == {}
