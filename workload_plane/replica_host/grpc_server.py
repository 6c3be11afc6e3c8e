"""The host's gRPC server: openengine.v1, grpc.health.v1 and reflection on one port.

Where the engine serves `trtllm.TrtllmService`, that is on it too, and openengine.v1's Control.
"""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from skerry.api.openengine.v1 import openengine_pb2, openengine_pb2_grpc
from skerry.plumbing.errors import Conflict
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import SERVER_OPTIONS, ErrorInterceptor
from workload_plane.replica_host.control_service import ControlService
from workload_plane.replica_host.engine_client import EngineAsked, EngineClient
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.inference_service import InferenceService
from workload_plane.replica_host.openengine_client import MESSAGE_BYTES_MAX, OpenEngineClient
from workload_plane.replica_host.pass_through import PassThrough
from workload_plane.replica_host.trtllm_client import TrtllmClient
from workload_plane.replica_host.trtllm_messages import SERVICE as TRTLLM_SERVICE
from workload_plane.replica_host.trtllm_pass_through import AbsentInference, TrtllmPassThrough

# One gateway is one connection, or a few: all its streams come by it.
_STREAMS_MAX = 1_024
_OF_MESSAGES = ("grpc.max_receive_message_length", "grpc.max_send_message_length")
_SERVICES = tuple(
    service.full_name for service in openengine_pb2.DESCRIPTOR.services_by_name.values()
)
_CONTROL = openengine_pb2.DESCRIPTOR.services_by_name["Control"].full_name


def services_of(engine: EngineAsked) -> tuple[str, ...]:
    """Return the full names of the services that requests may be sent to."""
    return (_CONTROL, TRTLLM_SERVICE) if isinstance(engine, TrtllmClient) else _SERVICES


class HealthAnnouncer:
    """Keeps grpc.health.v1 in step with the host's health."""

    def __init__(self, services: tuple[str, ...] = _SERVICES) -> None:
        """Announce that none of the services is served yet."""
        self._services = services
        self.servicer = health.aio.HealthServicer()

    async def announce(self, *, serving: bool) -> None:
        """Set the state of the whole server and of each service."""
        status = health_pb2.HealthCheckResponse
        state = status.SERVING if serving else status.NOT_SERVING
        for service in ("", *self._services):
            await self.servicer.set(service, state)


async def start_grpc(
    host: ReplicaHost, ids: IdSource, announcer: HealthAnnouncer
) -> grpc.aio.Server:
    """Listen on the spec's gRPC port; raises Conflict when it is taken."""
    options = [o for o in SERVER_OPTIONS if o[0] != "grpc.max_concurrent_streams"]
    options.append(("grpc.max_concurrent_streams", _STREAMS_MAX))
    engine = host.engine
    if isinstance(engine, OpenEngineClient | TrtllmClient):
        options = [o for o in options if o[0] not in _OF_MESSAGES]
        options += [(name, MESSAGE_BYTES_MAX) for name in _OF_MESSAGES]
    server = grpc.aio.server(options=options, interceptors=(ErrorInterceptor(),))
    if isinstance(engine, OpenEngineClient):
        server.add_generic_rpc_handlers((PassThrough(host, engine, ids),))
    elif isinstance(engine, TrtllmClient):
        server.add_generic_rpc_handlers((TrtllmPassThrough(host, engine, ids),))
        openengine_pb2_grpc.add_InferenceServicer_to_server(AbsentInference(host), server)
        openengine_pb2_grpc.add_ControlServicer_to_server(ControlService(host), server)
    else:
        assert isinstance(engine, EngineClient)
        service = InferenceService(host, engine, ids)
        openengine_pb2_grpc.add_InferenceServicer_to_server(service, server)
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
