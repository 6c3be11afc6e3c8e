"""What both clients of the operator API send over a connection, and which methods it has."""

from typing import Any

from skerry.api.operator.v1.access_pb2_grpc import AccessServiceStub
from skerry.api.operator.v1.catalogue_service_pb2_grpc import CatalogueServiceStub
from skerry.api.operator.v1.joining_pb2_grpc import JoiningServiceStub
from skerry.api.operator.v1.keys_pb2_grpc import KeyServiceStub
from skerry.api.operator.v1.operations_service_pb2_grpc import OperationsServiceStub
from skerry.api.operator.v1.operator_service_pb2_grpc import OperatorServiceStub
from skerry.api.operator.v1.recovery_pb2_grpc import RecoveryServiceStub
from skerry.client.context import Context
from skerry.client.credentials import check_private, read_token

# Generated code declares no types.
_SERVICES: tuple[Any, ...] = (
    OperatorServiceStub,
    CatalogueServiceStub,
    OperationsServiceStub,
    RecoveryServiceStub,
    AccessServiceStub,
    KeyServiceStub,
    JoiningServiceStub,
)

Metadata = tuple[tuple[str, str | bytes], ...]


class Methods:
    """The methods of the API's services over one channel; the services share no name."""

    def __init__(self, channel: Any) -> None:
        """Speak through this channel, a blocking or an asyncio one."""
        self._services = tuple(service(channel) for service in _SERVICES)

    def __getitem__(self, name: str) -> Any:
        """Return the method of that name."""
        return next(m for service in self._services if (m := getattr(service, name, None)))


def metadata_of(context: Context, actor: str, reason: str) -> Metadata:
    """Return what every call says of its caller; with a credential, it is that which says who."""
    token = context.token or (read_token(context.token_file) if context.token_file else "")
    if token:
        check_private(context.endpoints)
    named = (("authorization", f"Bearer {token}"),) if token else (("x-skerry-actor", actor),)
    return (*named, ("x-skerry-reason-bin", reason.encode())) if reason else named
