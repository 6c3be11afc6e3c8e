"""The host's gRPC server: openengine.v1, grpc.health.v1 and reflection on one port."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from skerry.api.openengine.v1 import openengine_pb2, openengine_pb2_grpc
from skerry.plumbing.errors import Conflict
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import SERVER_OPTIONS, ErrorInterceptor
from workload_plane.replica_host.control_service import ControlService
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.inference_service import InferenceService

# One gateway is one connection, or a few: all its streams come by it.
_STREAMS_MAX = 1_024
_SERVICES = tuple(
    service.full_name for service in openengine_pb2.DESCRIPTOR.services_by_name.values()
)


class HealthAnnouncer:
    """Keeps grpc.health.v1 in step with the host's health."""

    def __init__(self) -> None:
        """Announce that nothing is served yet."""
        self.servicer = health.aio.HealthServicer()

    async def announce(self, *, serving: bool) -> None:
        """Set the state of the whole server and of each service."""
        status = health_pb2.HealthCheckResponse
        state = status.SERVING if serving else status.NOT_SERVING
        for service in ("", *_SERVICES):
            await self.servicer.set(service, state)


async def start_grpc(
    host: ReplicaHost, ids: IdSource, announcer: HealthAnnouncer
) -> grpc.aio.Server:
    """Listen on the spec's gRPC port; raises Conflict when it is taken."""
    options = [o for o in SERVER_OPTIONS if o[0] != "grpc.max_concurrent_streams"]
    options.append(("grpc.max_concurrent_streams", _STREAMS_MAX))
    server = grpc.aio.server(options=options, interceptors=(ErrorInterceptor(),))
    openengine_pb2_grpc.add_InferenceServicer_to_server(InferenceService(host, ids), server)
    openengine_pb2_grpc.add_ControlServicer_to_server(ControlService(host), server)
    health_pb2_grpc.add_HealthServicer_to_server(announcer.servicer, server)
    names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    address = f"{host.spec.host}:{host.spec.grpc_port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        raise Conflict(f"gRPC cannot listen on {address}; the port is taken") from None
    await announcer.announce(serving=False)
    await server.start()
    return server
