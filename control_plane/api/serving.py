"""What every gRPC port of the control plane serves beside its own services: health, reflection."""

import grpc
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from control_plane.api.catalogue_service import CatalogueService
from control_plane.api.operator_service import OperatorService
from skerry.api.operator.v1 import (
    catalogue_service_pb2,
    catalogue_service_pb2_grpc,
    operator_service_pb2,
    operator_service_pb2_grpc,
)


async def add_operator_services(
    server: grpc.aio.Server, service: OperatorService, catalogue: CatalogueService
) -> None:
    """Add the operator API, with health and reflection of its services."""
    operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(service, server)
    catalogue_service_pb2_grpc.add_CatalogueServiceServicer_to_server(catalogue, server)
    names = (
        *service_names(operator_service_pb2.DESCRIPTOR),
        *service_names(catalogue_service_pb2.DESCRIPTOR),
    )
    await add_health_and_reflection(server, *names)


def service_names(file: FileDescriptor) -> tuple[str, ...]:
    """Return the full names of the services that a file declares."""
    return tuple(service.full_name for service in file.services_by_name.values())


async def add_health_and_reflection(server: grpc.aio.Server, *services: str) -> None:
    """Say that these services serve, and let callers ask what they are."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for service in services:
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
