"""What every gRPC port of the control plane serves beside its own services: health, reflection."""

from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from control_plane.api.access_service import AccessService
from control_plane.api.catalogue_service import CatalogueService
from control_plane.api.health import HealthService, Standing
from control_plane.api.joining_service import JoiningService
from control_plane.api.key_service import KeyService
from control_plane.api.operations_service import OperationsService
from control_plane.api.operator_service import OperatorService
from control_plane.api.project_service import ProjectService
from control_plane.api.recovery_service import RecoveryService
from skerry.api.operator.v1 import (
    access_pb2,
    access_pb2_grpc,
    catalogue_service_pb2,
    catalogue_service_pb2_grpc,
    joining_pb2,
    joining_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    operations_service_pb2,
    operations_service_pb2_grpc,
    operator_service_pb2,
    operator_service_pb2_grpc,
    projects_pb2,
    projects_pb2_grpc,
    recovery_pb2,
    recovery_pb2_grpc,
)

# What is here is in reflection, in health, and answers as JSON over HTTP.
OPERATOR_FILES: tuple[FileDescriptor, ...] = (
    operator_service_pb2.DESCRIPTOR,
    catalogue_service_pb2.DESCRIPTOR,
    operations_service_pb2.DESCRIPTOR,
    recovery_pb2.DESCRIPTOR,
    access_pb2.DESCRIPTOR,
    keys_pb2.DESCRIPTOR,
    joining_pb2.DESCRIPTOR,
    projects_pb2.DESCRIPTOR,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services of the operator API."""

    operator: OperatorService
    catalogue: CatalogueService
    operations: OperationsService
    recovery: RecoveryService
    access: AccessService
    keys: KeyService
    joining: JoiningService
    projects: ProjectService


def add_operator_services(server: grpc.aio.Server, services: Services, standing: Standing) -> None:
    """Add the operator API, with health and reflection of its services."""
    operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(services.operator, server)
    operations_service_pb2_grpc.add_OperationsServiceServicer_to_server(services.operations, server)
    catalogue_service_pb2_grpc.add_CatalogueServiceServicer_to_server(services.catalogue, server)
    recovery_pb2_grpc.add_RecoveryServiceServicer_to_server(services.recovery, server)
    access_pb2_grpc.add_AccessServiceServicer_to_server(services.access, server)
    keys_pb2_grpc.add_KeyServiceServicer_to_server(services.keys, server)
    joining_pb2_grpc.add_JoiningServiceServicer_to_server(services.joining, server)
    projects_pb2_grpc.add_ProjectServiceServicer_to_server(services.projects, server)
    names = (name for file in OPERATOR_FILES for name in service_names(file))
    add_health_and_reflection(server, standing, *names)


def service_names(file: FileDescriptor) -> tuple[str, ...]:
    """Return the full names of the services that a file declares."""
    return tuple(service.full_name for service in file.services_by_name.values())


def operator_services() -> tuple[ServiceDescriptor, ...]:
    """Return the definitions of the services that make up the operator API."""
    return tuple(service for file in OPERATOR_FILES for service in file.services_by_name.values())


def add_health_and_reflection(server: grpc.aio.Server, standing: Standing, *services: str) -> None:
    """Say that these serve while the control plane leads, and let callers ask what they are."""
    health_pb2_grpc.add_HealthServicer_to_server(HealthService(standing, services), server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection((*services, health_name, reflection.SERVICE_NAME), server)
