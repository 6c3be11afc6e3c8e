"""Real replica hosts for tests: started in sessions of their own, ended by pid."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import NotFound
from skerry.plumbing.ports import free_port
from skerry.plumbing.processes import ProcessRecord, is_alive, kill_group, spawn, terminate
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import ReplicaSpec, write_spec
from workload_plane.replica_host.state import ReplicaRecord, read_record

MODEL = Path(__file__).parents[2] / "examples" / "models" / "skerry-tiny.gguf"
SERVED = "skerry-tiny"
CLOCK = SystemClock()
# Six other processes may be starting on the same two cores.
START_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReplica:
    """A replica host and where its parts are."""

    spec: ReplicaSpec
    process: ProcessRecord

    @property
    def http(self) -> str:
        """Return the engine's own URL."""
        return f"http://{self.spec.host}:{self.spec.http_port}"

    @property
    def health(self) -> str:
        """Return the host's URL for /health, /metrics and /load."""
        return f"http://{self.spec.host}:{self.spec.health_port}"

    @property
    def grpc(self) -> str:
        """Return the host's gRPC address."""
        return f"{self.spec.host}:{self.spec.grpc_port}"

    def record(self) -> ReplicaRecord:
        """Return what the state file says now."""
        return read_record(self.spec.state_file)

    def output(self) -> str:
        """Return what the host wrote."""
        return (self.spec.log_dir / "host.log").read_text()


def a_spec(directory: Path, engine: EngineSpec, **changes: Any) -> ReplicaSpec:
    """Return a spec with free ports and all its files in the directory."""
    values: dict[str, Any] = {
        "name": "demo-1",
        "deployment": "demo",
        "revision": 1,
        "plane": "onprem-fra",
        "pool": "onprem-fra--cpu",
        "engine": engine,
        "model_path": str(MODEL),
        "served_name": SERVED,
        "http_port": free_port("127.0.0.1"),
        "grpc_port": free_port("127.0.0.1"),
        "health_port": free_port("127.0.0.1"),
        "config_dir": directory / "config",
        "log_dir": directory / "logs",
        "state_file": directory / "state.json",
    }
    return ReplicaSpec(**(values | changes))


def an_engine(name: EngineName, **options: str) -> EngineSpec:
    """Return a small engine; options with underscores for hyphens."""
    pairs = tuple((key.replace("_", "-"), value) for key, value in options.items())
    return EngineSpec(name=name, context_tokens=512, concurrent_requests=2, options=pairs)


@contextlib.asynccontextmanager
async def running_replica(
    spec: ReplicaSpec, *, state: HostState = HostState.READY, seconds: float = START_SECONDS_MAX
) -> AsyncIterator[RunningReplica]:
    """Run a replica host for the block, which begins once its state file says `state`."""
    spec.log_dir.mkdir(parents=True, exist_ok=True)
    path = spec.state_file.with_name("spec.json")
    write_spec(path, spec)
    process = spawn(
        [sys.executable, "-m", "workload_plane.replica_host.main", "--spec", str(path)],
        env=None,
        cwd=None,
        stdout_path=spec.log_dir / "host.log",
    )
    replica = RunningReplica(spec=spec, process=process)
    try:
        await until(lambda: _state(replica) is state, seconds)
        yield replica
    finally:
        await terminate(process, CLOCK, 10.0)
        kill_group(process)


async def until(fact: Callable[[], bool], seconds: float = START_SECONDS_MAX) -> float:
    """Return the seconds until the fact held; fails the test when it does not in time."""
    started = CLOCK.monotonic()
    while not fact():
        if CLOCK.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds:g} s")
        await CLOCK.sleep(0.02)
    return CLOCK.monotonic() - started


async def get_json(url: str) -> tuple[int, Any]:
    """Return the status and the JSON body of a GET."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, json.loads(await response.read())


async def post_json(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Return the status and the JSON body of a POST."""
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        return response.status, json.loads(await response.read())


async def stream_events(url: str, body: dict[str, Any]) -> list[str]:
    """Return the data of all events of a streamed POST."""
    async with aiohttp.ClientSession() as session:
        async with session.post(url, json=body | {"stream": True}) as response:
            assert response.status == 200, await response.text()
            text = await response.text()
    return [line[6:] for line in text.splitlines() if line.startswith("data: ")]


def environment_of_process(pid: int) -> bytes:
    """Return the environment that the process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def is_gone(process: ProcessRecord | None) -> bool:
    """Return whether the process has ended."""
    return process is not None and not is_alive(process)


def _state(replica: RunningReplica) -> HostState | None:
    if not is_alive(replica.process) and not replica.spec.state_file.exists():
        raise AssertionError(f"the host ended: {replica.output()}")
    try:
        return replica.record().state
    except NotFound:
        return None
