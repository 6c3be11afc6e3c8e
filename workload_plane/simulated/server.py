"""The simulated engine as a process: configuration, cold start, port, signals, exit codes.

Called by `__main__`. Exit codes: 0 after SIGTERM, 1 when it cannot serve, 2 for a file that is
missing or bad, and what the faults say.
"""

import argparse
import asyncio
import functools
import gc
import signal
import sys
from pathlib import Path

import uvloop

from skerry.plumbing import tasks
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import InvalidInput, NotFound, SkerryError
from skerry.plumbing.ports import check_port_free
from workload_plane.simulated.config import SimulatedConfig, read_config
from workload_plane.simulated.engine import SimulatedEngine
from workload_plane.simulated.http_connection import Connection

# The replica host has drained before it sends SIGTERM.
_SHUTDOWN_SECONDS = 0.5
_SHUTDOWN_LOOK_SECONDS = 0.02
# Thousands of clients may come at the same moment.
_BACKLOG = 4096


class Listener:
    """The engine's port; may be closed for a while, which leaves open connections as they are."""

    def __init__(self, config: SimulatedConfig, clock: Clock) -> None:
        """Listen to nothing yet."""
        self._config = config
        self._clock = clock
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._closed = asyncio.Event()
        self.engine = SimulatedEngine(config, clock, self._closed.set)

    async def open(self) -> None:
        """Listen."""
        config, engine = self._config, self.engine
        factory = functools.partial(Connection, engine.handle, engine.fault_body, self._connections)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(factory, config.host, config.port, backlog=_BACKLOG)

    async def refuse_when_told(self) -> None:
        """Close the port when the fault strikes, and open it after its time; runs for ever."""
        while True:
            await self._closed.wait()
            self._closed.clear()
            self._stop_listening()
            await self._clock.sleep(self._config.refuse_seconds)
            await self.open()

    async def close_quiet_ones(self) -> None:
        """Close connections that are kept for nothing or bring a request too slowly; for ever."""
        while True:
            await self._clock.sleep(1.0)
            for connection in tuple(self._connections):
                connection.close_if_quiet(self._config.keep_alive_seconds)

    async def close(self) -> None:
        """Take nothing new, wait a little for what is under way, hang up on the rest."""
        self._stop_listening()
        deadline = self._clock.monotonic() + _SHUTDOWN_SECONDS
        while self.engine.busy and self._clock.monotonic() < deadline:
            await self._clock.sleep(_SHUTDOWN_LOOK_SECONDS)
        for connection in tuple(self._connections):
            connection.close()
        await self._clock.sleep(0)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code."""
    parser = argparse.ArgumentParser(prog="simulated")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        config = read_config(arguments.config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(config, SystemClock()))
    except SkerryError as error:
        print(f"simulated: {error}", file=sys.stderr, flush=True)
        return 2 if isinstance(error, NotFound | InvalidInput) else 1


async def _serve(config: SimulatedConfig, clock: Clock) -> int:
    stop = asyncio.Event()
    tasks.stop_on_signals(stop)
    if config.ignore_sigterm:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, _say, "ignores SIGTERM, as ignore_sigterm says")
    check_port_free(config.host, config.port)
    # Like the real ones: while it loads, the port refuses.
    if await tasks.sleep_unless_stopped(config.startup_seconds, clock, stop):
        return 0
    if config.exit_at_start_code:
        _say("ends before it serves, as exit_at_start_code says")
        return config.exit_at_start_code
    listener = Listener(config, clock)
    await listener.open()
    _say(f"listening on {config.host}:{config.port}")
    # What was imported stays: collections need not look at it.
    gc.collect()
    gc.freeze()
    await tasks.run_until_stopped(
        listener.refuse_when_told(), listener.close_quiet_ones(), stop=stop
    )
    await listener.close()
    return 0


def _say(words: str) -> None:
    print(f"simulated: {words}", file=sys.stderr, flush=True)
