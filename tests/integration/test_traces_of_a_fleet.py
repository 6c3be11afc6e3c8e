"""Traces of a fleet of `skerry up`: calls over gRPC, one that spills over, and what was decided."""

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import pytest

from skerry.api.openengine.v1 import generation_pb2, openengine_pb2_grpc
from skerry.cli.down import stop_directory
from skerry.cli.supervisor.layout import CONTROL_PLANE_NAME, DataDirectory, Layout
from skerry.cli.supervisor.preparation import Choices, prepare
from skerry.cli.supervisor.processes_file import read_living_processes
from skerry.cli.supervisor.readiness import until_ready
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.cli.up import start_fleet
from skerry.client.operator import AsyncOperatorClient
from skerry.fleet.api_key import KeyTerms
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
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Unavailable
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord, signal_process
from tests.integration.gateway_world import HOST, listening_port
from tests.integration.trace_collector import Collector, SeenSpan, a_collector
from workload_plane.gateway.status import read_status
from workload_plane.replicas.records import read_records

pytestmark = pytest.mark.slow
CLOCK = SystemClock()
# A fleet's start and two starts of replicas, on cores that others share.
SECONDS_MAX = 90.0
PROMPT, KEY_NAME = "a prompt that nobody else shall read", "name-of-a-key"
TOKENS = 3
DEPLOYMENT, SERVED = "chat", "chat-model"
GATEWAY, REPLICA = "skerry-gateway", "skerry-replica"


def a_deployment() -> Deployment:
    """Return one replica on each of two planes."""
    return Deployment(
        name=DEPLOYMENT,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="simulated://tiny", served_name=SERVED),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
        scaling=Scaling(min_replicas=2, max_replicas=2),
        policy=PlacementPolicy(spread=Spread(domain=FailureDomain.PLANE, domains_min=2)),
    )


@dataclass
class Fleet:
    """Two planes that trace all, with a replica on each."""

    directory: DataDirectory
    layout: Layout
    operator: AsyncOperatorClient
    http: aiohttp.ClientSession
    key: str = ""

    async def is_whole(self) -> bool:
        """Say whether each gateway sees its own replica and the other plane serve."""
        for plane in self.layout.planes:
            status = await read_status(self.http, plane.ports.admin)
            hosts = status.hosts.get(f"grpc/{DEPLOYMENT}", ()) if status else ()
            known = {host.name for host in hosts if host.healthy}
            others = {other.name for other in self.layout.planes} - {plane.name}
            if len(known) < 2 or not known > others:
                return False
        return True

    async def generate(self, plane: str) -> int:
        """Return the tokens of a call over gRPC at a plane's gateway."""
        (port,) = (p.ports.public for p in self.layout.planes if p.name == plane)
        stopping = generation_pb2.StoppingOptions(max_tokens=TOKENS, ignore_eos=True)
        asked = generation_pb2.GenerateRequest(model=SERVED, prompt=PROMPT, stopping=stopping)
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            call = openengine_pb2_grpc.InferenceStub(channel).Generate(
                asked, metadata=(("authorization", f"Bearer {self.key}"),), timeout=20
            )
            said = [response async for response in call]
        return int(said[-1].usage.completion_tokens)

    def stop_agent(self, plane: str) -> ProcessRecord:
        """Stop a plane's agent, which would start replicas again."""
        key = PartKey(role=Role.AGENT, plane=plane)
        record = read_living_processes(self.directory.processes)[key]
        signal_process(record, signal.SIGSTOP)
        return record

    def kill_replicas(self, plane: str) -> None:
        """Kill a plane's replicas with their engines, as a lost node does."""
        for one in read_records(self.directory.plane(plane) / "replicas"):
            assert one.state is ReplicaState.READY
            for process in (one.host_process, one.engine_process):
                if process is not None:
                    signal_process(process, signal.SIGKILL)


@contextlib.asynccontextmanager
async def a_traced_fleet(root: Path, port: int) -> AsyncIterator[Fleet]:
    """Yield a fleet that traces every request to a collector at that port, and serves nothing."""
    directory = DataDirectory(root)
    choices = Choices(trace_endpoint=f"http://{HOST}:{port}")
    layout = prepare(directory, 2, "simulated", CLOCK.now(), os.environ, choices)
    for plane in layout.planes:
        path = directory.plane(plane.name) / "settings.json"
        settings = json.loads(path.read_text())
        settings["tracing"]["sample"] = 1.0
        path.write_text(json.dumps(settings))
    layout, supervisor = await start_fleet(directory, None, None, restart_control_plane=False)
    context = fleet_context(directory, layout)
    try:
        async with (
            AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as operator,
            aiohttp.ClientSession() as http,
        ):
            async for _ in until_ready(directory, layout, supervisor, operator, CLOCK):
                pass
            yield Fleet(directory, layout, operator, http)
    finally:
        await stop_directory(directory, CLOCK)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    deadline = CLOCK.monotonic() + SECONDS_MAX
    while not await holds():
        assert CLOCK.monotonic() < deadline, "waited in vain"
        await CLOCK.sleep(0.1)


async def test_calls_and_decisions_are_whole_traces_that_tell_no_secret(tmp_path: Path) -> None:
    port = listening_port()
    async with a_collector(HOST, port) as collector, a_traced_fleet(tmp_path, port) as fleet:
        terms = KeyTerms(deployments=(DEPLOYMENT,))
        fleet.key = (await fleet.operator.create_api_key(KEY_NAME, terms)).text
        await fleet.operator.apply(a_deployment())
        await until(fleet.is_whole)
        await the_planes_acknowledged_what_was_pushed(fleet, collector)
        await the_placing_turn_is_one_trace(fleet, collector)

        home, peer = (plane.name for plane in fleet.layout.planes)
        path = [(REPLICA, home), (GATEWAY, home), (GATEWAY, home)]
        await calls_come_along(fleet, collector, path)
        agent = fleet.stop_agent(home)
        try:
            fleet.kill_replicas(home)
            path = [(REPLICA, peer), *[(GATEWAY, peer)] * 2, *[(GATEWAY, home)] * 2]
            await calls_come_along(fleet, collector, path)
        finally:
            signal_process(agent, signal.SIGCONT)

    for hidden in (PROMPT, fleet.key, KEY_NAME):
        assert hidden.encode() not in collector.raw


async def the_planes_acknowledged_what_was_pushed(fleet: Fleet, collector: Collector) -> None:
    """Wait until the newest generation that a trace tells of a plane is the one that it holds."""

    async def is_so() -> bool:
        try:
            held = {row.name: row.held for row in await fleet.operator.list_planes()}
        except Unavailable:
            return False  # it was just started
        told = {plane: max(found)[1] for plane, found in pushed(collector.spans).items()}
        # A plane that holds the bytes already keeps the epoch that it got them in.
        return told == {name: version.generation for name, version in held.items()}

    await until(is_so)


def pushed(spans: list[SeenSpan]) -> dict[str, list[tuple[int, int]]]:
    """Return epoch and generation of every push to each plane."""
    found: dict[str, list[tuple[int, int]]] = {}
    for event in (event for span in spans for event in span.events if event.name == "pushed"):
        told = event.attributes
        version = int(told["skerry.epoch"]), int(told["skerry.generation"])
        found.setdefault(told["skerry.plane"], []).append(version)
    return found


async def the_placing_turn_is_one_trace(fleet: Fleet, collector: Collector) -> None:
    """Wait for the turn that placed the deployment: its parts, whom it told, what it logged."""
    planes = {plane.name for plane in fleet.layout.planes}
    found: dict[str, SeenSpan] = {}

    async def came() -> bool:
        by_trace: dict[str, dict[str, SeenSpan]] = {}
        for span in collector.spans:
            by_trace.setdefault(span.trace, {})[span.name] = span
        for spans in by_trace.values():
            placed = spans.get("reconcile.place")
            # They come in several parcels, the turn itself last.
            is_whole = {"reconcile.turn", "reconcile.apply"} <= spans.keys()
            if is_whole and placed and placed.attributes["skerry.changed"] == "True":
                found.clear()
                found.update(spans)
        return bool(found)

    await until(came)
    turn = found.pop("reconcile.turn")
    assert not turn.parent
    assert {span.parent for span in found.values()} == {turn.id}
    assert pushed([found["reconcile.apply"]]).keys() == planes
    log = (fleet.directory.control_plane_of(CONTROL_PLANE_NAME) / "log").read_text()
    inside = [line for line in log.splitlines() if f"trace_id={turn.trace}" in line]
    for event in ("placements.decided", "action"):
        assert any(f"event={event} " in line for line in inside)


async def calls_come_along(fleet: Fleet, collector: Collector, path: list[tuple[str, str]]) -> None:
    """Call at the first plane until a trace goes back from a replica along these processes."""
    home = fleet.layout.planes[0].name
    seen = {span.trace for span in collector.spans}

    async def does() -> bool:
        assert await fleet.generate(home) == TOKENS  # and so is whoever comes while it changes
        spans = {span.id: span for span in collector.spans if span.trace not in seen}
        for span in spans.values():
            around = _back(span, spans) if span.service == REPLICA else []
            if [_where(one) for one in around] == path:
                a_call_is_told_of(span, around[1:])
                return True
        return False

    await until(does)


def a_call_is_told_of(generated: SeenSpan, around: list[SeenSpan]) -> None:
    """Check what a replica's span says, and what the attempts and requests around it say."""
    assert generated.name == "generate"
    names = [event.name for event in generated.events]
    assert names == ["accepted", "first token", "last token"]
    told = generated.attributes
    assert (told["skerry.tokens"], told["skerry.outcome"]) == (str(TOKENS), "finished")
    for attempt, request in zip(around[::2], around[1::2], strict=True):
        assert request.name == DEPLOYMENT
        assert request.attributes["guid:x-request-id"]
        assert " attempt " in attempt.name
        assert attempt.attributes["upstream_address"]
        for span in (attempt, request):
            assert span.attributes["skerry.deployment"] == DEPLOYMENT
            assert span.attributes["http.status_code"] == "200"
            assert span.attributes["grpc.status_code"] == "0"
            assert span.attributes["grpc.path"] == "-"


def _back(span: SeenSpan, spans: dict[str, SeenSpan]) -> list[SeenSpan]:
    """Return a span and all around it to where its trace begins, nothing while one is missing."""
    found = [span]
    while found[-1].parent:
        if found[-1].parent not in spans:
            return []
        found.append(spans[found[-1].parent])
    assert {one.trace for one in found} == {span.trace}
    return found


def _where(span: SeenSpan) -> tuple[str, str]:
    """Return whose span it is, and of which plane."""
    return span.service, span.attributes.get("skerry.plane") or span.about["skerry.plane"]
