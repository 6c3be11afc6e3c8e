"""The Ray nodes that the agent starts on its own host: the head, and more for tests.

Each is one `ray start --block` in a session of its own, recorded before it is needed, adopted by
the next agent and ended by its record: other people's clusters on this host are never touched.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from skerry.fleet.pool import PoolShape
from skerry.plumbing import logs
from skerry.plumbing.bounded_log import bound_log
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict
from skerry.plumbing.files import write_atomically
from skerry.plumbing.ids import IdSource
from skerry.plumbing.ports import free_port, is_listening
from skerry.plumbing.processes import ProcessRecord, is_alive, kill_group, spawn, terminate
from skerry.plumbing.tasks import Backoff
from workload_plane.replicas.ray.environment import LOG_BYTES_MAX, ensure_token, ray_environment
from workload_plane.replicas.ray.process_file import read_process_file
from workload_plane.replicas.ray.settings import (
    CPU,
    GPU,
    NODE_LABEL,
    OwnNode,
    RaySettings,
    pool_of_own,
)
from workload_plane.replicas.ray.sweeping import sweep

_log = logs.get_logger(__name__)

MARKER = ".skerry-ray"  # says that a folder is Ray's, of a plane, and may be emptied
LOOK_SECONDS = 1.0
HEAD_SECONDS_MAX = 60.0  # until a started head listens; 8 s on a quiet machine
TIDY_SECONDS = 600.0
GRACE_SECONDS = 5.0  # `ray start --block` ends its processes within one
# A head that answers nobody for so long is started again; a minute is what Ray itself waits.
HUNG_SECONDS_MAX = 120.0
_AGAIN = Backoff(initial_seconds=1.0, max_seconds=30.0)
_SOUND_SECONDS = 30.0


class OwnNodes:
    """Keeps the head and its host's other nodes running."""

    def __init__(
        self, settings: RaySettings, shapes: tuple[PoolShape, ...], clock: Clock, ids: IdSource
    ) -> None:
        """Read which of them run; starts nothing."""
        self._settings = settings
        self._shapes = {shape.name: shape for shape in shapes}
        self._clock = clock
        self._ids = ids
        self._processes = read_processes(settings)
        self._started_at = clock.monotonic()
        self._failures = 0
        self._tidied_at = clock.monotonic()

    async def run(self) -> None:
        """Start what does not run, for ever; the head first, and all others anew after it."""
        while True:
            await self._turn()
            await self._tidy()
            await self._clock.sleep(LOOK_SECONDS)

    async def _tidy(self) -> None:
        now = self._clock.monotonic()
        if now - self._tidied_at < TIDY_SECONDS:
            return
        self._tidied_at = now
        settings = self._settings
        try:
            await asyncio.to_thread(sweep, settings.temp_dir, self._clock.now().timestamp())
            for node in settings.nodes:
                log = settings.data_dir / f"{node.name}.log"
                await asyncio.to_thread(bound_log, log, LOG_BYTES_MAX)
        except OSError as error:
            _log.warning("ray.not-tidied", folder=settings.temp_dir, error=str(error))

    async def restart(self) -> None:
        """End all of them; the next turn starts them again."""
        _log.warning("ray.head-hangs", address=self._settings.head_address)
        await end_own_nodes(self._settings, self._clock)
        self._processes.clear()

    async def _turn(self) -> None:
        head, *others = self._settings.nodes
        if not self._lives(head):
            if head.name in self._processes:
                await self._pause(head)
            # The other raylets hold on to the old head for a minute; the new one knows none of
            # them. Replicas are in sessions of their own and are not touched.
            await end_own_nodes(self._settings, self._clock)
            self._processes.clear()
            self._started_at = self._clock.monotonic()
            self._start(head, is_head=True)
            await self._until_listening(head)
        for node in others:
            if not self._lives(node):
                if (old := self._processes.get(node.name)) is not None:
                    kill_group(old)
                self._start(node, is_head=False)

    async def _pause(self, head: OwnNode) -> None:
        sound = self._clock.monotonic() - self._started_at > _SOUND_SECONDS
        self._failures = 0 if sound else self._failures + 1
        _log.warning("ray.head-ended", node=head.name, failures=self._failures)
        if self._failures:
            await self._clock.sleep(_AGAIN.delay(self._failures, self._ids.random()))

    def _lives(self, node: OwnNode) -> bool:
        process = self._processes.get(node.name)
        return process is not None and is_alive(process)

    def _start(self, node: OwnNode, *, is_head: bool) -> None:
        ensure_token(self._settings, self._ids)
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        env = ray_environment(self._settings, os.environ)
        # Fixed otherwise, so that a second cluster on a host would be in its way.
        env["AUTOSCALER_METRIC_PORT"] = str(free_port(self._settings.host))
        # Ray's workers run at nice 15, and what they start inherits it: engines would starve.
        env["RAY_worker_niceness"] = "0"
        process = spawn(
            start_argv(node, self._settings, self._shapes, is_head=is_head),
            env=env,
            cwd=None,
            stdout_path=self._settings.data_dir / f"{node.name}.log",
        )
        self._processes[node.name] = process
        write_processes(self._settings, self._processes)
        _log.info("ray.node-started", node=node.name, pid=process.pid, head=is_head)

    async def _until_listening(self, head: OwnNode) -> None:
        deadline = self._clock.monotonic() + HEAD_SECONDS_MAX
        settings = self._settings
        while self._lives(head) and self._clock.monotonic() < deadline:
            if await is_listening(settings.host, settings.port):
                return
            await self._clock.sleep(LOOK_SECONDS / 4)


def start_argv(
    node: OwnNode, settings: RaySettings, shapes: Mapping[str, PoolShape], *, is_head: bool
) -> tuple[str, ...]:
    """Return the command of one Ray node: labels, accelerators, little memory, no dashboard."""
    pool = pool_of_own(node, settings)
    count = str(shapes[node.pool].accelerators_per_node)
    labels = ",".join(
        f"{key}={value}" for key, value in {**pool.labels, NODE_LABEL: node.name}.items()
    )
    argv = [sys.executable, "-m", "workload_plane.replicas.ray.node_main", "start", "--block"]
    argv += ["--node-ip-address", settings.host, "--labels", labels, "--disable-usage-stats"]
    argv += ["--object-store-memory", str(settings.object_store_memory_bytes)]
    argv += ["--include-log-monitor", "false"]
    if pool.resource == CPU:
        argv += ["--num-cpus", count, "--num-gpus", "0"]
    elif pool.resource == GPU:
        argv += ["--num-gpus", count]
    else:
        argv += ["--resources", json.dumps({pool.resource: int(count)})]
    if not is_head:
        temp = f"{settings.temp_dir}/{node.name[:10]}"
        return (*argv, "--address", settings.head_address, "--temp-dir", temp)
    argv += ["--head", "--port", str(settings.port), "--temp-dir", str(settings.temp_dir)]
    argv += ["--include-dashboard", str(settings.dashboard).lower()]
    argv += ["--ray-client-server-port", str(free_port(settings.host))]
    return tuple(argv)


async def end_own_nodes(settings: RaySettings, clock: Clock) -> int:
    """End every Ray process that an agent of this plane started here; return how many nodes."""
    processes = read_processes(settings)
    async with asyncio.TaskGroup() as group:
        for process in processes.values():
            group.create_task(_end(process, clock))
    settings.processes_path.unlink(missing_ok=True)
    await asyncio.to_thread(clear_temp, settings.temp_dir)
    return len(processes)


def clear_temp(folder: Path) -> None:
    """Make Ray's folder anew, empty and ours; Conflict for one that holds what is not Ray's.

    A folder named by mistake, a home or the models', must not be emptied.
    """
    marker = folder / MARKER
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.geteuid()):
        raise Conflict(f"ray.temp_dir {folder} is somebody else's; name another")
    if folder.exists() and any(folder.iterdir()) and not marker.is_file():
        raise Conflict(
            f"ray.temp_dir {folder} holds files that are not Ray's of this plane; name an empty"
            " folder, or one that is not there"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.touch()


async def _end(process: ProcessRecord, clock: Clock) -> None:
    await terminate(process, clock, GRACE_SECONDS)
    kill_group(process)


def read_processes(settings: RaySettings) -> dict[str, ProcessRecord]:
    """Return the Ray processes recorded here, by the node's name, alive or not."""
    return read_process_file(settings.processes_path)


def write_processes(settings: RaySettings, processes: Mapping[str, ProcessRecord]) -> None:
    """Write down which Ray processes are ours."""
    values = {name: process.to_json() for name, process in processes.items()}
    write_atomically(settings.processes_path, json.dumps(values, indent=1).encode() + b"\n")
