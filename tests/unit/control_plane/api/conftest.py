"""The operator API on a real gRPC server on loopback, over an empty SQLite store."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from control_plane.access_settings import OperatorAccessSettings
from control_plane.api.access.authenticator import Authenticator, Sources
from control_plane.api.access.door import AccessDoor
from control_plane.api.access.issuer_keys import IssuerKeys
from control_plane.api.access_service import AccessService
from control_plane.api.catalogue_service import CatalogueService
from control_plane.api.health import Role, Standing
from control_plane.api.joining_service import JoinDoor, JoiningService
from control_plane.api.key_service import KeyService
from control_plane.api.operations_service import OperationsService, Works
from control_plane.api.operator_service import OperatorService
from control_plane.api.project_service import ProjectService
from control_plane.api.recovery_service import RecoveryService
from control_plane.api.serving import Services, add_operator_services
from control_plane.api.writing import Writing
from control_plane.link.identities import Identities
from control_plane.link.key_spending import KeySpending
from control_plane.link.telling import HeldStates
from control_plane.reconcile.decision import decision_of
from control_plane.reconcile.memory import Fingerprint
from control_plane.reconcile.questions import check_changes, check_deployment
from control_plane.reconcile.relocation import MoveProposal, Relocation
from control_plane.reconcile.snapshot import Seen
from control_plane.recovery.run import Recovery
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.moves import put_moved
from control_plane.store.planes import record_report, set_condition
from control_plane.store.plans import Proposal
from control_plane.store.requests import Asked
from control_plane.store.schema import upgrade
from scheduler.explain import explain
from scheduler.plan import PlacementPlan
from scheduler.solve import solve
from scheduler.survival import survive
from scheduler.whatif import Change, what_if
from skerry.api.operator.v1.catalogue_service_pb2_grpc import CatalogueServiceStub
from skerry.api.operator.v1.operations_service_pb2_grpc import OperationsServiceStub
from skerry.api.operator.v1.operator_service_pb2_grpc import OperatorServiceStub
from skerry.fleet.answers import RecentAnswers
from skerry.fleet.autoscaling.told import LoadReport, ToldDecision
from skerry.fleet.deployment import Deployment, FailureDomain, PlacementPolicy, Tolerate
from skerry.fleet.generation import Version
from skerry.fleet.observation import Observation, PlaneCondition, PlaneState
from skerry.fleet.placement import Placement
from skerry.plumbing.certificates import Subject, create_authority, issue
from skerry.plumbing.errors import FieldViolation, Infeasible
from skerry.plumbing.rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, ErrorInterceptor
from tests.builders import a_plane_view, a_report, a_snapshot
from tests.fakes.clock import START, FakeClock
from tests.unit.scheduler.fleets import a_deployment as wanted_deployment
from tests.unit.scheduler.fleets import a_pool, a_problem, a_shape, runs, some_terms, wanting


@dataclass(frozen=True)
class _Link:
    nack: str = ""


@dataclass
class _Live:
    reports: dict[str, Observation] = field(default_factory=dict)
    nacks: dict[str, str] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    counted: dict[str, LoadReport] = field(default_factory=dict)
    own: dict[str, tuple[ToldDecision, ...]] = field(default_factory=dict)
    served: dict[tuple[str, str], tuple[RecentAnswers, float]] = field(default_factory=dict)

    def observations(self) -> Mapping[str, Observation]:
        return self.reports

    def conditions(self) -> Mapping[str, PlaneCondition]:
        return {}

    def pushed(self, plane: str) -> Version | None:
        return self.versions.get(plane)

    def loads(self) -> Mapping[str, LoadReport]:
        return self.counted

    def deciding(self, deployment: str) -> tuple[str, ...]:
        return tuple(self.own)

    def decided(self, deployment: str, plane: str, most: int) -> tuple[ToldDecision, ...]:
        return self.own.get(plane, ())[:most]

    def answers(self, deployment: str, plane: str) -> tuple[RecentAnswers, float] | None:
        return self.served.get((deployment, plane))

    def view(self, plane: str) -> _Link:
        return _Link(nack=self.nacks.get(plane, ""))


@dataclass(frozen=True)
class _Change:
    plan: PlacementPlan
    before: tuple[Placement, ...] = ()
    solve_seconds: float = 0.25


@dataclass
class _Reconciler:
    """Puts one replica of what is asked on one pool, and remembers what it was asked and told."""

    epoch: int = 0
    asked: list[Deployment | None] = field(default_factory=list)
    woken: list[bool] = field(default_factory=list)
    seen: Seen | None = None
    held_back: tuple[str, ...] = ()
    database: Database | None = None
    moves: list[Relocation] = field(default_factory=list)

    def wake(self) -> None:
        self.woken.append(True)

    async def plan(self, deployment: Deployment | None) -> _Change:
        self.asked.append(deployment)
        name = deployment.name if deployment else "demo"
        placement = Placement(deployment=name, pool="onprem-fra--cpu", count=1, reason="only one")
        plan = PlacementPlan(
            placements=(placement,),
            envelopes=(),
            unplaced=(),
            rejections=(),
            levels=(),
            cost_per_hour=0.5,
            solver="exact",
            optimal=True,
        )
        before = Placement(deployment="demo", pool="gcp-x--cpu", count=2)
        return _Change(plan=plan, before=(before,))

    async def propose_move(self, move: Relocation) -> MoveProposal:
        """Move what is asked, if the pool is none that takes nothing."""
        if move.to_pool == "full--cpu":
            raise Infeasible("pool full--cpu takes nothing new: cordoned", field="to_pool")
        self.moves.append(move)
        change = await self.plan(None)
        nothing = Fingerprint(deployments=(), pools=(), bars=(), recovering=(), latencies=())
        return MoveProposal(plan=change.plan, before=(), seen=nothing, inputs="inputs")

    async def put_moved(self, write: WriteContext, told: MoveProposal, asked: Asked) -> bool:
        """Put a move in force in the store, as the real loop does."""
        assert self.database is not None
        proposal = Proposal(
            decision=decision_of(told.plan, 0.0), placements=told.plan.placements, summary="moved"
        )
        return await self.database.run(put_moved, write, proposal, told.before, told.inputs, asked)


@dataclass(frozen=True)
class _Answer:
    value: Any
    seconds: float = 0.5


# `first` takes its room from `last`, some of which moves and some of which finds none.
PROBLEM = a_problem(
    (a_pool("fra", a_shape(per_node=4)), a_pool("aws", a_shape(per_node=2), some_terms(2.0))),
    (
        wanting(
            3,
            wanted_deployment(
                "first",
                policy=PlacementPolicy(
                    priority=0,
                    clouds=("cloud-fra",),
                    tolerate=Tolerate(domain=FailureDomain.PLANE, keep=0.5),
                ),
            ),
        ),
        wanting(4, wanted_deployment("last", policy=PlacementPolicy(priority=3))),
    ),
    current=(runs(4, "last", "fra--cpu"),),
)


@dataclass
class _Questions:
    """Answers about PROBLEM, whatever the store holds, and remembers what it was asked."""

    asked: list[Any] = field(default_factory=list)

    async def explain(self, deployment: str, pool: str | None) -> Any:
        self.asked.append((deployment, pool))
        check_deployment(PROBLEM, deployment, "name")
        return _Answer(explain(PROBLEM, solve(PROBLEM), deployment, pool))

    async def what_if(self, changes: tuple[Change, ...]) -> Any:
        self.asked.append(changes)
        check_changes(PROBLEM, changes)
        return _Answer(what_if(PROBLEM, changes))

    async def survive(self, domains: Sequence[FailureDomain]) -> Any:
        self.asked.append(domains)
        return _Answer(survive(PROBLEM, solve(PROBLEM), domains))


@dataclass
class Operator:
    """A client of the API, and the parts behind it."""

    stub: Any
    catalogue: Any
    operations: Any
    channel: grpc.aio.Channel
    address: str
    database: Database
    reconciler: _Reconciler
    live: _Live
    clock: FakeClock
    refusals: list[FieldViolation]
    questions: _Questions

    def see(self, **states: PlaneState) -> None:
        """Have reconciliation see what planes report, connected or as told by their names."""
        views, conditions = [], {}
        for plane, observation in self.live.reports.items():
            state = states.get(plane.replace("-", "_"), PlaneState.CONNECTED)
            conditions[plane] = PlaneCondition(state=state, since=START)
            views.append(a_plane_view(plane, state=state, report=observation.report))
        snapshot = replace(a_snapshot(*views), now=self.clock.now())
        self.reconciler.seen = Seen(snapshot=snapshot, conditions=conditions)

    def write(self) -> WriteContext:
        """Return the right to write that the control plane has now."""
        return WriteContext(epoch=self.reconciler.epoch, actor="control-plane:test", now=START)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty store; copying it is ten times faster than migrating."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
async def operator(tmp_path: Path, empty_store: Path) -> AsyncIterator[Operator]:
    async with running_operator(tmp_path, empty_store) as running:
        yield running


@contextlib.asynccontextmanager
async def running_operator(
    folder: Path,
    empty_store: Path,
    access: OperatorAccessSettings | None = None,
    issuer: IssuerKeys | None = None,
) -> AsyncIterator[Operator]:
    """The API of a control plane that leads, behind its first door; open unless told otherwise."""
    url = f"sqlite:///{folder / 'skerry.db'}"
    shutil.copyfile(empty_store, folder / "skerry.db")
    database = open_database(url)
    reconciler, live, clock = _Reconciler(), _Live(), FakeClock()
    questions = _Questions()
    reconciler.epoch = await database.run(take_leadership, "cp-1", START)
    refusals: list[FieldViolation] = []
    service = OperatorService(
        database=database,
        clock=clock,
        reconciler=reconciler,
        live=live,
        questions=questions,
        check_engine=lambda deployment: tuple(refusals),
    )
    reconciler.database = database
    reconciler.seen = Seen(snapshot=a_snapshot(), conditions={})
    sources = Sources(database=database, clock=clock, epoch=lambda: reconciler.epoch)
    authenticator = Authenticator(access or OperatorAccessSettings(), sources, issuer)
    doors = (ErrorInterceptor(), AccessDoor(authenticator))
    server = grpc.aio.server(interceptors=doors, options=SERVER_OPTIONS)
    services = _services_beside(service, live, reconciler, authenticator, clock, folder)
    add_operator_services(server, services, Standing(Role.LEADING))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub: Any = OperatorServiceStub(channel)
        catalogue_stub: Any = CatalogueServiceStub(channel)
        operations_stub: Any = OperationsServiceStub(channel)
        yield Operator(
            stub=stub,
            catalogue=catalogue_stub,
            operations=operations_stub,
            channel=channel,
            address=address,
            database=database,
            reconciler=reconciler,
            live=live,
            clock=clock,
            refusals=refusals,
            questions=questions,
        )
    await server.stop(0)
    database.close()


def _services_beside(
    service: OperatorService,
    live: _Live,
    reconciler: _Reconciler,
    authenticator: Authenticator,
    clock: FakeClock,
    folder: Path,
) -> Services:
    database = reconciler.database
    assert database is not None
    writing = Writing(reconciler, clock)
    works = Works(
        database=database,
        writing=writing,
        views=service.views,
        live=live,
        mover=reconciler,
        watcher=reconciler,
        clock=clock,
    )
    held = HeldStates(reconciler.wake, clock)
    create_authority(folder / "authority", "test", START)
    party = Subject(name="cp", dns_names=("localhost",))
    tls = issue(folder / "authority", folder / "tls", party, START)
    door = JoinDoor(address="127.0.0.1:7443", tls=tls)
    return Services(
        operator=service,
        catalogue=CatalogueService(database=database, writing=writing),
        operations=OperationsService(works),
        recovery=RecoveryService(Recovery(database, held, clock), writing),
        access=AccessService(database, writing, authenticator.shelf.expire, service.views),
        keys=KeyService(database, writing, KeySpending(), clock, service.views),
        joining=JoiningService(database, writing, Identities(reconciler.wake), door),
        projects=ProjectService(database, writing, service.views),
    )


@pytest.fixture
async def fleet(operator: Operator) -> Operator:
    """The API over a fleet of two connected planes with one `cpu` pool each."""
    for plane in ("gcp-x", "onprem-fra"):
        report = a_report(plane)
        condition = PlaneCondition(state=PlaneState.CONNECTED, since=START, reason="stream up")
        await operator.database.run(record_report, operator.write(), report)
        await operator.database.run(set_condition, operator.write(), plane, condition, None)
        operator.live.reports[plane] = Observation(report=report, received_at=START)
    operator.see()
    return operator
