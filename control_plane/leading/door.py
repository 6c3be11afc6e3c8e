"""The operator port's door: a standby answers what it can know, and names the leader for the rest.

What stands in the database all control planes share. Writes need the leader, and so does all that
shows what planes report: only the leader hears them; a standby would show a fleet without replicas.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from skerry.plumbing.errors import NotLeading, SkerryError

READ_PREFIXES = ("Get", "List", "Watch")
# Called otherwise, and yet changes nothing and asks no solver: also while a fleet recovers.
VERIFY = "VerifyChanges"
OURS = "/skerry."  # health and reflection answer on every control plane
CATALOGUE = "/skerry.api.operator.v1.CatalogueService/"
# What is read from the database alone; a method that is not told here is the leader's.
STORED_READS = frozenset(
    {
        *("ListChanges", "GetChange", "WatchChanges", "ListControlPlanes"),
        *("ListChangeRecords", VERIFY, "GetResidencyProof"),
        *("ListPools", "GetPool", "ListRevisions", "GetRevision", "ListRollouts", "GetRollout"),
        *("ListServiceTokens", "ListApiKeys", "ListPlaneInvites", "ListPlaneIdentities"),
        *("ListProjects", "GetProject"),
    }
)

_Handler: TypeAlias = Any  # grpc's stubs have it generic, the library has not


class LeaderDoor(grpc.aio.ServerInterceptor):
    """Lets every call in while this control plane leads, else reads of the database only.

    Inherits because grpc.aio takes nothing else.
    """

    def __init__(self, leads: Callable[[], bool], refusal: Callable[[], NotLeading]) -> None:
        """Ask `leads` at every call, and refuse with what `refusal` returns."""
        self._leads = leads
        self._refusal = refusal

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the method's handler, or one that refuses; an unknown method stays so."""
        handler = await continuation(handler_call_details)
        if handler is None or self._leads() or answers_on_standby(handler_call_details.method):
            return handler
        return refusing(handler, self._refusal)


def refusing(handler: _Handler, refusal: Callable[[], SkerryError]) -> _Handler:
    """Return a handler of the same method that refuses every call."""

    async def unary(_: Any, __: Any) -> Any:
        raise refusal()

    async def stream(_: Any, __: Any) -> None:
        raise refusal()

    assert not handler.request_streaming, "no method of the operator API takes a stream"
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            stream, handler.request_deserializer, handler.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(
        unary, handler.request_deserializer, handler.response_serializer
    )


def answers_on_standby(method: str) -> bool:
    """Say whether a standby answers the method, `/package.Service/Method`."""
    name = method.rpartition("/")[2]
    if not method.startswith(OURS) or name in STORED_READS:
        return True
    return method.startswith(CATALOGUE) and is_read(method)


def is_read(method: str) -> bool:
    """Say whether the method, `/package.Service/Method`, changes nothing and asks no solver."""
    name = method.rpartition("/")[2]
    return not method.startswith(OURS) or name.startswith(READ_PREFIXES) or name == VERIFY
