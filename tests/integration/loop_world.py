"""A control plane's inside over a real SQLite store and solver, and planes that do as told."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from control_plane.link.convert import decode_desired, encode_desired
from control_plane.link.registry import Registry
from control_plane.reconcile.doors import Doors, Solver
from control_plane.reconcile.loop import ReconcileLoop
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.sight import Sight
from control_plane.store import deployments, leadership, placements, pools
from control_plane.store.engine import Database, open_database
from control_plane.store.fencing import WriteContext
from control_plane.store.rollouts import list_rollouts
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.solve import solve
from skerry.fleet.deployment import FailureDomain, PlacementPolicy, Spread
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import ObservedReplica, PeerVerdict, PeerView
from skerry.fleet.pool import PoolShape, PoolTerms
from skerry.fleet.rollout import Stage
from tests.builders import a_deployment, a_replica, a_report
from tests.empty_store import make_empty_store
from tests.fakes.clock import FakeClock

PLANES = ("aws", "fra", "gcp")
AUTOMATIC = ReconcilePolicy()
ADVISORY = ReconcilePolicy(advisory=True)
PRICES = {"aws": 0.4, "fra": 0.1, "gcp": 0.3}


class InThisProcess:
    """The solver without a process of its own, which tests/integration/test_solver_process has."""

    async def solve(self, problem: PlacementProblem) -> PlacementPlan:
        """Return the plan."""
        return solve(problem)


class Fleet:
    """A control plane's inside, and planes that do as they are told, all in one process."""

    def __init__(self, directory: Path, policy: ReconcilePolicy = AUTOMATIC) -> None:
        self.policy = policy
        self.clock = FakeClock()
        self.url = make_empty_store(directory / "skerry.db")
        self.database: Database = open_database(self.url)
        self.pushed: dict[str, tuple[Version, DesiredState]] = {}
        self.running: dict[str, tuple[ObservedReplica, ...]] = {}
        self.sees: dict[str, PeerVerdict] = {}
        self.saw_last: dict[str, tuple[datetime, float]] = {}
        self.alive = set(PLANES)
        self.solver: Solver = InThisProcess()
        self.pools: dict[str, tuple[PoolShape, ...]] = {}  # of planes that report others
        self.features: tuple[str, ...] = ()
        self.start()

    def start(self) -> None:
        """Start a control plane, the first or the next one."""
        with self.database.write() as session:
            self.epoch = leadership.take_leadership(session, "cp", self.clock.now())
        self.registry = Registry(self.clock, lambda: None)
        self.sight = Sight(self.database, self.registry, self.clock, self.policy, decode_desired)
        doors = Doors(
            encode=encode_desired,
            push=self.push,
            judged=self.registry.judged,
            solver=self.solver,
            loads=self.registry,
            targets=self.registry.told_targets,
        )
        self.loop = ReconcileLoop(self.database, self.sight, doors, self.clock, epoch=self.epoch)

    def push(self, plane: str, version: Version, payload: bytes) -> None:
        """Take what would go over the link, if the plane lives."""
        if plane in self.alive:
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
            views = tuple(self.view_of(p) for p in PLANES if p != plane)
            report = a_report(
                plane, held=version, replicas=self.running.get(plane, ()), peers=views
            )
            report = replace(
                report,
                features=self.features,
                pools=self.pools.get(plane, report.pools),
                told_at_seconds=self.clock.monotonic(),
            )
            view = self.registry.view(plane)
            if view.connected:
                self.registry.hear(plane)
                self.registry.observe(report)
            else:
                self.registry.open(report, "agent", 3.0, stream_number=1)

    def view_of(self, peer: str) -> PeerView:
        """Return what every other plane sees of one; what does not serve did so until it was lost.

        Each looks with a monotonic clock that shows what ours does.
        """
        verdict = self.sees.get(peer, PeerVerdict.SERVING)
        if verdict is PeerVerdict.SERVING:
            self.saw_last.pop(peer, None)
        if verdict in (PeerVerdict.SERVING, PeerVerdict.UNKNOWN):
            return PeerView(plane=peer, verdict=verdict)
        at, at_seconds = self.saw_last.setdefault(peer, (self.clock.now(), self.clock.monotonic()))
        return PeerView(
            plane=peer, verdict=verdict, served_until=at, served_until_seconds=at_seconds
        )

    async def turns(self, count: int) -> None:
        """Let a second pass, planes obey, and the loop turn, `count` times."""
        for _ in range(count):
            self.clock.advance(1.0)
            self.obey()
            await self.loop.turn()
            if await self.is_first():  # the others follow it in the same second
                self.obey()
                await self.loop.turn()

    async def is_first(self) -> bool:
        """Say whether some deployment's first replica was just told to start."""
        rollouts = await self.database.run_read(list_rollouts)
        return any(one.stage is Stage.FIRST and one.plane for one in rollouts)

    async def apply_demo(self) -> None:
        """Price the pools and apply `demo`: four replicas over three planes."""
        await self.price()
        write = self.write()
        spread = Spread(domain=FailureDomain.PLANE, domains_min=3)
        demo = a_deployment(replicas=4, policy=PlacementPolicy(spread=spread))
        await self.database.run(deployments.apply_deployment, write, demo, "", "")

    async def price(self, prices: Mapping[str, float] = PRICES) -> None:
        """Let planes report, and price their pools."""
        await self.turns(1)
        for plane, price in prices.items():
            terms = PoolTerms(price_per_accelerator_hour=price)
            await self.database.run(pools.set_terms, self.write(), f"{plane}--cpu", terms, "", "")

    async def placed_on(self) -> dict[str, dict[str, int]]:
        """Replicas placed per deployment and pool."""
        found: dict[str, dict[str, int]] = {}
        for placed in await self.database.run_read(placements.list_placements):
            if placed.count:
                found.setdefault(placed.deployment, {})[placed.pool] = placed.count
        return found

    async def by_deployment(self) -> dict[str, int]:
        """Replicas placed per deployment."""
        return {name: sum(held.values()) for name, held in (await self.placed_on()).items()}

    async def counts(self) -> dict[str, int]:
        """Replicas placed per plane."""
        placed = await self.database.run_read(placements.list_placements)
        return {p.pool.removesuffix("--cpu"): p.count for p in placed if p.count}

    def lose(self, plane: str) -> None:
        """Kill a plane: its stream ends, its peers see nothing there."""
        self.alive.remove(plane)
        outbox = self.registry._planes[plane].outbox
        assert outbox is not None
        self.registry.close(plane, outbox)
        self.running.pop(plane, None)
        self.sees[plane] = PeerVerdict.UNREACHABLE
        self.saw_last[plane] = (self.clock.now(), self.clock.monotonic())

    def write(self) -> WriteContext:
        """Return an operator's right to write now."""
        return WriteContext(epoch=self.epoch, actor="user:test", now=self.clock.now())
