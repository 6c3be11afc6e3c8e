"""A start that waits for its base model: seen by people, in nobody's way, under its own name."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.engine import (
    EngineName,
    EngineSpec,
    Lora,
    LoraAdapter,
    Quantisation,
    SpeculativeDecoding,
    SpeculativeMethod,
)
from skerry.fleet.generation import Version
from skerry.fleet.observation import UNKNOWN, ReplicaState, Unknown
from skerry.fleet.placement import Envelope
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from tests.contract.model_cache_world import LIMITS, read, weights
from tests.contract.model_servers import Fault, ModelServer, serving
from tests.fakes.replica_runtime import FakeReplicaRuntime
from workload_plane.converge.apply import Applier, StartTerms
from workload_plane.converge.discover import GatewayView, Memory
from workload_plane.converge.loop import ConvergeLoop, LoopParts
from workload_plane.converge.seen import SeenPool
from workload_plane.models.cache import ModelCache
from workload_plane.models.checkpoint import held_weights
from workload_plane.models.limits import CacheSettings
from workload_plane.models.local_checks import LocalChecks
from workload_plane.models.remote import model_session, sources
from workload_plane.replicas.port import ReplicaOrder
from workload_plane.replicas.records import ReplicaRecord

pytestmark = pytest.mark.integration

POOL = "here--cpu"
TINY = Path(__file__).parents[2] / "examples" / "models" / "skerry-tiny.gguf"
CLOCK = SystemClock()


class Runtime(FakeReplicaRuntime):
    """Remembers the orders, too."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[ReplicaOrder] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def start(self, order: ReplicaOrder) -> ReplicaRecord:
        self.orders.append(order)
        await self.goes_on.wait()
        return await super().start(order)


class Probe:
    async def is_healthy(self, record: ReplicaRecord) -> bool:
        return True

    async def in_flight(self, record: ReplicaRecord) -> int | None:
        return 0


@dataclass
class Source:
    """What is desired, and a gateway that routes to whatever is there."""

    runtime: Runtime
    state: DesiredState | Unknown = UNKNOWN

    @property
    def view(self) -> GatewayView:
        return GatewayView(known=True, routable=frozenset(self.runtime.records))


@dataclass
class World:
    server: ModelServer
    runtime: Runtime
    desired: Source
    loop: ConvergeLoop
    wake: asyncio.Event
    directory: Path
    generation: int = 0
    assignments: dict[str, Assignment] = field(default_factory=dict)

    def want(self, name: str, file: str, target: int, revision: int = 1, **rest: object) -> None:
        """Desire replicas of a deployment; the others stay as they are."""
        self.generation += 1
        uri = f"{self.server.url}/files/{file}" if file else "simulated://x"
        uri = file if "://" in file else uri
        engine = EngineName.LLAMACPP if file else EngineName.SIMULATED
        deployment = Deployment(
            name=name,
            revision=Revision(
                number=revision,
                base_model=BaseModel(uri=uri, served_name=name),
                engine=EngineSpec(name=engine),
                shapes=(ResourceShape(accelerator="cpu", accelerators=1),),
            ),
        )
        ceiling = int(str(rest.get("ceiling", target)))
        envelope = Envelope(deployment=name, pool=POOL, floor=0, target=target, ceiling=ceiling)
        self.assignments[name] = Assignment(deployment=deployment, envelopes=(envelope,))
        self.desired.state = DesiredState(
            plane="here",
            version=Version(epoch=1, generation=self.generation),
            assignments=tuple(self.assignments.values()),
        )
        self.wake.set()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                await CLOCK.sleep(0.02)

    def ready(self, deployment: str) -> list[str]:
        return [
            record.name
            for record in self.runtime.records.values()
            if record.deployment == deployment and record.state is ReplicaState.READY
        ]

    def failed(self) -> list[ReplicaRecord]:
        records = self.runtime.records.values()
        return [one for one in records if one.state is ReplicaState.FAILED]


@asynccontextmanager
async def a_world(server: ModelServer, tmp_path: Path, accelerators: int) -> AsyncIterator[World]:
    settings = CacheSettings(
        directory=tmp_path / "models",
        schemes=("http",),
        allow_private_addresses=True,
        free_bytes_min=0,
    )
    runtime, memory, wake, ids = Runtime(), Memory(), asyncio.Event(), SystemIds(CLOCK)
    pools = (SeenPool(name=POOL, accelerator="cpu", accelerators=accelerators),)
    desired = Source(runtime)
    async with model_session(settings, LIMITS) as session:
        found = sources(settings, session, LIMITS)
        models = ModelCache(settings, found, wake, CLOCK, ids, LIMITS)
        directories = (tmp_path / "local",)
        checks = LocalChecks(directories, wake, CLOCK)
        terms = StartTerms(
            model_dirs=directories,
            engine_override=None,
            pools=lambda: pools,
            models=models,
            local_checks=checks,
        )
        parts = LoopParts(
            runtime=runtime,
            probe=Probe(),
            desired=desired,
            gateway=desired,
            applier=Applier(runtime, memory, terms, wake, CLOCK, ids),
            memory=memory,
            pools=lambda: pools,
            clock=CLOCK,
            models=models,
            local_checks=checks,
        )
        loop = ConvergeLoop(parts, wake, asyncio.Event())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(models.run()), group.create_task(loop.run())]
            yield World(server, runtime, desired, loop, wake, tmp_path / "models")
            for task in tasks:
                task.cancel()
            checks.close()


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    files = {f"m{i}.gguf": weights(i) for i in range(3)}
    async with serving(ModelServer(files=files)) as server:
        yield server


@pytest.fixture
async def world(server: ModelServer, tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(server, tmp_path, accelerators=4) as world:
        yield world


async def test_waiting_replicas_are_shown_and_start_under_their_names(world: World) -> None:
    world.server.faults.extend([Fault.SLOW, Fault.SLOW])
    world.want("demo", "m1.gguf", target=2)
    await world.until(lambda: any("downloading" in one.message for one in world.loop.awaiting))
    shown = world.loop.awaiting
    assert [(one.state, one.pid) for one in shown] == [(ReplicaState.STARTING, 0)] * 2
    assert all(f"from {world.server.url}/files/m1.gguf" in one.message for one in shown)
    assert not world.runtime.records
    # Another deployment starts meanwhile.
    world.want("other", "", target=1)
    await world.until(lambda: len(world.ready("other")) == 1)
    assert {one.name for one in world.loop.awaiting} == {one.name for one in shown}
    world.server.release.set()
    await world.until(lambda: len(world.ready("demo")) == 2)
    assert sorted(world.ready("demo")) == sorted(one.name for one in shown)
    assert world.loop.awaiting == ()
    paths = {order.model_path for order in world.runtime.orders if order.deployment == "demo"}
    (path,) = paths
    assert read(path) == weights(1)
    assert len(world.server.gets("m1.gguf")) == 2  # its listing, and once its bytes


async def test_what_may_be_started_later_is_fetched_before_it_is_due(world: World) -> None:
    world.want("demo", "m1.gguf", target=0, ceiling=2)
    pins = world.directory / "pins"
    await world.until(lambda: pins.is_dir() and any(pins.glob("*.json")))
    assert world.loop.awaiting == ()
    world.server.asked.clear()
    world.want("demo", "m1.gguf", target=1)
    await world.until(lambda: len(world.ready("demo")) == 1)
    assert world.server.asked == []


async def test_nothing_that_serves_goes_before_the_new_model_is_here(
    server: ModelServer, tmp_path: Path
) -> None:
    async with a_world(server, tmp_path, accelerators=1) as world:
        world.want("demo", "m1.gguf", target=1)
        await world.until(lambda: len(world.ready("demo")) == 1)
        serving_now = world.ready("demo")
        server.faults.extend([Fault.SLOW, Fault.SLOW])
        world.want("demo", "m2.gguf", target=1, revision=2)
        await world.until(lambda: any("downloading" in one.message for one in world.loop.awaiting))
        assert world.ready("demo") == serving_now
        server.release.set()
        # A full pool: the old one goes first, but only now.
        await world.until(lambda: any(o.revision == 2 for o in world.runtime.orders))


async def test_a_model_that_cannot_be_had_fails_its_replica_with_the_reason(world: World) -> None:
    world.want("demo", "absent.gguf", target=1)
    await world.until(lambda: len(world.failed()) == 1)
    assert "correct the base model's URI" in world.failed()[0].message


@pytest.mark.parametrize("place", ["elsewhere", "here"])
async def test_a_registered_digest_is_held_against_what_comes_and_what_is_here(
    world: World, tmp_path: Path, place: str
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "m1.gguf").write_bytes(weights(1))
    uri = "builtin://m1" if place == "here" else f"{world.server.url}/files/m1.gguf"
    right = hashlib.sha256(weights(1)).hexdigest()
    # As the control plane tells it of the catalogue.
    world.want("wrong", f"{uri}#sha256={'ab' * 32}", target=1)
    await world.until(lambda: len(world.failed()) == 1)
    (failed,) = world.failed()
    assert failed.deployment == "wrong"
    assert f"the SHA-256 {right}, not abab" in failed.message
    world.want("right", f"{uri}#sha256={right}", target=1)
    await world.until(lambda: len(world.ready("right")) == 1)
    assert read(str(world.runtime.orders[-1].model_path)) == weights(1)


async def test_draft_model_and_adapters_reach_the_engine_as_files(world: World) -> None:
    of = world.server.url + "/files/"
    world.want("demo", "m1.gguf", target=1)
    one = world.assignments["demo"]
    engine = EngineSpec(
        name=EngineName.VLLM,
        speculative=SpeculativeDecoding(
            method=SpeculativeMethod.DRAFT_MODEL, draft_tokens=2, draft_model_uri=of + "m2.gguf"
        ),
        lora=Lora(adapters=(LoraAdapter(name="a", uri=of + "m0.gguf"),)),
    )
    revision = replace(one.deployment.revision, engine=engine)
    world.assignments["demo"] = replace(one, deployment=replace(one.deployment, revision=revision))
    world.want("other", "", target=0)
    await world.until(lambda: len(world.ready("demo")) == 1)
    (order,) = world.runtime.orders
    assert order.engine.speculative is not None
    assert order.engine.lora is not None
    places = (
        order.model_path,
        order.engine.speculative.draft_model_uri,
        order.engine.lora.adapters[0].uri.removeprefix("file://"),
    )
    assert [read(str(place)) for place in places] == [weights(1), weights(2), weights(0)]
    uses = [path.name.partition(".")[0] for path in (world.directory / "uses").iterdir()]
    assert uses == [order.name] * 3


async def test_other_weights_than_the_deployment_says_are_not_started(
    world: World, tmp_path: Path
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "tiny.gguf").write_bytes(TINY.read_bytes())
    held = held_weights(TINY)
    for name, said in (("right", held), ("wrong", "q4_k_m")):
        world.want(name, "builtin://tiny", target=1)
        one = world.assignments[name]
        engine = EngineSpec(name=EngineName.LLAMACPP, quantisation=Quantisation(weights=said))
        revision = replace(one.deployment.revision, engine=engine)
        world.assignments[name] = replace(
            one, deployment=replace(one.deployment, revision=revision)
        )
    world.want("other", "", target=0)
    await world.until(lambda: len(world.ready("right")) == 1 and len(world.failed()) == 1)
    (failed,) = world.failed()
    assert failed.deployment == "wrong"
    assert f"says q4_k_m, and the base model says of itself that it is {held}" in failed.message


async def test_what_begins_keeps_its_model_however_long_that_takes(world: World) -> None:
    world.runtime.goes_on.clear()
    world.want("demo", "m1.gguf", target=1)
    await world.until(lambda: bool(world.loop.awaiting and world.runtime.orders))
    world.want("other", "m2.gguf", target=0, ceiling=1)  # a few turns of the cache and of the loop
    await world.until(lambda: len(list((world.directory / "pins").glob("*.json"))) == 2)
    await CLOCK.sleep(1.2)
    (order,) = world.runtime.orders
    uses = [path.name.partition(".")[0] for path in (world.directory / "uses").iterdir()]
    assert uses == [order.name]
    world.runtime.goes_on.set()
    await world.until(lambda: world.ready("demo") == [order.name])


async def test_a_running_replica_keeps_its_model_and_a_gone_one_does_not(world: World) -> None:
    world.want("demo", "m1.gguf", target=1)
    await world.until(lambda: len(world.ready("demo")) == 1)
    (name,) = world.ready("demo")
    uses = world.directory / "uses"
    assert [path.name.partition(".")[0] for path in uses.iterdir()] == [name]
    world.want("demo", "m1.gguf", target=0, ceiling=0)
    await world.until(lambda: not world.runtime.records and not list(uses.iterdir()))
