"""The link's client: one outbound stream to one control plane at a time, for ever.

The agent runs `LinkClient.run` beside its other loops. Whatever happens here, what runs goes on:
a lost link costs nothing but news.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import grpc

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import PlaneReport
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, Unavailable
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import TlsFiles, from_rpc_error, secure_channel
from skerry.plumbing.tasks import first_of
from skerry.wire.observations import report_to_proto
from skerry.wire.supply import version_to_proto
from workload_plane.desired_state.accept import Refuse
from workload_plane.link.session import (
    WELCOME_SECONDS_MAX,
    Judgement,
    Pulse,
    SessionEvent,
    SessionState,
    Terms,
    accepts_pushes,
    advance,
    heard,
    heartbeat_sent,
    judge,
    reconnect_delay,
    terms_of,
)

_log = logs.get_logger(__name__)

# Changes come in bursts (ten replicas turn READY); one report tells them all.
REPORT_SECONDS_MIN = 0.2
# A lost or coalesced change costs at most this.
REPORT_SECONDS_MAX = 5.0
ANSWERS_MAX = 8  # pushes are coalesced to the newest, so more answers than these never wait


class PlaneSide(Protocol):
    """What the link asks of the agent."""

    def report(self) -> PlaneReport:
        """Return the plane's report as of now."""
        ...

    async def offer(self, payload: bytes) -> DesiredState | Refuse:
        """Return the state once it is accepted and durable, or why it is refused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Whom to call, as whom: the control planes in turn, our certificate, project and run."""

    control_planes: tuple[str, ...]
    tls: TlsFiles
    project: str
    agent_id: str


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
        self.state = SessionState.IDLE
        self.control_plane = ""
        self.last_error = ""

    async def run(self) -> None:
        """Connect to the control planes in turn and reconnect for ever; returns never."""
        if not self._settings.control_planes:
            await asyncio.Event().wait()  # a plane without a control plane serves what it holds
        attempt = turn = 0
        while True:
            address = self._settings.control_planes[turn % len(self._settings.control_planes)]
            welcomed = await self._connect(address)
            if welcomed:
                attempt = 0
            else:
                turn += 1
            await self._clock.sleep(reconnect_delay(attempt, self._ids.random()))
            attempt += 1

    async def _connect(self, address: str) -> bool:
        """Hold one connection until it is lost; return whether it ever got a Welcome."""
        self.state = advance(self.state, SessionEvent.DIALLED)
        connection: _Connection | None = None
        try:
            async with secure_channel(address, self._settings.tls) as channel:
                stub = plane_service_pb2_grpc.PlaneLinkServiceStub(channel)
                connection = _Connection(self, stub.Connect())
                await connection.hold()
        except (SkerryError, OSError) as error:
            self._lost(address, connection, str(error))
        except* (grpc.RpcError, SkerryError, OSError, ValueError) as group:
            self._lost(address, connection, _first_message(group))
        finally:
            self.state = SessionState.IDLE
            self.control_plane = ""
        return connection is not None and connection.welcomed

    def _lost(self, address: str, connection: "_Connection | None", error: str) -> None:
        # One line for a connection that was up, and one for each new reason not to get one: an
        # absent control plane must not fill the disk.
        if (connection is not None and connection.welcomed) or error != self.last_error:
            _log.warning("link.lost", control_plane=address, error=error)
        self.last_error = error
