"""The operator port's second door: read-only while what planes hold is still taken in."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from control_plane.leading.door import is_read, refusing
from control_plane.recovery.run import READ_ONLY
from skerry.plumbing.errors import Infeasible

# A restored backup may have tokens, keys, invites and planes in it that were revoked since: those
# cannot wait.
WRITES = (
    *("/ApproveRecovery", "/RevokeServiceToken", "/RevokeApiKey"),
    *("/DeletePlaneInvite", "/RevokePlane"),
)

_Handler: TypeAlias = Any  # grpc's stubs have it generic, the library has not


class RecoveryDoor(grpc.aio.ServerInterceptor):
    """Lets reads in, what ends the recovery, and what takes rights away.

    Inherits because grpc.aio takes nothing else.
    """

    def __init__(self, is_under_way: Callable[[], bool]) -> None:
        """Ask at every call whether a recovery is under way."""
        self._is_under_way = is_under_way

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the method's handler, or one that refuses; an unknown method stays so."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        passes = is_read(method) or method.endswith(WRITES)
        if handler is None or passes or not self._is_under_way():
            return handler
        return refusing(handler, lambda: Infeasible(READ_ONLY))
