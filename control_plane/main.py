"""The control plane's composition root: builds everything, decides nothing.

`python -m control_plane.main --settings FILE`; `skerry up` starts it that way.
"""

import argparse
import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import grpc

from control_plane.api.catalogue_service import CatalogueService
from control_plane.api.health import Role, Standing, follow_leadership, why_not_ready
from control_plane.api.http_gateway import HttpGateway
from control_plane.api.operations_service import OperationsService, Works
from control_plane.api.operator_service import OperatorService
from control_plane.api.serving import (
    add_health_and_reflection,
    add_operator_services,
    operator_services,
    service_names,
)
from control_plane.api.writing import Writing
from control_plane.http import http_application, may_serve_operators, serve_http
from control_plane.link.convert import decode_desired, encode_desired
from control_plane.link.registry import Registry
from control_plane.link.service import PlaneLink
from control_plane.reconcile.loop import Doors, ReconcileLoop
from control_plane.reconcile.questions import FleetQuestions
from control_plane.reconcile.sight import Sight
from control_plane.settings import ControlPlaneSettings, load_settings, policy_of
from control_plane.store import leadership, schema
from control_plane.store.engine import Database, open_database
from control_plane.upkeep import LeaseFlush, StartFlush, Upkeep
from scheduler.process import ProcessLimits, SolverProcess
from skerry.api.plane.v1 import plane_service_pb2, plane_service_pb2_grpc
from skerry.fleet.deployment import Deployment
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import Conflict, FieldViolation, SkerryError, StaleGeneration
from skerry.plumbing.rpc import (
    SERVER_OPTIONS,
    ErrorInterceptor,
    TlsFiles,
    insecure_channel,
    server_credentials,
)
from skerry.plumbing.tasks import run_until_stopped, stop_on_signals
from workload_plane.engines.catalogue import refusals as engine_refusals

_log = logs.get_logger(__name__)

STOP_GRACE_SECONDS = 1.0  # open calls; planes reconnect by themselves
# A large fleet takes seconds to place, and what-if places it twice; nobody's failover waits for it.
QUESTION_SECONDS_MAX = 45.0


async def run(settings: ControlPlaneSettings) -> None:
    """Run one control plane until SIGTERM or until another leader takes over."""
    clock = SystemClock()
    stop = asyncio.Event()
    stop_on_signals(stop)
    await asyncio.to_thread(schema.upgrade, settings.database_url)
    database = open_database(settings.database_url)
    epoch = await database.run(leadership.take_leadership, settings.name, clock.now())
    _log.info("leadership.taken", epoch=epoch, name=settings.name)
    # Operators' questions have a process of their own, started by the first: a failover does not
    # wait for them.
    solver = SolverProcess()
    asked = SolverProcess(ProcessLimits(seconds_max=QUESTION_SECONDS_MAX))
    sight, loop, registry = _build_loop(settings, database, clock, epoch, solver)
    service = OperatorService(
        database=database,
        clock=clock,
        reconciler=loop,
        live=registry,
        questions=FleetQuestions(sight, lambda: loop.decided, asked, clock),
        check_engine=_engine_faults,
    )
    writing = Writing(loop, clock)
    catalogue = CatalogueService(database=database, writing=writing)
    works = Works(
        database=database,
        writing=writing,
        views=service.views,
        mover=loop,
        watcher=loop,
        clock=clock,
    )
    standing = Standing(Role.LEADING)
    operator_server = await _serve_operator(
        service, catalogue, OperationsService(works), standing, settings
    )
    link = PlaneLink(registry, policy_of(settings), clock, name=settings.name, epoch=epoch)
    link_server = await _serve_link(link, standing, settings)
    application = http_application(
        lambda: why_not_ready(standing.role, loop.has_decided), _http_gateway(settings)
    )
    http = await serve_http(application, settings.http_address)
    # What is imported and built by now stays. A full collection that walks it too held up the loop
    # for up to 185 ms while a million accelerators were planned; without it 36 ms were the worst.
    gc.collect()
    gc.freeze()
    try:
        upkeep = Upkeep(
            database=database, clock=clock, epoch=epoch, changes_kept=settings.changes_kept
        )
        leases = LeaseFlush(database=database, clock=clock, epoch=epoch, reports=registry)
        starts = StartFlush(database=database, clock=clock, epoch=epoch, reports=registry)
        leads = follow_leadership(standing, database, epoch, clock)
        await run_until_stopped(
            loop.run(),
            upkeep.run(),
            leases.run(),
            starts.run(),
            service.views.keep_fresh(),
            leads,
            stop=stop,
        )
    finally:
        standing.become(Role.STOPPING)  # told first, while the ports still answer
        await operator_server.stop(STOP_GRACE_SECONDS)
        await link_server.stop(STOP_GRACE_SECONDS)
        await http.cleanup()
        await solver.close()
        await asked.close()
        database.close()


def _engine_faults(deployment: Deployment) -> tuple[FieldViolation, ...]:
    """Say what the deployment's engine would refuse, before any plane is asked to start it."""
    return tuple(
        FieldViolation(path=refusal.path, message=refusal.message)
        for refusal in engine_refusals(deployment.revision.engine)
    )


def _build_loop(
    settings: ControlPlaneSettings,
    database: Database,
    clock: Clock,
    epoch: int,
    solver: SolverProcess,
) -> tuple[Sight, ReconcileLoop, Registry]:
    """Tie loop and registry: each wakes or reads the other."""
    wake = _Wake()
    registry = Registry(clock, wake)
    sight = Sight(database, registry, clock, policy_of(settings), decode_desired)
    doors = Doors(encode=encode_desired, push=registry.push, judged=registry.judged, solver=solver)
    loop = ReconcileLoop(database, sight, doors, clock, epoch=epoch)
    wake.target = loop
    return sight, loop, registry


class _Wake:
    """Breaks the circle: the registry exists before the loop that it wakes."""

    def __init__(self) -> None:
        self.target: ReconcileLoop | None = None

    def __call__(self) -> None:
        if self.target is not None:
            self.target.wake()


async def _serve_operator(
    service: OperatorService,
    catalogue: CatalogueService,
    operations: OperationsService,
    standing: Standing,
    settings: ControlPlaneSettings,
) -> grpc.aio.Server:
    """Start the operator port: plaintext, and settings.py saw to it that it is on loopback."""
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=SERVER_OPTIONS)
    add_operator_services(server, service, catalogue, operations, standing)
    _bind(server.add_insecure_port, settings.operator_address)
    await server.start()
    return server


def _http_gateway(settings: ControlPlaneSettings) -> HttpGateway | None:
    """Return the operator API for the HTTP port: none when that is open to more than loopback."""
    if not may_serve_operators(settings.http_address):
        return None
    return HttpGateway(insecure_channel(settings.operator_address), operator_services())


async def _serve_link(
    link: PlaneLink, standing: Standing, settings: ControlPlaneSettings
) -> grpc.aio.Server:
    """Start the link port, mTLS only."""
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=SERVER_OPTIONS)
    plane_service_pb2_grpc.add_PlaneLinkServiceServicer_to_server(link, server)
    add_health_and_reflection(server, standing, *service_names(plane_service_pb2.DESCRIPTOR))
    tls = TlsFiles(ca=settings.tls.ca, cert=settings.tls.certificate, key=settings.tls.key)
    credentials = server_credentials(tls)
    _bind(lambda address: server.add_secure_port(address, credentials), settings.link_address)
    await server.start()
    return server


def _bind(add_port: Callable[[str], int], address: str) -> None:
    try:
        add_port(address)
    except RuntimeError as error:
        raise Conflict(
            f"cannot listen on {address}: the port is taken; stop what holds it or choose another"
        ) from error


def main() -> int:
    """Read the settings, run, and end with 1 and one line when that cannot be."""
    parser = argparse.ArgumentParser(prog="control_plane.main", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True)
    arguments = parser.parse_args()
    logs.configure()
    try:
        asyncio.run(run(load_settings(arguments.settings)))
    except SkerryError as error:
        _log.error("control-plane.stopped", error=str(error))
        return 1
    except ExceptionGroup as group:
        deposed, rest = group.split(StaleGeneration)
        if deposed is None or rest is not None:
            raise
        _log.error("control-plane.deposed", error=str(deposed.exceptions[0]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
