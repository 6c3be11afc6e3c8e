"""The parts of a running picker put together: sockets, what it follows, what it tells."""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from skerry.plumbing import logs, metrics
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Denied, InvalidInput, SkerryError
from skerry.plumbing.files import lock_file, write_atomically
from skerry.plumbing.guard import beat
from skerry.plumbing.ids import IdSource
from skerry.plumbing.ports import check_port_free
from skerry.plumbing.tasks import Backoff, first_of, run_until_stopped, stop_on_signals, supervise
from workload_plane.converge.demand import IDLE_SECONDS_MAX, DeploymentDemand
from workload_plane.gateway.wire import BODY_BYTES_MAX
from workload_plane.picker.accounting import AccessLog
from workload_plane.picker.authz import Authz, Rooms
from workload_plane.picker.demand_file import render_demand
from workload_plane.picker.deployments import Seen
from workload_plane.picker.exposition import Exposition
from workload_plane.picker.health import GatewayHealth
from workload_plane.picker.http_server import Exchange, HttpServer, response
from workload_plane.picker.peer_loads import PeerLoads
from workload_plane.picker.picker import Picker
from workload_plane.picker.plane_file import PlaneFile, PlaneTold
from workload_plane.picker.room import TICK_SECONDS, Room
from workload_plane.picker.room_grpc import build_room_server
from workload_plane.picker.room_http import RoomHttp
from workload_plane.picker.spending import Spending
from workload_plane.picker.wire import (
    SEEN_BYTES_MAX,
    SOCKET_PATH_BYTES_MAX,
    authz_socket,
    log_socket,
    room_grpc_socket,
    room_socket,
)
from workload_plane.replicas.records import LOOPBACK
from workload_plane.settings import PlaneSettings

_log = logs.get_logger(__name__)

EXPIRE_SECONDS = 0.5
# While somebody waits the agent should know at once; without news it is told that there is none.
DEMAND_SECONDS_MIN = 0.1
DEMAND_SECONDS_MAX = 5.0
_RESTART = Backoff(initial_seconds=0.1, max_seconds=5.0)
# Tickets of one run are not those of another: the log of before a restart joins nothing.
_RUNS = 1 << 31
_TICKETS_OF_A_RUN = 1 << 32


class PickerProcess:
    """One run of a plane's picker."""

    def __init__(self, settings: PlaneSettings, clock: Clock, ids: IdSource, guard: int) -> None:
        """Prepare every part; nothing listens yet. `guard` is the descriptor for its beats."""
        self._guard = guard
        self._settings = settings
        self._clock = clock
        self._ids = ids
        first_ticket = int(ids.random() * _RUNS) * _TICKETS_OF_A_RUN + 1
        self.picker = Picker(first_ticket)
        self.room = Room(self.picker, clock)
        self._exposition = Exposition(self.picker, self.room)
        self._file = PlaneFile(settings.picker_path, clock)
        self._spending = Spending(settings.spent_path, self.picker.tokens, clock)
        self._demand_changed = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises OSError or Conflict when it can't listen."""
        stop = asyncio.Event()
        stop_on_signals(stop)
        self._file.look()
        self._take(self._file.current)
        directory = self._settings.picker_dir
        _make_ours(directory)
        with lock_file(directory / "picker.lock"):
            self._spending.restore()  # once the run before has written its last
            async with self._listening(directory), aiohttp.ClientSession() as session:
                _log.info("picker.started", directory=str(directory))
                try:
                    await run_until_stopped(*self._loops(session, stop), stop=stop)
                finally:
                    os.close(self._guard)  # what ends may take its time
                    self._spending.keep()

    def _loops(
        self, session: aiohttp.ClientSession, stop: asyncio.Event
    ) -> list[Coroutine[Any, Any, None]]:
        settings, clock = self._settings, self._clock
        health = GatewayHealth(session, settings.gateway.admin_port, clock)
        loops = {
            "plane-file": lambda: self._file.follow(self._take),
            "health": lambda: health.follow(self._look, lambda: self.room.waiting > 0),
            "expiry": self._expire_forever,
            # Who waits in the room would wait on in one that hangs: Envoy gives up nothing there.
            "guard": lambda: beat(self._guard, clock),
            "room": self._tick_forever,
            "demand": self._tell_demand_forever,
            "spent": self._spending.keep_forever,
        }
        if settings.tls is not None:
            peers = PeerLoads(session, settings.tls, clock)
            loops["peers"] = lambda: peers.follow(
                lambda: self._file.current.peers, self.picker.peer_loads
            )
        return [
            supervise(name, loop, clock, self._ids, stop, _RESTART) for name, loop in loops.items()
        ]

    @contextlib.asynccontextmanager
    async def _listening(self, directory: Path) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        seen = SEEN_BYTES_MAX + 1
        rooms = Rooms(bytes(room_socket(directory)), bytes(room_grpc_socket(directory)))
        authz = HttpServer(
            Authz(self.picker, self._clock, rooms, self._settings.plane, self.room.waiting_for),
            body_bytes_max=seen,
            keep_bytes_max=seen,
        )
        room = HttpServer(RoomHttp(self.room), body_bytes_max=2 * BODY_BYTES_MAX, keep_bytes_max=0)
        servers = [
            await loop.create_unix_server(authz, _free(authz_socket(directory))),
            await loop.create_unix_server(room, _free(room_socket(directory))),
            await loop.create_unix_server(
                lambda: AccessLog(self.picker, self._clock, self.room.wake),
                _free(log_socket(directory)),
            ),
        ]
        about = HttpServer(self._about, body_bytes_max=0, keep_bytes_max=0)
        if port := self._settings.gateway.picker_port:
            try:
                check_port_free(LOOPBACK, port)
                servers.append(await loop.create_server(about, LOOPBACK, port))
            except (SkerryError, OSError) as error:
                # Requests are steered all the same; only nobody can look at it.
                _log.error("metrics.not-served", port=port, error=str(error))
        grpc_room: grpc.aio.Server = build_room_server(self.room)
        grpc_room.add_insecure_port(f"unix:{_free(room_grpc_socket(directory))}")
        await grpc_room.start()
        try:
            yield
        finally:
            for server in servers:
                server.close()
            for http in (authz, room, about):
                http.close()
            await grpc_room.stop(None)

    def _about(self, exchange: Exchange) -> None:
        if exchange.path == b"/metrics":
            body = self._exposition.render(self._clock.monotonic())
            kind = (b"content-type", metrics.CONTENT_TYPE.encode())
            exchange.answer(response(b"200 OK", body, kind))
        elif exchange.path == b"/health":
            exchange.answer(response(b"200 OK"))
        else:
            exchange.answer(response(b"404 Not Found"))

    def _take(self, told: PlaneTold) -> None:
        self.picker.update(told.deployments, self._clock.monotonic())
        self.picker.keys.update(told.key_limits)
        self.picker.tokens.update(told.key_tokens, self._clock.monotonic())
        self.room.tick()

    def _look(self, seen: dict[str, dict[str, Seen]] | None) -> None:
        self.picker.look(seen, self._clock.monotonic())
        self.room.tick()

    async def _expire_forever(self) -> None:
        while True:
            await self._clock.sleep(EXPIRE_SECONDS)
            if self.picker.expire(self._clock.monotonic()):
                self.room.wake()

    async def _tick_forever(self) -> None:
        before: frozenset[str] = frozenset()
        while True:
            await self._clock.sleep(TICK_SECONDS)
            if self.room.waiting:
                self.room.tick()
            # Of each: who waits for a full deployment must not hide who waits for one at zero.
            if (waited_for := self.room.waited_for) != before:
                self._demand_changed.set()
            before = waited_for

    async def _tell_demand_forever(self) -> None:
        while True:
            self._demand_changed.clear()
            data = render_demand(self._demands(self._clock.monotonic()))
            await asyncio.to_thread(write_atomically, self._settings.demand_path, data)
            await self._clock.sleep(DEMAND_SECONDS_MIN)
            await first_of(
                self._clock.sleep(DEMAND_SECONDS_MAX - DEMAND_SECONDS_MIN),
                self._demand_changed.wait(),
            )

    def _demands(self, now: float) -> dict[str, DeploymentDemand]:
        return {
            name: DeploymentDemand(
                waiting=self.room.waiting_for(name), idle_seconds=round(now - one.asked_at, 1)
            )
            for name, one in self.picker.deployments.items()
            if now - one.asked_at < IDLE_SECONDS_MAX or self.room.waiting_for(name)
        }


def _make_ours(directory: Path) -> None:
    """Make the directory of the sockets; Denied where it is somebody else's.

    One below the machine's temporary directory has a name that others can guess and make first.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Denied(
            f"{directory}, where this picker's sockets belong, is not a directory of this user's;"
            " remove it, or give the plane a data_dir whose path is short"
        )
    directory.chmod(0o700)


def _free(path: Path) -> str:
    """Return the path with nothing left there by a run before; we hold the lock."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise InvalidInput(
            f"{path} is longer than the {SOCKET_PATH_BYTES_MAX} bytes of a socket's path; the plane"
            " routes without a picker until TMPDIR or its data_dir is a shorter one"
        )
    path.unlink(missing_ok=True)
    return str(path)
