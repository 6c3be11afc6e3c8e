"""A dashboard over the real operator API, its doors, store, reconcile loop and solver; all here.

Planes do as they are told at once. The browser is Debian's Chromium, driven by Playwright.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aiohttp import web

from control_plane.access_settings import OperatorAccessSettings
from control_plane.api.access.authenticator import Authenticator, Sources
from control_plane.api.access.door import AccessDoor
from control_plane.api.access_service import AccessService
from control_plane.api.catalogue_service import CatalogueService
from control_plane.api.health import Role, Standing
from control_plane.api.joining_service import JoiningService
from control_plane.api.key_service import KeyService
from control_plane.api.operations_service import OperationsService, Works
from control_plane.api.operator_service import OperatorService
from control_plane.api.project_service import ProjectService
from control_plane.api.recovery_service import RecoveryService
from control_plane.api.serving import Services, add_operator_services
from control_plane.api.writing import Writing
from control_plane.dashboard.site import Place, Site
from control_plane.http import serve_http
from control_plane.link.convert import decode_desired, encode_desired
from control_plane.link.identities import Identities
from control_plane.link.key_spending import KeySpending
from control_plane.link.loads import HeardLoads
from control_plane.link.registry import Registry
from control_plane.link.telling import HeldStates
from control_plane.reconcile.doors import Doors
from control_plane.reconcile.loop import ReconcileLoop
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.questions import FleetQuestions
from control_plane.reconcile.sight import Sight
from control_plane.recovery.run import Recovery
from control_plane.store.engine import open_database
from control_plane.store.leadership import take_leadership
from scheduler import explain, solve, survival, whatif
from skerry.client.async_operator import AsyncOperatorClient
from skerry.client.context import Context
from skerry.fleet.access import EVERY_PROJECT, Grant
from skerry.fleet.access import Role as AccessRole
from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.told import DeploymentLoad, LoadReport
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import ObservedReplica, PeerVerdict, PeerView
from skerry.fleet.pool import CapacityClass, PlaneIdentity, PoolShape, PoolTerms
from skerry.fleet.service_token import BOOTSTRAP_TOKEN, SECRET_BYTES, token_text
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import SERVER_OPTIONS, ErrorInterceptor
from skerry.wire.scaling import loads_to_proto
from tests.builders import GIB, a_replica, a_report
from tests.empty_store import make_empty_store

HOST = "127.0.0.1"
CLOCK = SystemClock()
IDS = SystemIds(CLOCK)
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="SKIPPED LOUDLY: no chromium on this machine; on Debian: apt-get install chromium",
)

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(
    not AXE.exists(), reason="SKIPPED LOUDLY: no axe-core; `make lint` fetches it with npm"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a plane of the world is and what it has."""

    cloud: str
    region: str
    zones: tuple[str, ...]
    kind: str
    nodes: int
    per_node: int
    price: float
    held: CapacityClass = CapacityClass.ON_DEMAND


PLANES = {
    "aws-use1": Where(
        cloud="aws", region="us-east-1", zones=("us",), kind="h100-80gb", nodes=4, per_node=8,
        price=3.9, held=CapacityClass.RESERVED,
    ),
    "aws-euw1": Where(
        cloud="aws", region="eu-west-1", zones=("eu",), kind="h100-80gb", nodes=2, per_node=8,
        price=4.4,
    ),
    "gcp-euw4": Where(
        cloud="gcp", region="europe-west4", zones=("eu",), kind="a100-80gb", nodes=3, per_node=8,
        price=1.6, held=CapacityClass.SPOT,
    ),
    "onprem-fra": Where(
        cloud="onprem", region="fra", zones=("eu", "de"), kind="l40s-48gb", nodes=6, per_node=4,
        price=0.6, held=CapacityClass.RESERVED,
    ),
}  # fmt: skip


def loads_of(replicas: Sequence[ObservedReplica]) -> HeardLoads:
    """Return what a plane that runs these replicas tells of their answers, the same each time."""
    answers = RecentAnswers(
        seconds=300.0,
        judged=400.0,
        good=394.0,
        first_tokens=(0.0, 20.0, 90.0, 210.0, 60.0, 14.0, 6.0, 0.0, 0.0, 0.0, 0.0),
        intervals=(*(0.0,) * 3, 900.0, 4_100.0, 2_700.0, 300.0, 40.0, 6.0, *(0.0,) * 8),
    )
    names = sorted({one.deployment for one in replicas})
    loads = tuple(DeploymentLoad(deployment=name, answers=answers) for name in names)
    return HeardLoads(loads_to_proto(LoadReport(loads=loads)), CLOCK.monotonic())


class _SolverHere:
    """The solver without a process of its own."""

    async def solve(self, problem: Any) -> Any:
        """Return the plan."""
        return solve.solve(problem)

    async def ask(self, name: str, *arguments: Any) -> Any:
        """Return the answer to a question."""
        answers: dict[str, Callable[..., Any]] = {
            "solve": solve.solve,
            "explain": explain.explain,
            "what_if": whatif.what_if,
            "survive": survival.survive,
        }
        return answers[name](*arguments)


class World:
    """A control plane's inside with planes that obey, and the dashboard before it."""

    def __init__(
        self, folder: Path, policy: ReconcilePolicy, planes: Mapping[str, Where] = PLANES
    ) -> None:
        """Make an empty store and lead it."""
        self.planes = planes
        self.database = open_database(make_empty_store(folder / "skerry.db"))
        with self.database.write() as session:
            self.epoch = take_leadership(session, "control-plane", CLOCK.now())
        self.registry = Registry(CLOCK, lambda: None)
        self.sight = Sight(self.database, self.registry, CLOCK, policy, decode_desired)
        self.solver = _SolverHere()
        doors = Doors(
            encode=encode_desired,
            push=self._push,
            judged=self.registry.judged,
            solver=self.solver,
            loads=self.registry,
            targets=self.registry.told_targets,
        )
        self.loop = ReconcileLoop(self.database, self.sight, doors, CLOCK, epoch=self.epoch)
        self.alive = set(planes)
        self.pushed: dict[str, tuple[Version, DesiredState]] = {}
        self.running: dict[str, tuple[ObservedReplica, ...]] = {}
        self.tokens: dict[str, str] = {}
        self.token_file = folder / "operator.token"
        self.token_file.write_text(token_text(BOOTSTRAP_TOKEN, IDS.token(SECRET_BYTES)))
        self.token_file.chmod(0o600)
        self.address = f"{HOST}:{free_port(HOST)}"
        self.url = ""
        self.server: grpc.aio.Server | None = None
        self.service = OperatorService(
            database=self.database,
            clock=CLOCK,
            reconciler=self.loop,
            live=self.registry,
            questions=FleetQuestions(self.sight, lambda: self.loop.decided, self.solver, CLOCK),
        )

    def _push(self, plane: str, version: Version, payload: bytes) -> None:
        self.pushed[plane] = (version, decode_desired(payload, version))

    def obey(self) -> None:
        """Let every living plane run its targets, READY at once, and report."""
        for plane in sorted(self.alive):
            version, state = self.pushed.get(plane, (Version(epoch=0, generation=0), None))
            if state is not None:
                self.running[plane] = tuple(
                    a_replica(e.deployment, e.pool, name=f"{e.deployment}-{plane}-{n}")
                    for a in state.assignments
                    for e in a.envelopes
                    for n in range(e.target)
                )
            peers = tuple(
                PeerView(plane=peer, verdict=_SEEN[peer in self.alive])
                for peer in (*self.planes,)[:WITNESSES_MAX]
                if peer != plane
            )
            report = a_report(
                plane,
                held=version,
                replicas=self.running.get(plane, ()),
                peers=peers,
                identity=_identity(plane, self.planes[plane]),
                pools=(_shape(self.planes[plane]),),
                told_at_seconds=CLOCK.monotonic(),
            )
            if self.registry.view(plane).connected:
                self.registry.hear(plane)
                self.registry.observe(report)
            else:
                self.registry.open(report, "agent", 3.0, stream_number=0)
            self.registry.take_loads(plane, loads_of(self.running.get(plane, ())))

    async def turns(self, count: int) -> None:
        """Let planes obey and the loop turn."""
        for _ in range(count):
            self.obey()
            await self.loop.turn()

    def silence(self, plane: str) -> None:
        """End a plane's stream; its peers see nothing there."""
        self.alive.discard(plane)
        outbox = self.registry._planes[plane].outbox
        assert outbox is not None
        self.registry.close(plane, outbox)

    def client(self, token: str = "") -> AsyncOperatorClient:
        """Return a client of the API; of the first admin unless another token is told."""
        context = Context(endpoints=(self.address,), token=token or self.token_file.read_text())
        return AsyncOperatorClient(context, IDS, "user:test")

    async def serve(self) -> None:
        """Serve the operator API."""
        access = OperatorAccessSettings(required=True, bootstrap_token_file=self.token_file)
        sources = Sources(database=self.database, clock=CLOCK, epoch=lambda: self.epoch)
        self.authenticator = Authenticator(access, sources)
        writing, views = Writing(self.loop, CLOCK), self.service.views
        works = Works(
            database=self.database,
            writing=writing,
            views=self.service.views,
            live=self.registry,
            mover=self.loop,
            watcher=self.loop,
            clock=CLOCK,
        )
        held = HeldStates(self.loop.wake, CLOCK)
        services = Services(
            operator=self.service,
            catalogue=CatalogueService(database=self.database, writing=writing),
            operations=OperationsService(works),
            recovery=RecoveryService(Recovery(self.database, held, CLOCK), writing),
            access=AccessService(self.database, writing, self.authenticator.shelf.expire, views),
            keys=KeyService(self.database, writing, KeySpending(), CLOCK, views),
            joining=JoiningService(self.database, writing, Identities(self.loop.wake), None),
            projects=ProjectService(self.database, writing, views),
        )
        doors = (ErrorInterceptor(), AccessDoor(self.authenticator))
        self.server = grpc.aio.server(interceptors=doors, options=SERVER_OPTIONS)
        add_operator_services(self.server, services, Standing(Role.LEADING))
        self.server.add_insecure_port(self.address)
        await self.server.start()

    async def serve_dashboard(self) -> web.AppRunner:
        """Serve the dashboard and return what stops it."""
        port = free_port(HOST)
        place = Place(operator_address=self.address, project="default", port=port)
        site = Site(place, self.authenticator, CLOCK, IDS)
        self.url = f"http://{HOST}:{port}"
        return await serve_http(site.application(), f"{HOST}:{port}")

    async def price(self) -> None:
        """Let planes report, and say what their accelerators cost."""
        await self.turns(1)
        async with self.client() as client:
            for name, site in self.planes.items():
                terms = PoolTerms(capacity_class=site.held, price_per_accelerator_hour=site.price)
                await client.set_pool_terms(f"{name}--{_POOL}", terms)
            for role in (AccessRole.VIEWER, AccessRole.OPERATOR, AccessRole.ADMIN):
                grant = Grant(role=role, projects=(EVERY_PROJECT,))
                made = await client.create_service_token(role.value, grant)
                self.tokens[role.value] = made.text


_POOL = "main"
WITNESSES_MAX = 5
_SEEN = {True: PeerVerdict.SERVING, False: PeerVerdict.UNREACHABLE}


def _identity(plane: str, site: Where) -> PlaneIdentity:
    return PlaneIdentity(
        name=plane, cloud=site.cloud, region=site.region, residency_zones=site.zones
    )


def _shape(site: Where) -> PoolShape:
    return PoolShape(
        name=_POOL,
        accelerator=site.kind,
        accelerator_memory_bytes=80 * GIB,
        nodes=site.nodes,
        accelerators_per_node=site.per_node,
        host_memory_bytes=1_024 * GIB,
    )


@contextlib.asynccontextmanager
async def a_world(
    folder: Path, policy: ReconcilePolicy | None = None, planes: Mapping[str, Where] = PLANES
) -> AsyncIterator[World]:
    """Yield a priced fleet without deployments, and its dashboard; nothing is left at the end."""
    world = World(folder, policy or ReconcilePolicy(), planes)
    await world.serve()
    runner = await world.serve_dashboard()
    try:
        await world.price()
        yield world
    finally:
        await runner.cleanup()
        assert world.server is not None
        await world.server.stop(0)
        world.database.close()


@contextlib.asynccontextmanager
async def turning(world: World, seconds: float = 0.3) -> AsyncIterator[None]:
    """Let planes obey and the loop turn all the while."""

    async def go_on() -> None:
        while True:
            await world.turns(1)
            await CLOCK.sleep(seconds)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(go_on())
        try:
            yield
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def a_browser() -> AsyncIterator[Any]:
    """Yield a headless Chromium."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


async def sign_in(world: World, page: Any, role: str = "admin") -> None:
    """Sign in as somebody with that role."""
    await page.goto(f"{world.url}/login")
    await page.get_by_label("Token").fill(world.tokens[role])
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Fleet").wait_for()
