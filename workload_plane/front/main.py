"""The front's process: `python -m workload_plane.front.main --settings FILE`.

Composition root: openengine.v1, grpc.health.v1 and reflection on the plane's front port. It
needs endpoints.json and nothing else: no agent, no control plane.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from skerry.api.openengine.v1 import openengine_pb2, openengine_pb2_grpc
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ports import check_port_free
from skerry.plumbing.rpc import SERVER_OPTIONS, ErrorInterceptor
from skerry.plumbing.software import software_version
from skerry.plumbing.tasks import run_until_stopped, stop_on_signals
from workload_plane.front.endpoints import Endpoints, EndpointsWatch
from workload_plane.front.fan_out import Channels
from workload_plane.front.services import PlaneControl, PlaneInference
from workload_plane.replicas.records import LOOPBACK
from workload_plane.settings import PlaneSettings, read_settings

_log = logs.get_logger(__name__)

STOP_SECONDS_MAX = 2.0  # its answers take at most as long as one replica's
EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; return 0, 1 when the port is taken, 2 for bad settings."""
    parser = argparse.ArgumentParser(prog="skerry-front", description="openengine.v1 of one plane")
    parser.add_argument("--settings", type=Path, required=True, help="the plane's settings.json")
    options = parser.parse_args(argv)
    logs.configure()
    try:
        settings = read_settings(options.settings)
    except SkerryError as error:
        print(f"skerry-front: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        with logs.bind(plane=settings.plane):
            asyncio.run(serve(settings, SystemClock()))
    except (SkerryError, OSError) as error:
        print(f"skerry-front: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


async def serve(settings: PlaneSettings, clock: Clock) -> None:
    """Serve the plane's front until SIGTERM or SIGINT; raises Conflict when its port is taken."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    address = f"{LOOPBACK}:{settings.front_port}"
    check_port_free(LOOPBACK, settings.front_port)
    watch = EndpointsWatch(settings.endpoints_path, settings.plane, clock)
    channels = Channels()

    async def keep(endpoints: Endpoints) -> None:
        await channels.close_all_but(endpoints.replicas)

    server = build_server(watch, channels)
    server.add_insecure_port(address)  # behind the gateway, on its own host
    await server.start()
    _log.info("front.started", address=address)
    try:
        await run_until_stopped(watch.follow(keep), stop=stop)
    finally:
        await server.stop(STOP_SECONDS_MAX)
        await channels.close()


def build_server(watch: EndpointsWatch, channels: Channels) -> grpc.aio.Server:
    """Return the server with all its services, not started."""
    server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=(ErrorInterceptor(),))
    control = PlaneControl(watch, channels, software_version())
    openengine_pb2_grpc.add_ControlServicer_to_server(control, server)
    openengine_pb2_grpc.add_InferenceServicer_to_server(PlaneInference(watch), server)
    services = [
        service.full_name for service in openengine_pb2.DESCRIPTOR.services_by_name.values()
    ]
    health_service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    reflection.enable_server_reflection(
        [*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name], server
    )
    return server


if __name__ == "__main__":
    raise SystemExit(main())
