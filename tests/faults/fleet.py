"""A fleet of `skerry up` whose parts the fault tests kill, stop, damage and mend again.

Three planes with everything a plane has: agent, front, Envoy, picker, relay, and replicas under
real `skerry-replica` hosts. Faults go by recorded pids; `mend` brings back what a test broke.
"""

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from skerry.cli.down import stop_directory
from skerry.cli.supervisor.fleet_file import gateways_of, read_fleet
from skerry.cli.supervisor.layout import CONTROL_PLANE_NAME, DataDirectory, Layout
from skerry.cli.supervisor.preparation import AS_BEFORE, Choices
from skerry.cli.supervisor.processes_file import read_living_processes
from skerry.cli.supervisor.readiness import until_ready
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.up import start_fleet, start_only
from skerry.client.gateways import Gateway
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
    Spread,
)
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.fleet.routing import Routing
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord, is_alive, record_of, signal_process
from workload_plane.gateway.status import GatewayStatus, read_status
from workload_plane.replicas.records import ReplicaRecord, read_records

PLANES, REPLICAS = 3, 4
DEPLOYMENT, SERVED = "chat", "chat-model"
CLOCK = SystemClock()
# Far above what any step takes here; a miss is a failure, not a slow machine.
WAIT_SECONDS_MAX = 120.0
_LOOK_SECONDS = 0.1
_PLANE_ROLES = (Role.AGENT, Role.FRONT, Role.GATEWAY, Role.PICKER)


def a_deployment(*, continuation: bool) -> Deployment:
    """Return four replicas on three planes, each of which gives 50 tokens a second to a stream."""
    options = {"tpot-seconds": "0.02", "tpot-seconds-per-request": "0", "jitter": "0"}
    return Deployment(
        name=DEPLOYMENT,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="simulated://tiny", served_name=SERVED),
            engine=EngineSpec(
                name=EngineName.SIMULATED,
                concurrent_requests=128,
                options=tuple(options.items()),
            ),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
        scaling=Scaling(min_replicas=REPLICAS, max_replicas=REPLICAS),
        policy=PlacementPolicy(spread=Spread(domain=FailureDomain.PLANE, domains_min=PLANES)),
        routing=Routing(continuation=continuation),
    )


@dataclass
class FaultFleet:
    """The fleet; `home` is the plane with two replicas, at whose gateway the load begins."""

    directory: DataDirectory
    layout: Layout
    operator: AsyncOperatorClient
    http: aiohttp.ClientSession
    home: str = ""
    continuation: bool = False
    roles: tuple[Role, ...] = _PLANE_ROLES  # what each plane has; a relay where streams continue
    shape: dict[str, int] = field(default_factory=dict)
    _stopped: list[ProcessRecord] = field(default_factory=list)
    _lacks: str = ""

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """Return the planes' gateways, that of `home` first."""
        known = gateways_of(read_fleet(self.directory.fleet))
        return tuple(sorted(known, key=lambda gateway: gateway.name != self.home))

    async def nearest_peer(self) -> str:
        """Return the plane that the home's gateway goes to first when nothing is left here."""
        status = await self.status(self.home)
        assert status is not None
        hosts = [h for h in status.hosts[f"http/{DEPLOYMENT}"] if h.name in self.shape]
        return min(hosts, key=lambda host: host.priority).name

    def plane_directory(self, plane: str) -> Path:
        """Return a plane's folder."""
        return self.directory.plane(plane)

    def part(self, plane: str, role: Role) -> ProcessRecord:
        """Return a supervised process that lives."""
        return read_living_processes(self.directory.processes)[PartKey(role=role, plane=plane)]

    def has_part(self, plane: str, role: Role) -> bool:
        """Say whether a supervised process lives."""
        key = PartKey(role=role, plane=plane)
        return key in read_living_processes(self.directory.processes)

    def replicas(self, plane: str) -> tuple[ReplicaRecord, ...]:
        """Return a plane's replicas that are READY."""
        records = read_records(self.plane_directory(plane) / "replicas")
        return tuple(one for one in records if one.state is ReplicaState.READY)

    def kill(self, records: Iterable[ProcessRecord | None]) -> None:
        """End processes with SIGKILL, all at once."""
        for record in records:
            if record is not None:
                signal_process(record, signal.SIGKILL)

    def stop(self, record: ProcessRecord) -> None:
        """Stop a process with SIGSTOP; `mend` lets it go on."""
        self._stopped.append(record)
        signal_process(record, signal.SIGSTOP)

    def kill_for_good(self, record: ProcessRecord) -> None:
        """End a process, and have nobody start it again before `mend`."""
        self.stop(record_of(read_fleet(self.directory.fleet)["supervisor_pid"]))
        self.kill([record])

    def go_on(self) -> None:
        """Let everything that was stopped go on."""
        for record in self._stopped:
            if is_alive(record):
                signal_process(record, signal.SIGCONT)
        self._stopped.clear()

    def processes_of(self, plane: str) -> tuple[ProcessRecord, ...]:
        """Return every process of a plane, those first that would start others again."""
        living = read_living_processes(self.directory.processes)
        parts = [record for key, record in living.items() if key.plane == plane]
        parts.sort(key=lambda record: record.name)
        return (*parts, *replica_processes(self.replicas(plane)))

    async def status(self, plane: str) -> GatewayStatus | None:
        """Return what a plane's Envoy says of itself."""
        return await read_status(self.http, self.layout.plane(plane).ports.admin)

    async def continuations(self) -> int:
        """Return how many streams the home's relay has gone on with since it started."""
        url = f"http://127.0.0.1:{self.layout.plane(self.home).ports.relay_http}/metrics"
        async with self.http.get(url) as answer:
            lines = (await answer.text()).splitlines()
        name = "skerry_relay_continuations_total"
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)))

    async def with_control_plane(self) -> None:
        """Have the control plane run, with every plane connected."""

        async def is_connected() -> bool:
            if not self.has_part("", Role.CONTROL_PLANE):
                await start_only(self.directory, CONTROL_PLANE_NAME)
            planes = await self.operator.list_planes()
            return [plane.state.value for plane in planes] == ["connected"] * PLANES

        await self.until("every plane is connected", is_connected)

    async def without_control_plane(self) -> None:
        """Have it dead, as in every scenario that does not need it."""
        living = read_living_processes(self.directory.processes)
        self.kill([living.get(PartKey(role=Role.CONTROL_PLANE))])

    async def route(self, *, continuation: bool) -> None:
        """Have streams continued, or not; asks the control plane only when that is to change."""
        if continuation != self.continuation:
            await self.with_control_plane()
            await self.operator.apply(a_deployment(continuation=continuation))
            self.continuation = continuation
        await self.until("the routing is in force", self._is_routed)

    async def mend(self) -> None:
        """Bring everything back and wait until it serves as before the fault."""
        self.go_on()
        fleet = read_fleet(self.directory.fleet)
        for plane in fleet["planes"]:
            if plane["agent_pid"] is None:
                await start_only(self.directory, plane["name"])
        await self.until("the fleet is whole", self.is_whole)

    async def settle(self) -> None:
        """Wait until everything is as the control plane placed it, and take that for whole."""

        async def is_placed() -> bool:
            rows = [r for r in await self.operator.list_placements() if r.replicas]
            self.shape = {row.plane: row.replicas for row in rows}
            return sum(self.shape.values()) == REPLICAS and len(self.shape) == PLANES

        await self.until("all replicas are placed", is_placed)
        self.home = max(self.shape, key=lambda plane: self.shape[plane])
        await self.until("the fleet is whole", self.is_whole)

    async def is_whole(self) -> bool:
        """Say whether all parts live, all replicas are ready, and every gateway sees them so."""
        self._lacks = await self._what_lacks()
        return not self._lacks

    async def _what_lacks(self) -> str:
        """Return the first thing that is not whole, "" where nothing lacks."""
        roles = (*self.roles, *((Role.RELAY,) if self.continuation else ()))
        for plane, count in self.shape.items():
            if gone := [role.value for role in roles if not self.has_part(plane, role)]:
                return f"{plane}: no {', '.join(gone)}"
            records = read_records(self.plane_directory(plane) / "replicas")
            if len(records) != count or len(self.replicas(plane)) != count:
                return f"{plane}: {len(records)} replicas of {count}, some not ready"
            status = await self.status(plane)
            hosts = status.hosts.get(f"http/{DEPLOYMENT}", ()) if status else ()
            here = [host for host in hosts if host.priority == 0]
            others = [host for host in hosts if host.name in self.shape]
            if len(here) != count or len(others) != len(self.shape) - 1:
                return f"{plane}: its gateway knows {[host.name for host in hosts]}"
            helpers = status.hosts.get("relay-http", ()) if status and self.continuation else ()
            if not all(host.healthy for host in (*here, *others, *helpers)):
                return f"{plane}: its gateway holds a host for dead"
        return ""

    async def home_answers(self) -> bool:
        """Say whether the home's gateway answers a request."""
        url = f"http://{self.gateways[0].http}/v1/completions"
        body = {"model": SERVED, "prompt": "hello", "max_tokens": 1}
        try:
            async with self.http.post(url, json=body) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def until(self, what: str, look: Callable[[], Awaitable[bool]]) -> None:
        """Look until it is so; an AssertionError says what did not come."""
        deadline = CLOCK.monotonic() + WAIT_SECONDS_MAX
        trouble, self._lacks = "", ""
        while CLOCK.monotonic() < deadline:
            try:
                if await look():
                    return
            except (SkerryError, OSError, KeyError) as error:
                trouble = f" ({error!r})"
            await CLOCK.sleep(_LOOK_SECONDS)
        raise AssertionError(
            f"waited in vain until {what}{trouble}; {self._lacks}; {self.directory.root}"
        )

    async def _is_routed(self) -> bool:
        urls = [f"http://{gateway.http}/v1/completions" for gateway in self.gateways]
        body = {"model": SERVED, "prompt": "hello", "max_tokens": 1, "stream": True}
        for url in urls:
            async with self.http.post(url, json=body) as answer:
                is_continued = "x-skerry-continuation" in answer.headers
                if answer.status != 200 or is_continued != self.continuation:
                    return False
        return await self.is_whole()


def replica_processes(records: Iterable[ReplicaRecord]) -> tuple[ProcessRecord, ...]:
    """Return the hosts and engines of replicas."""
    found = [process for one in records for process in (one.host_process, one.engine_process)]
    return tuple(process for process in found if process is not None)


@contextlib.asynccontextmanager
async def a_fault_fleet(root: Path, choices: Choices | None = None) -> AsyncIterator[FaultFleet]:
    """Yield a fleet that serves; nothing of it is left at the end."""
    directory = DataDirectory(root)
    layout, supervisor = await start_fleet(
        directory,
        PLANES,
        "simulated",
        restart_control_plane=False,
        choices=replace(choices or AS_BEFORE, keys=False),
    )
    context = fleet_context(directory, layout)
    ids = SystemIds(CLOCK)
    try:
        async with (
            AsyncOperatorClient(context, ids, "user:test") as operator,
            aiohttp.ClientSession() as http,
        ):
            async for _ in until_ready(directory, layout, supervisor, operator, CLOCK):
                pass
            fleet = FaultFleet(directory, layout, operator, http)
            await operator.apply(a_deployment(continuation=False))
            await fleet.settle()
            try:
                yield fleet
            finally:
                fleet.go_on()
    finally:
        await stop_directory(directory, CLOCK)
