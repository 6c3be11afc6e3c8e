"""The link's client: one outbound stream to one control plane at a time, for ever.

The agent runs `LinkClient.run` beside its other loops. Whatever happens here, what runs goes on:
a lost link costs nothing but news.
"""

import asyncio
from collections.abc import Sequence

import grpc

from skerry.api.plane.v1 import plane_service_pb2_grpc
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Exhausted, NotLeading, SkerryError
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import LINK_CHANNEL_OPTIONS, secure_channel
from workload_plane.link.addresses import Addresses
from workload_plane.link.connection import Connection, LinkSettings, Past, PlaneSide
from workload_plane.link.session import (
    SessionState,
    overload_delay,
    reconnect_delay,
    targets_hold,
    told_delay,
)

_log = logs.get_logger(__name__)

# How often one channel is tried again after a control plane had no room; then the next one is.
SENT_AWAY_MAX = 3

# So many control planes in a row that only stand by are called at once. Without a leader for
# longer, as when their database is away, thousands of planes would do nothing but shake hands.
STOOD_BY_MAX = 10


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
        self._channel: grpc.aio.Channel | None = None
        self._addresses = Addresses()
        self._past = Past()
        # Of who was called last: whether it was a standby, and which leader it named.
        self._stands_by, self._leader_named = False, ""
        self.last_error = ""

    @property
    def state(self) -> SessionState:
        """Return how far the present connection has come."""
        return self._connection.state if self._connection else SessionState.IDLE

    @property
    def has_targets(self) -> bool:
        """Say whether the targets that the control plane set are to be followed now."""
        held = self._connection
        return held is not None and targets_hold(held.state, held.targets_current)

    @property
    def control_plane(self) -> str:
        """Return the name of the control plane that welcomed us, empty when none does now."""
        return self._connection.control_plane if self._connection else ""

    @property
    def channel(self) -> grpc.aio.Channel | None:
        """Return the channel to the control plane that welcomed us, None while there is none."""
        return self._channel if self.control_plane else None

    async def run(self) -> None:
        """Connect to the control planes in turn and reconnect for ever; returns never."""
        addresses = self._settings.control_planes
        if not addresses:
            await asyncio.Event().wait()  # a plane without a control plane serves what it holds
        attempt = turn = stood_by = 0
        while True:
            if await self._connect(addresses[turn]):
                attempt = stood_by = 0
            else:
                turn = next_turn(addresses, turn, self._leader_named)
                if self._stands_by and stood_by < STOOD_BY_MAX:
                    attempt = 0  # control planes are there, and one of them will soon lead
                    stood_by += 1
            self._leader_named, self._stands_by = "", False
            # As many as the plane was last told there are, from its disk after an agent's restart.
            delay = reconnect_delay(attempt, self._ids.random(), self._side.planes)
            if self._past.in_vain:
                delay = max(delay, overload_delay(self._past.in_vain, self._ids.random()))
            await self._clock.sleep(delay)
            attempt += 1

    async def _connect(self, address: str) -> bool:
        """Hold one connection until it is lost; return whether it ever got a Welcome."""
        tls, server_name = self._settings.tls, self._settings.server_name
        try:
            target = await self._addresses.target(address)
            async with secure_channel(
                target, tls, server_name=server_name, options=LINK_CHANNEL_OPTIONS
            ) as channel:
                self._channel = channel
                for _ in range(SENT_AWAY_MAX):
                    welcomed, told = await self._open(channel, address)
                    if told is None:
                        return welcomed
                    # The same channel again: another handshake would cost more than the Hello.
                    await self._clock.sleep(told_delay(told, self._ids.random()))
        except OSError as error:  # the certificate's files
            self._lost(address, None, str(error))
        finally:
            self._channel = None
        return False

    async def _open(self, channel: grpc.aio.Channel, address: str) -> tuple[bool, float | None]:
        """Hold one stream until it is lost.

        Return whether it was welcomed, and in how many seconds it was told to come back, if so.
        """
        connection: Connection | None = None
        told: float | None = None
        try:
            stream = plane_service_pb2_grpc.PlaneLinkServiceStub(channel).Connect()
            connection = Connection(
                stream, self._settings, self._side, self._changed, self._clock, self._past
            )
            self._connection = connection
            await connection.hold()
        except Exhausted as error:
            self._lost(address, connection, str(error))
            told = error.retry_after_seconds
        except (SkerryError, grpc.RpcError, OSError) as error:
            self._lost(address, connection, str(error))
            if isinstance(error, NotLeading):
                self._stands_by, self._leader_named = True, error.hints.get("leader", "")
        except Exception as error:
            # Nothing that a control plane does or is may end the agent.
            _log.exception("link.broken", control_plane=address)
            self.last_error = repr(error)
        finally:
            self._connection = None
        if connection is None:
            return False, told
        self._past = Past(
            streams=connection.number,
            epoch=max(self._past.epoch, connection.epoch),
            in_vain=self._past.in_vain + 1 if connection.was_kept_waiting else 0,
        )
        return connection.was_welcomed, told

    def _lost(self, address: str, connection: Connection | None, error: str) -> None:
        # One line for a connection that was up, and one for each new reason not to get one: an
        # absent control plane must not fill the disk.
        if (connection is not None and connection.was_welcomed) or error != self.last_error:
            _log.warning("link.lost", control_plane=address, error=error)
        self.last_error = error


def next_turn(addresses: Sequence[str], turn: int, leader: str) -> int:
    """Return which control plane to call after that one did not welcome us.

    The one that was named as the leader, if it is one of ours, else the next in turn.
    """
    if leader in addresses:
        return addresses.index(leader)
    return (turn + 1) % len(addresses)
