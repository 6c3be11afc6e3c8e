"""What both clients of the operator API send over a connection, and which methods it has."""

from typing import Any

import grpc
import grpc.aio

from skerry.api.operator.v1.access_pb2_grpc import AccessServiceStub
from skerry.api.operator.v1.catalogue_service_pb2_grpc import CatalogueServiceStub
from skerry.api.operator.v1.joining_pb2_grpc import JoiningServiceStub
from skerry.api.operator.v1.keys_pb2_grpc import KeyServiceStub
from skerry.api.operator.v1.operations_service_pb2_grpc import OperationsServiceStub
from skerry.api.operator.v1.operator_service_pb2_grpc import OperatorServiceStub
from skerry.api.operator.v1.projects_pb2_grpc import ProjectServiceStub
from skerry.api.operator.v1.recovery_pb2_grpc import RecoveryServiceStub
from skerry.client.context import Context
from skerry.client.credentials import check_private, read_token
from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.rpc import CHANNEL_OPTIONS, insecure_channel, trusting_credentials

# Generated code declares no types.
_SERVICES: tuple[Any, ...] = (
    OperatorServiceStub,
    CatalogueServiceStub,
    OperationsServiceStub,
    RecoveryServiceStub,
    AccessServiceStub,
    KeyServiceStub,
    JoiningServiceStub,
    ProjectServiceStub,
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
    if token and context.ca_file is None:
        check_private(context.endpoints)
    named = (("authorization", f"Bearer {token}"),) if token else (("x-skerry-actor", actor),)
    return (*named, ("x-skerry-reason-bin", reason.encode())) if reason else named


def asyncio_channels(context: Context) -> list[grpc.aio.Channel]:
    """Return a channel to each endpoint, for a running loop; by TLS where the context says so."""
    if context.ca_file is None:
        return [insecure_channel(endpoint) for endpoint in context.endpoints]
    trust, options = _trust(context), _options(context)
    return [grpc.aio.secure_channel(one, trust, options=options) for one in context.endpoints]


def blocking_channels(context: Context) -> list[grpc.Channel]:
    """Return a channel to each endpoint; by TLS where the context says so."""
    options = _options(context)
    if context.ca_file is None:
        return [grpc.insecure_channel(one, options=options) for one in context.endpoints]
    trust = _trust(context)
    return [grpc.secure_channel(one, trust, options=options) for one in context.endpoints]


def _options(context: Context) -> list[tuple[str, int | str]]:
    name = context.server_name
    return [*CHANNEL_OPTIONS, *([("grpc.ssl_target_name_override", name)] if name else [])]


def _trust(context: Context) -> grpc.ChannelCredentials:
    assert context.ca_file is not None, "asked only where there is one"
    try:
        return trusting_credentials(context.ca_file)
    except OSError as error:
        raise InvalidInput(
            f"the authority {context.ca_file} cannot be read: {error.strerror}; caFile or"
            " SKERRY_CA_FILE must name the PEM file of who signed the control plane's certificate"
        ) from None
