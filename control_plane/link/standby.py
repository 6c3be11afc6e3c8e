"""The link port of a standby: planes are told who leads, and go there."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.plumbing.errors import NotLeading


class StandbyLink(plane_service_pb2_grpc.PlaneLinkServiceServicer):
    """Refuses every plane with the leader's address, as the generated base class wants it."""

    def __init__(self, refusal: Callable[[], NotLeading]) -> None:
        """Refuse with what `refusal` returns at that moment."""
        self._refusal = refusal

    async def Connect(
        self, request_iterator: AsyncIterator[messages.ConnectRequest], context: Any
    ) -> None:
        """Say who leads; NotLeading."""
        raise self._refusal()
