"""The link's client: one outbound stream to one control plane at a time, for ever.

The agent runs `LinkClient.run` beside its other loops. Whatever happens here, what runs goes on:
a lost link costs nothing but news.
"""

import asyncio

import grpc

from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import secure_channel
from workload_plane.link.connection import Connection, LinkSettings, PlaneSide
from workload_plane.link.session import SessionState, reconnect_delay

_log = logs.get_logger(__name__)


class LinkClient:
    """Keeps the plane linked to one of its control planes."""

    def __init__(
        self,
        settings: LinkSettings,
        side: PlaneSide,
        changed: asyncio.Event,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        """Remember all; `changed` is set by the agent whenever its report may have changed."""
        self._settings = settings
        self._side = side
        self._changed = changed
        self._clock = clock
        self._ids = ids
        self._connection: Connection | None = None
        self.last_error = ""

    @property
    def state(self) -> SessionState:
        """Return how far the present connection has come."""
        return self._connection.state if self._connection else SessionState.IDLE

    @property
    def control_plane(self) -> str:
        """Return the name of the control plane that welcomed us, empty when none does now."""
        return self._connection.control_plane if self._connection else ""

    async def run(self) -> None:
        """Connect to the control planes in turn and reconnect for ever; returns never."""
        addresses = self._settings.control_planes
        if not addresses:
            await asyncio.Event().wait()  # a plane without a control plane serves what it holds
        attempt = turn = 0
        while True:
            if await self._connect(addresses[turn % len(addresses)]):
                attempt = 0
            else:
                turn += 1
            delay = reconnect_delay(attempt, self._ids.random(), self._side.planes)
            await self._clock.sleep(delay)
            attempt += 1

    async def _connect(self, address: str) -> bool:
        """Hold one connection until it is lost; return whether it ever got a Welcome."""
        connection: Connection | None = None
        try:
            tls, server_name = self._settings.tls, self._settings.server_name
            async with secure_channel(address, tls, server_name=server_name) as channel:
                stream = plane_service_pb2_grpc.PlaneLinkServiceStub(channel).Connect()
                connection = Connection(
                    stream, self._settings, self._side, self._changed, self._clock
                )
                self._connection = connection
                await connection.hold()
        except (SkerryError, grpc.RpcError, OSError) as error:
            self._lost(address, connection, str(error))
        except Exception as error:
            # Nothing that a control plane does or is may end the agent.
            _log.exception("link.broken", control_plane=address)
            self.last_error = repr(error)
        finally:
            self._connection = None
        return connection is not None and connection.was_welcomed

    def _lost(self, address: str, connection: Connection | None, error: str) -> None:
        # One line for a connection that was up, and one for each new reason not to get one: an
        # absent control plane must not fill the disk.
        if (connection is not None and connection.was_welcomed) or error != self.last_error:
            _log.warning("link.lost", control_plane=address, error=error)
        self.last_error = error
