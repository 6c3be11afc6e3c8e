"""The relay's process: `python -m workload_plane.relay.main --settings FILE`.

Composition root: HTTP for OpenAI's streams, health and metrics, gRPC for Generate, both on loopback
behind the gateway. It needs relay.json and the gateway: no agent, no control plane.
"""

import argparse
import asyncio
import functools
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
import uvloop

from skerry.api.openengine.v1 import openengine_pb2_grpc
from skerry.plumbing import logs, metrics
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import InvalidInput, SkerryError
from skerry.plumbing.guard import beat, begin_guard
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import check_port_free
from skerry.plumbing.rpc import SERVER_OPTIONS
from skerry.plumbing.tasks import run_until_stopped, stop_on_signals
from skerry.wire.continuation.openai_request import PATHS
from workload_plane.gateway.wire import HEALTH_PATH
from workload_plane.relay import instruments
from workload_plane.relay.grpc_relay import RelayInference
from workload_plane.relay.http_client import ClientPool
from workload_plane.relay.http_relay import HttpExchange, Relaying
from workload_plane.relay.http_server import Request, ServerConnection
from workload_plane.relay.known import KnownDeployments
from workload_plane.relay.memory import HeldBytes
from workload_plane.relay_settings import RelaySettings
from workload_plane.replicas.records import LOOPBACK
from workload_plane.settings import PlaneSettings, read_settings

_log = logs.get_logger(__name__)

# Streams under way when it is told to stop; they break off at its end, and a client that knows
# several gateways goes on with another.
STOP_SECONDS_MAX = 10.0
# Thousands of clients may come at the same moment.
_BACKLOG = 4096
EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
# The gateway's own connections are not counted against the host's: a message may be a long prompt.
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; return 0, 1 when a port is taken, 2 for bad settings."""
    parser = argparse.ArgumentParser(prog="skerry-relay", description="streams that go on")
    parser.add_argument("--settings", type=Path, required=True, help="the plane's settings.json")
    options = parser.parse_args(argv)
    logs.configure()
    try:
        settings = read_settings(options.settings)
        if settings.relay is None:
            raise InvalidInput(f"{options.settings} has no section `relay`: its ports are there")
    except SkerryError as error:
        print(f"skerry-relay: {error}", file=sys.stderr)
        return EXIT_USAGE
    guard = begin_guard("skerry-relay")
    try:
        with (
            logs.bind(plane=settings.plane),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(serve(settings, settings.relay, SystemClock(), guard))
    except (SkerryError, OSError) as error:
        print(f"skerry-relay: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


async def serve(settings: PlaneSettings, relay: RelaySettings, clock: Clock, guard: int) -> None:
    """Relay until SIGTERM or SIGINT, and tell the guard; raises Conflict when a port is taken."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    for port in (relay.http_port, relay.grpc_port):
        check_port_free(LOOPBACK, port)
    relaying = Relaying(
        pool=ClientPool(LOOPBACK, relay.inner_port, clock),
        known=KnownDeployments(settings.relay_path, clock),
        held=HeldBytes(relay.held_bytes_max),
        clock=clock,
        ids=SystemIds(clock),
        plane=settings.plane,
    )
    instruments.HELD.set_function(lambda: relaying.held.held)
    inner = grpc.aio.insecure_channel(f"{LOOPBACK}:{relay.inner_port}", options=_CHANNEL_OPTIONS)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    openengine_pb2_grpc.add_InferenceServicer_to_server(RelayInference(relaying, inner), server)
    server.add_insecure_port(f"{LOOPBACK}:{relay.grpc_port}")
    front = HttpFront(relaying)
    try:
        await server.start()
        await front.open(relay.http_port)
        _log.info("relay.started", http=relay.http_port, grpc=relay.grpc_port)
        gc.collect()
        gc.freeze()  # what was imported stays: collections need not look at it
        await run_until_stopped(relaying.known.follow(), front.run(), beat(guard, clock), stop=stop)
    finally:
        os.close(guard)  # what ends may take its time
        await asyncio.gather(front.close(), server.stop(STOP_SECONDS_MAX))
        await inner.close()
        relaying.pool.close()


class HttpFront:
    """The relay's HTTP port, and one task for each stream."""

    def __init__(self, relaying: Relaying) -> None:
        """Listen to nothing yet."""
        self._relaying = relaying
        self._connections: set[ServerConnection] = set()
        self._streams: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, port: int) -> None:
        """Listen."""
        factory = functools.partial(ServerConnection, self._handle, self._connections)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(factory, LOOPBACK, port, backlog=_BACKLOG)

    async def run(self) -> None:
        """Serve for ever."""
        assert self._server is not None
        await self._server.serve_forever()

    async def close(self) -> None:
        """Take nothing new, let what is under way end for a while, break off the rest."""
        if self._server is not None:
            self._server.close()
        if self._streams:
            await asyncio.wait(tuple(self._streams), timeout=STOP_SECONDS_MAX)
        for connection in tuple(self._connections):
            connection.abort()

    def _handle(self, client: ServerConnection, request: Request) -> None:
        path = request.path
        if request.method == b"POST" and path in PATHS:
            # Not a TaskGroup's: a stream that fails ends no other one.
            task = asyncio.get_running_loop().create_task(self._relay(client, request))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
            client.on_gone = functools.partial(_cancel, task)
        elif path == HEALTH_PATH:
            client.respond(200, b'{"status":"ok"}')
        elif path == "/metrics":
            client.respond(200, metrics.render(), metrics.CONTENT_TYPE)
        else:
            client.respond(404, json.dumps({"error": {"message": f"no {path} here"}}).encode())

    async def _relay(self, client: ServerConnection, request: Request) -> None:
        try:
            await HttpExchange(self._relaying, client, request).run()
        except Exception:
            _log.exception("stream.failed")
            client.abort()


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


if __name__ == "__main__":
    raise SystemExit(main())
