"""Many planes' links in one process: the agents' own client, with a plane that does as it is told.

`bench_link` starts some of these and asks them, a JSON line for each line, on standard input:
`mark` forgets what was seen so far, `report` tells it, `stop` ends. Times are of the machine's
monotonic clock, the same in all its processes.
"""

import asyncio
import gc
import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport
from skerry.fleet.desired import FEATURES, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.node import Node
from skerry.fleet.observation import (
    ObservedReplica,
    PeerVerdict,
    PeerView,
    PlaneReport,
    ReplicaState,
    Unknown,
)
from skerry.fleet.party_uris import plane_uri
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, PoolShape
from skerry.plumbing import logs
from skerry.plumbing.certificates import Subject, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from workload_plane.autoscale.history import KeptDecision
from workload_plane.desired_state.accept import Grant, Refuse
from workload_plane.desired_state.file import DesiredStateFile
from workload_plane.desired_state.holder import DesiredHolder
from workload_plane.link.client import LinkClient
from workload_plane.link.connection import LinkSettings
from workload_plane.link.session import SessionState

CLOCK = SystemClock()
LOOK_SECONDS = 0.1
COUNTED_SECONDS = 5.0  # the agent's loop counts so often, each at moments of its own
LATE_SECONDS = 0.5
UP = frozenset((SessionState.LINKED, SessionState.MUTED))
POOLS = ("a", "b")
NODES = 4
FILES_MAX = 65_536
GIB = 2**30
CLOUDS, REGIONS = ("aws", "azure", "gcp", "onprem"), 12


def plane_name(number: int) -> str:
    """Return a plane's name; cloud and region follow from it."""
    return f"{CLOUDS[number % len(CLOUDS)]}-r{number % REGIONS:02d}-{number:05d}"


class Plane:
    """One plane: two pools, four nodes, the replicas that it was told, all READY at once."""

    evidence = None  # it has no gateway

    def __init__(self, number: int, directory: Path, planes: int = 1) -> None:
        self._planes = planes  # as it was told long ago
        self.name = plane_name(number)
        cloud, region, _ = self.name.split("-")
        self._identity = PlaneIdentity(name=self.name, cloud=cloud, region=region)
        self._nodes = tuple(_node(self.name, number) for number in range(NODES))
        self.changed = asyncio.Event()
        file = DesiredStateFile(directory / self.name / "desired-state")
        self._holder = DesiredHolder(self.name, file, self.changed)
        self._holder.load()
        self.offers = 0
        self.held_at = 0.0
        self._count_offset = COUNTED_SECONDS * (number % 100) / 100
        self._counts = 0
        self._loads = LoadReport()
        self._reported: tuple[Version, PlaneReport] | None = None

    @property
    def planes(self) -> int:
        """Return how many planes the fleet has, as the agent does."""
        state = self._holder.state
        if isinstance(state, Unknown):
            return self._planes
        return max(state.planes, 1 + len(state.peers))

    @property
    def deployments(self) -> int:
        """Return how many deployments it was told of."""
        state = self._holder.state
        return 0 if isinstance(state, Unknown) else len(state.assignments)

    @property
    def generation(self) -> int:
        """Return the generation held."""
        return self._holder.version.generation

    def report(self) -> PlaneReport:
        """Return the plane's report, as long as a small plane's is, made anew with each state."""
        held = self._holder.version
        if self._reported is None or self._reported[0] != held:
            self._reported = held, self._made_report()
        return self._reported[1]

    def _made_report(self) -> PlaneReport:
        state = self._holder.state
        return PlaneReport(
            identity=self._identity,
            pools=tuple(_shape(name) for name in POOLS),
            gateway=GatewayAddresses(http="10.0.0.1:80", grpc="10.0.0.1:80", peer="10.0.0.1:81"),
            held=self._holder.version,
            held_digest=self._holder.digest,
            replicas=tuple(_replicas(self.name, state)),
            peers=()
            if isinstance(state, Unknown)
            else tuple(PeerView(plane=p.plane, verdict=PeerVerdict.SERVING) for p in state.peers),
            features=FEATURES,
            software="skerry (benchmark)",
            nodes=self._nodes,
        )

    def loads(self) -> LoadReport:
        """Return counters that grow as those of a busy plane do, new ones every few seconds."""
        state = self._holder.state
        counts = int((CLOCK.monotonic() + self._count_offset) / COUNTED_SECONDS)
        if not isinstance(state, Unknown) and counts != self._counts:
            self._counts, count = counts, COUNTED_SECONDS * counts
            reading = LoadReading(
                at=count,
                requests_total=count,
                prompt_tokens_total=500.0 * count,
                finished_total=count,
                output_tokens_total=200.0 * count,
                in_flight=1.0,
            )
            self._loads = LoadReport(
                loads=tuple(
                    DeploymentLoad(deployment=one.deployment.name, reading=reading)
                    for one in state.assignments
                )
            )
        return self._loads

    def decisions_after(self, number: int) -> tuple[KeptDecision, ...]:
        """Return nothing: it follows what it is told."""
        return ()

    async def stored(self) -> bytes:
        """Return nothing: nobody asks, for the database is whole."""
        return b""

    async def offer(self, payload: bytes) -> DesiredState | Refuse:
        """Take a state as the agent does, onto the disk."""
        self.offers += 1
        result = await self._holder.offer(payload, _nothing_runs)
        self.held_at = CLOCK.monotonic()
        return result


def _nothing_runs() -> frozenset[Grant]:
    return frozenset()


def _shape(name: str) -> PoolShape:
    return PoolShape(
        name=name,
        accelerator="cpu",
        accelerator_memory_bytes=GIB,
        nodes=NODES // len(POOLS),
        accelerators_per_node=4,
        host_memory_bytes=64 * GIB,
    )


def _node(plane: str, number: int) -> Node:
    name = f"n{plane.rpartition('-')[2]}-{number}"
    return Node(name=name, pool=POOLS[number % len(POOLS)], accelerators=4)


def _replicas(plane: str, state: DesiredState | Unknown) -> Iterator[ObservedReplica]:
    """Yield what the plane was told to run, else some that it runs all the same: a usual report."""
    envelopes = () if isinstance(state, Unknown) else state.envelopes
    told = [(e.deployment, e.pool) for e in envelopes for _ in range(e.target)]
    for number, (deployment, pool) in enumerate(told or [("other", f"{plane}--a")] * 3):
        yield ObservedReplica(
            name=f"{deployment}-{number:04d}",
            deployment=deployment,
            revision=1,
            pool=pool,
            state=ReplicaState.READY,
            http=f"10.0.0.1:{9000 + number}",
            grpc=f"10.0.0.1:{9500 + number}",
        )


@dataclass(slots=True)
class Seen:
    """What was seen of all planes of this process since the last mark."""

    linked_at: dict[str, float] = field(default_factory=dict)
    late: set[tuple[str, int]] = field(default_factory=set)
    offers_before: int = 0


class Fleet:
    """All planes of this process and their links."""

    def __init__(self, told: dict[str, Any]) -> None:
        directory = Path(told["directory"])
        numbers = range(told["first"], told["first"] + told["count"])
        self.planes = [Plane(number, directory / "planes", told["planes"]) for number in numbers]
        ids = SystemIds(CLOCK)
        self.clients: list[LinkClient] = []
        for plane in self.planes:
            subject = Subject(name=plane.name, uris=(plane_uri(DEFAULT_PROJECT, plane.name),))
            tls = issue(
                Path(told["authority"]), directory / "tls" / plane.name, subject, CLOCK.now()
            )
            settings = LinkSettings(
                control_planes=(told["address"],),
                tls=tls,
                project=DEFAULT_PROJECT,
                agent_id=f"agent-{plane.name}",
            )
            self.clients.append(LinkClient(settings, plane, plane.changed, CLOCK, ids))
        self.seen = Seen()

    async def run(self, ready: asyncio.Event, start_seconds: float) -> None:
        """Run every link and look at them; the first connections are spread over some seconds."""
        pause = start_seconds / len(self.clients)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look())
            ready.set()
            for client in self.clients:
                group.create_task(client.run())
                await CLOCK.sleep(pause)

    async def _look(self) -> None:
        names = [plane.name for plane in self.planes]
        while True:
            now, linked_at = CLOCK.monotonic(), self.seen.linked_at
            for name, client in zip(names, self.clients, strict=True):
                connection = client._connection  # nothing else tells how its heartbeats fare
                if connection is None or connection.state not in UP:
                    linked_at.pop(name, None)
                    continue
                if name not in linked_at:
                    linked_at[name] = now
                since = connection._pulse.unanswered_since
                if since is not None and now - since > LATE_SECONDS:
                    self.seen.late.add((name, connection._pulse.echoed))
            await CLOCK.sleep(LOOK_SECONDS)

    def mark(self) -> None:
        """Forget what was seen."""
        self.seen = Seen(
            linked_at=self.seen.linked_at, offers_before=sum(p.offers for p in self.planes)
        )

    def report(self) -> dict[str, Any]:
        """Return what was seen since the last mark."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "linked_at": list(self.seen.linked_at.values()),
            "late": len(self.seen.late),
            "offers": sum(p.offers for p in self.planes) - self.seen.offers_before,
            "held": {plane.name: [plane.generation, plane.held_at] for plane in self.planes},
            "deployments_min": min(plane.deployments for plane in self.planes),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "errors": sorted({c.last_error for c in self.clients if c.last_error})[:5],
        }


async def serve(told: dict[str, Any]) -> None:
    """Run the planes and answer until told to stop."""
    fleet = Fleet(told)
    gc.collect()
    gc.freeze()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    ready = asyncio.Event()
    running = loop.create_task(fleet.run(ready, told["start_seconds"]))
    await ready.wait()
    print(json.dumps({"ready": len(fleet.clients)}), flush=True)
    while line := (await reader.readline()).decode().strip():
        if line == "stop":
            break
        if line == "mark":
            fleet.mark()
        print(json.dumps(fleet.report()), flush=True)
    running.cancel()


def main() -> None:
    """Run with one JSON argument: directory, authority, address, first, count, start_seconds."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_MAX, hard), hard))
    logs.configure()
    asyncio.run(serve(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
