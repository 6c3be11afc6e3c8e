"""The control plane's composition root: builds everything, decides nothing.

`python -m control_plane.main --settings FILE`; `skerry up` starts it that way.
"""

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web

from control_plane import cycles
from control_plane.access_settings import OidcSettings
from control_plane.api.access.authenticator import Authenticator, Sources
from control_plane.api.access.door import AccessDoor
from control_plane.api.access.issuer_keys import IssuerKeys, fetcher
from control_plane.api.access_service import AccessService
from control_plane.api.catalogue_service import CatalogueService
from control_plane.api.health import Role, Standing, follow_leadership, why_not_ready
from control_plane.api.http_gateway import HttpGateway
from control_plane.api.joining_service import JoinDoor, JoiningService
from control_plane.api.key_service import KeyService
from control_plane.api.operations_service import OperationsService, Works
from control_plane.api.operator_service import OperatorService
from control_plane.api.project_service import ProjectService
from control_plane.api.recovery_service import RecoveryService
from control_plane.api.serving import (
    Services,
    add_health_and_reflection,
    add_operator_services,
    operator_services,
    service_names,
)
from control_plane.api.writing import Writing
from control_plane.dashboard.serving import serve_dashboard
from control_plane.evidence import EvidenceFlush
from control_plane.http import http_application, may_serve_operators, serve_http
from control_plane.leading.candidacy import Candidacy, Candidate
from control_plane.leading.door import LeaderDoor
from control_plane.leading.fleet_size import count_known_planes
from control_plane.leading.keeper import Keeper
from control_plane.leading.outage import DatabaseSight
from control_plane.leading.sole import is_sole, sole_control_plane
from control_plane.leading.tenure import Tenure
from control_plane.leading.term import Term
from control_plane.link.convert import decode_desired, encode_desired
from control_plane.link.enrolment import Enrolment, EnrolmentParts, Issuer
from control_plane.link.join_port import serve_join_port
from control_plane.link.registry import Registry
from control_plane.link.service import PlaneLink
from control_plane.link.standby import StandbyLink
from control_plane.operator_port import OperatorPort, bind
from control_plane.reconcile.doors import Doors
from control_plane.reconcile.loop import ReconcileLoop
from control_plane.reconcile.questions import FleetQuestions
from control_plane.reconcile.sight import Sight
from control_plane.recovery.door import RecoveryDoor
from control_plane.recovery.run import Recovery
from control_plane.settings import ControlPlaneSettings, load_settings, policy_of
from control_plane.store import schema
from control_plane.store.engine import Database, open_database, parse_url
from control_plane.store.joining import list_plane_identities
from control_plane.store.leadership import Addresses
from control_plane.store.reads import StoreReads
from control_plane.upkeep import LeaseFlush, StartFlush, Upkeep
from scheduler.process import ProcessLimits, SolverProcess
from skerry.api.plane.v1 import enrolment_pb2_grpc, plane_service_pb2, plane_service_pb2_grpc
from skerry.fleet.deployment import Deployment
from skerry.fleet.generation import Version
from skerry.fleet.party_uris import Naming
from skerry.plumbing import logs, tracing
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import (
    FieldViolation,
    SkerryError,
    StaleGeneration,
    Unavailable,
)
from skerry.plumbing.host_metrics import show_host
from skerry.plumbing.rpc import (
    LINK_SERVER_OPTIONS,
    SERVER_OPTIONS,
    ErrorInterceptor,
    TlsFiles,
    insecure_channel,
    server_credentials,
)
from skerry.plumbing.sealing import keyring_of
from skerry.plumbing.software import software_version
from skerry.plumbing.tasks import run_until_stopped, sleep_unless_stopped, stop_on_signals
from workload_plane.engines.catalogue import refusals as engine_refusals

_log = logs.get_logger(__name__)

STOP_GRACE_SECONDS = 1.0  # open calls; planes reconnect by themselves
# A large fleet takes seconds to place, and what-if places it twice; nobody's failover waits for it.
QUESTION_SECONDS_MAX = 45.0
# Between looks for a PostgreSQL that does not answer yet.
DATABASE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Works:
    """What one run of a control plane is made of."""

    settings: ControlPlaneSettings
    clock: Clock
    database: Database
    terms: Database  # the same one, through a thread of its own: renewals wait for no decision
    tenure: Tenure
    outage: DatabaseSight
    standing: Standing
    candidacy: Candidacy
    loop: ReconcileLoop
    registry: Registry
    recovery: Recovery
    sight: Sight
    reads: StoreReads
    solvers: tuple[SolverProcess, SolverProcess]
    issuer: IssuerKeys | None
    authenticator: Authenticator


class End(Enum):
    """How a run ended."""

    STOPPED = "stopped"
    AGAIN = "again"  # it no longer leads, and stands by in a new run
    DEPOSED = "deposed"  # from an SQLite file, where nobody stands by


async def run(settings: ControlPlaneSettings, *, is_first: bool = True) -> End:
    """Run one control plane: stand by, lead once that is to be had, until SIGTERM.

    Return how that ended.
    """
    clock = SystemClock()
    stop = asyncio.Event()
    stop_on_signals(stop)
    with sole_control_plane(settings.database_url):
        if is_first:
            await _upgrade_schema(settings, clock, stop)
        if stop.is_set():
            return End.STOPPED
        works = _build(settings, clock)
        show_host(clock, _database_directory(settings.database_url), settings.tls.certificate)
        try:
            return await _serve(works, stop)
        finally:
            for solver in works.solvers:
                await solver.close()
            works.terms.close()
            works.database.close()


def _database_directory(database_url: str) -> Path | None:
    """Return where the database's file is; None for a database that is another process's."""
    file = parse_url(database_url).database
    return Path(file).parent if file and is_sole(database_url) else None


async def _upgrade_schema(
    settings: ControlPlaneSettings, clock: Clock, stop: asyncio.Event
) -> None:
    """Bring the schema up to date; a database that several share may come up after us."""
    while not stop.is_set():
        try:
            await asyncio.to_thread(schema.upgrade, settings.database_url)
        except Unavailable as error:
            if is_sole(settings.database_url):
                raise
            _log.warning("database.awaited", error=str(error))
            await sleep_unless_stopped(DATABASE_SECONDS, clock, stop)
        else:
            return


async def _serve(works: _Works, stop: asyncio.Event) -> End:
    """Open the ports and run until the end, which callers hear of before the ports close."""
    ports = _Ports(works)
    is_deposed = False
    try:
        if is_sole(works.settings.database_url):
            await _begin(works, await works.candidacy.take())
        await ports.open()
        # What is imported and built by now stays. A full collection that walks it too held up the
        # loop for up to 185 ms while a million accelerators were planned; without it 36 ms were
        # the worst.
        cycles.keep()
        await run_until_stopped(
            _stand_by_and_lead(works, ports),
            works.candidacy.tell(),
            ports.service.views.keep_fresh(),
            cycles.look_for_ever(works.clock),
            *(() if works.issuer is None else (works.issuer.keep_fresh(),)),
            stop=stop,
        )
    except ExceptionGroup as group:
        deposed, rest = group.split(StaleGeneration)
        if deposed is None or rest is not None:
            raise
        _log.error("control-plane.deposed", error=str(_first(deposed)))
        is_deposed = True
    finally:
        # Told first, while the ports still answer.
        works.standing.become(Role.STANDING_BY if is_deposed else Role.STOPPING)
        works.loop.lead(0)
        if works.tenure.term is not None and not is_deposed:
            await _keeper(works).give_up()
        await ports.close()
    if not is_deposed:
        return End.STOPPED
    # With SQLite there is nobody to stand by for; who ended its own epoch goes on in the next.
    stands_by = not is_sole(works.settings.database_url) or works.recovery.has_ended_epoch
    return End.AGAIN if stands_by else End.DEPOSED


async def _stand_by_and_lead(works: _Works, ports: "_Ports") -> None:
    """Wait for leadership, then lead until it is lost, which raises StaleGeneration."""
    if works.tenure.term is None:
        term = await works.candidacy.until_acquired()
        await ports.open_link(await _begin(works, term))
    database, clock, epoch = works.database, works.clock, works.tenure.epoch
    reports, kept = works.registry, works.settings.changes_kept
    upkeep = Upkeep(database=database, clock=clock, epoch=epoch, changes_kept=kept)
    leases = LeaseFlush(database=database, clock=clock, epoch=epoch, reports=reports)
    starts = StartFlush(database=database, clock=clock, epoch=epoch, reports=reports)
    evidence = EvidenceFlush(database=database, clock=clock, epoch=epoch, registry=works.registry)
    decides = (works.loop.run(), ports.watch_links())
    writes = (upkeep.run(), leases.run(), starts.run(), evidence.run())
    async with asyncio.TaskGroup() as group:
        for work in (*_kept(works), *decides, *writes):
            group.create_task(work)


async def _begin(works: _Works, term: Term) -> int:
    """Take up the term and return its epoch."""
    works.tenure.term = term
    # Before anybody is let in, or told anything: who was revoked stays out under a new leader, too.
    works.registry.identities.load(await works.terms.run_read(list_plane_identities))
    works.loop.lead(term.epoch)
    works.registry.begin(await count_known_planes(works.terms))
    works.standing.become(Role.LEADING)
    return term.epoch


def _keeper(works: _Works) -> Keeper:
    return Keeper(
        database=works.terms,
        tenure=works.tenure,
        outage=works.outage,
        clock=works.clock,
        name=works.settings.name,
    )


def _kept(works: _Works) -> tuple[Coroutine[Any, Any, None], ...]:
    """Return what notices that leadership is lost."""
    if is_sole(works.settings.database_url):
        epoch = works.tenure.epoch
        return (follow_leadership(works.standing, works.terms, epoch, works.clock),)
    keeper = _keeper(works)
    return (keeper.renew(), keeper.watch())


def _engine_faults(deployment: Deployment) -> tuple[FieldViolation, ...]:
    """Say what the deployment's engine would refuse, before any plane is asked to start it."""
    return tuple(
        FieldViolation(path=refusal.path, message=refusal.message)
        for refusal in engine_refusals(deployment.revision.engine)
    )


def _build(settings: ControlPlaneSettings, clock: Clock) -> _Works:
    """Build what does not depend on whether we lead."""
    database, terms = open_database(settings.database_url), open_database(settings.database_url)
    tenure = Tenure(clock, settings.name)
    # Operators' questions have a process of their own, started by the first: a failover does not
    # wait for them.
    solver = SolverProcess()
    asked = SolverProcess(ProcessLimits(seconds_max=QUESTION_SECONDS_MAX))
    known, reads = (tenure, DatabaseSight()), StoreReads(database, clock)
    sight, loop, registry, recovery = _build_loop(settings, reads, clock, known, solver)
    candidate = Candidate(
        name=settings.name,
        addresses=Addresses(
            operator=settings.operator_address,
            link=settings.link_address,
            http=settings.http_address,
        ),
        software=software_version(),
    )
    access = settings.operator_access
    issuer = _issuer_keys(access.oidc, clock)
    sources = Sources(database=database, clock=clock, epoch=lambda: loop.epoch)
    return _Works(
        settings=settings,
        clock=clock,
        database=database,
        terms=terms,
        tenure=tenure,
        outage=known[1],
        standing=Standing(Role.STANDING_BY),
        candidacy=Candidacy(database=terms, candidate=candidate, tenure=tenure, clock=clock),
        loop=loop,
        registry=registry,
        recovery=recovery,
        sight=sight,
        reads=reads,
        solvers=(solver, asked),
        issuer=issuer,
        authenticator=Authenticator(access, sources, issuer),
    )


def _issuer_keys(oidc: OidcSettings | None, clock: Clock) -> IssuerKeys | None:
    return None if oidc is None else IssuerKeys(fetcher(oidc), oidc.algorithms, clock)


def _build_loop(
    settings: ControlPlaneSettings,
    reads: StoreReads,
    clock: Clock,
    known: tuple[Tenure, DatabaseSight],
    solver: SolverProcess,
) -> tuple[Sight, ReconcileLoop, Registry, Recovery]:
    """Tie loop and registry: each wakes or reads the other."""
    tenure, outages = known
    database, wake = reads.database, _Wake()
    registry = Registry(clock, wake)

    def push(plane: str, version: Version, payload: bytes) -> None:
        # The store refuses a deposed leader by itself; what is pushed must not rest on that.
        if not tenure.is_acting:
            raise StaleGeneration("leadership is not renewed at present: nothing is pushed")
        registry.push(plane, version, payload)

    sight = Sight(database, registry, clock, policy_of(settings), decode_desired, outages=outages)
    sight.share(reads)
    recovery = Recovery(database, registry.held, clock)
    doors = Doors(
        encode=encode_desired,
        push=push,
        judged=registry.judged,
        solver=solver,
        recovery=recovery,
        loads=registry,
        targets=registry.told_targets,
    )
    loop = ReconcileLoop(database, sight, doors, clock, epoch=0)
    wake.target = loop
    return sight, loop, registry, recovery


class _Wake:
    """Breaks the circle: the registry exists before the loop that it wakes."""

    def __init__(self) -> None:
        self.target: ReconcileLoop | None = None

    def __call__(self) -> None:
        if self.target is not None:
            self.target.wake()


class _Ports:
    """The ports of one run, and what answers there."""

    def __init__(self, works: _Works) -> None:
        self._works = works
        self._operator: grpc.aio.Server | None = None
        self._link: grpc.aio.Server | None = None
        self._planes: PlaneLink | None = None
        self._join: grpc.aio.Server | None = None
        self._enrolment = Enrolment(_enrolment_parts(works))
        self._http: web.AppRunner | None = None
        self._dashboard: web.AppRunner | None = None
        self._port = OperatorPort(works.settings)
        sight, loop, asked = works.sight, works.loop, works.solvers[1]
        self.service = OperatorService(
            database=works.database,
            clock=works.clock,
            reconciler=loop,
            live=works.registry,
            questions=FleetQuestions(sight, lambda: loop.decided, asked, works.clock),
            check_engine=_engine_faults,
        )
        self.service.views.share(works.reads)

    async def open(self) -> None:
        """Listen; on the link for planes, or to tell them where the leader is."""
        works = self._works
        await self.service.views.warm()  # before the port: nobody's call waits for it
        self._operator = await self._serve_operator()
        await self.open_link(works.tenure.epoch)
        if (joining := works.settings.joining) is not None:
            tls = _tls_files(works.settings)
            self._join = await serve_join_port(self._enrolment, tls, joining.address)
        application = http_application(
            lambda: why_not_ready(works.standing.role, works.loop.has_decided),
            _http_gateway(works.settings, self._port.bridge_address),
        )
        self._http = await serve_http(application, works.settings.http_address)
        self._dashboard = await serve_dashboard(
            works.settings, self._port.bridge_address, works.authenticator, works.clock
        )

    async def open_link(self, epoch: int) -> None:
        """Serve planes under the epoch, or with 0 name them the leader, from now on."""
        works = self._works
        if self._link is not None:
            await self._link.stop(0)  # a standby's: it holds no plane
        if epoch:
            policy, name = policy_of(works.settings), works.settings.name
            domain = works.settings.trust_domain
            link = PlaneLink(
                works.registry, policy, works.clock, name=name, epoch=epoch, trust_domain=domain
            )
            self._planes = link
            self._link = await _serve_link(link, self._enrolment, works)
        else:
            standby = StandbyLink(works.tenure.refuse_plane)
            self._link = await _serve_link(standby, self._enrolment, works)

    async def watch_links(self) -> None:
        """Judge the silences of linked planes, for ever; once the link is open as the leader's."""
        assert self._planes is not None, "a leader's link is open"
        await self._planes.watch()

    async def close(self) -> None:
        """Close what was opened; calls under way get a moment."""
        async with asyncio.TaskGroup() as group:
            for server in (self._operator, self._link, self._join):
                if server is not None:
                    group.create_task(server.stop(STOP_GRACE_SECONDS))
        for runner in (self._http, self._dashboard):
            if runner is not None:
                await runner.cleanup()
        self._port.close()

    async def _serve_operator(self) -> grpc.aio.Server:
        """Start the operator port."""
        works, service = self._works, self.service
        writing = Writing(works.loop, works.clock)
        operations = OperationsService(
            Works(
                database=works.database,
                writing=writing,
                views=service.views,
                live=works.registry,
                mover=works.loop,
                watcher=works.loop,
                clock=works.clock,
            )
        )
        database, authenticator = works.database, works.authenticator
        services = Services(
            operator=service,
            catalogue=CatalogueService(database=database, writing=writing),
            operations=operations,
            recovery=RecoveryService(works.recovery, writing),
            access=AccessService(database, writing, authenticator.shelf.expire, service.views),
            keys=KeyService(
                database, writing, works.registry.key_spending, works.clock, service.views
            ),
            joining=JoiningService(
                database, writing, works.registry.identities, _join_door(works.settings)
            ),
            projects=ProjectService(database, writing, service.views),
        )
        door = LeaderDoor(lambda: works.loop.epoch > 0, works.tenure.refuse_operator)
        recovering = RecoveryDoor(lambda: works.recovery.is_under_way)
        doors = (ErrorInterceptor(), AccessDoor(authenticator), door, recovering)
        server = grpc.aio.server(interceptors=doors, options=SERVER_OPTIONS)
        add_operator_services(server, services, works.standing)
        self._port.bind(server)
        await server.start()
        return server


def _http_gateway(settings: ControlPlaneSettings, operator: str) -> HttpGateway | None:
    """Return the operator API for the HTTP port: none when that is open to more than loopback."""
    if not may_serve_operators(settings.http_address):
        return None
    return HttpGateway(insecure_channel(operator), operator_services())


def _enrolment_parts(works: _Works) -> EnrolmentParts:
    joining = works.settings.joining
    return EnrolmentParts(
        database=works.database,
        identities=works.registry.identities,
        issuer=None
        if joining is None
        else Issuer(
            authority=joining.authority,
            naming=Naming(
                project=works.settings.project,
                form=joining.certificate_uri,
                trust_domain=works.settings.trust_domain,
            ),
            seconds=joining.certificate_seconds,
            keyring=keyring_of(joining.sealing_keys),
        ),
        clock=works.clock,
        epoch=lambda: works.loop.epoch,
        refusal=works.tenure.refuse_plane,
    )


def _join_door(settings: ControlPlaneSettings) -> JoinDoor | None:
    joining = settings.joining
    if joining is None:
        return None
    address = joining.advertised_address or joining.address
    return JoinDoor(address=address, tls=_tls_files(settings))


def _tls_files(settings: ControlPlaneSettings) -> TlsFiles:
    return TlsFiles(ca=settings.tls.ca, cert=settings.tls.certificate, key=settings.tls.key)


async def _serve_link(
    link: plane_service_pb2_grpc.PlaneLinkServiceServicer, enrolment: Enrolment, works: _Works
) -> grpc.aio.Server:
    """Start the link port, mTLS only."""
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=LINK_SERVER_OPTIONS)
    plane_service_pb2_grpc.add_PlaneLinkServiceServicer_to_server(link, server)
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(enrolment, server)
    names = service_names(plane_service_pb2.DESCRIPTOR)
    add_health_and_reflection(server, works.standing, *names)
    credentials = server_credentials(_tls_files(works.settings))
    link_address = works.settings.link_address
    bind(lambda address: server.add_secure_port(address, credentials), link_address)
    await server.start()
    return server


def _first(group: BaseExceptionGroup[StaleGeneration]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def main() -> int:
    """Read the settings, run, and end with 1 and one line when that cannot be.

    Who no longer leads stands by again: in a new run, to which nothing of the old one's memory
    passes.
    """
    parser = argparse.ArgumentParser(prog="control_plane.main", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True)
    arguments = parser.parse_args()
    logs.configure()
    try:
        settings = load_settings(arguments.settings)
        target = settings.tracing.target() if settings.tracing is not None else None
        tracing.start(target, "skerry-control-plane", control_plane=settings.name)
        logs.bind(control_plane=settings.name)
        end = asyncio.run(run(settings))
        while end is End.AGAIN:
            end = asyncio.run(run(settings, is_first=False))
    except SkerryError as error:
        _log.error("control-plane.stopped", error=str(error))
        return 1
    finally:
        tracing.stop()
    return 0 if end is End.STOPPED else 1


if __name__ == "__main__":
    sys.exit(main())
