"""The agent's end of the bridge: starts it, asks with a time limit, and ends it when in doubt."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry.plumbing import logs
from skerry.plumbing.bounded_log import bound_log
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, Unavailable
from skerry.plumbing.ids import IdSource
from skerry.plumbing.ports import is_listening
from skerry.plumbing.processes import ProcessRecord, kill_group, record_of
from skerry.plumbing.tasks import Backoff
from workload_plane.replicas.ray.environment import LOG_BYTES_MAX, ensure_token, ray_environment
from workload_plane.replicas.ray.framing import HELLO, frame_of, next_frame
from workload_plane.replicas.ray.settings import RaySettings
from workload_plane.replicas.ray.values import Fault

_log = logs.get_logger(__name__)

# Importing Ray and joining a cluster takes 5 s on a quiet machine; for a dead head, for ever.
CONNECT_SECONDS_MAX = 45.0
_AGAIN = Backoff(initial_seconds=0.5, max_seconds=5.0)
LOG_FILE = "ray-bridge.log"


class Connection:
    """One bridge at a time; a fault of it is told in `fault`, and answers come or time out."""

    def __init__(
        self, plane: str, settings: RaySettings, logs_dir: Path, clock: Clock, ids: IdSource
    ) -> None:
        """Begin without a bridge."""
        self._plane = plane
        self._settings = settings
        self._log_path = logs_dir / LOG_FILE
        self._clock = clock
        self._ids = ids
        self._process: asyncio.subprocess.Process | None = None
        self._record: ProcessRecord | None = None
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self.fault = "Ray's head was not reached yet"
        self.changed: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Keep a bridge up, for ever."""
        attempt = 0
        while True:
            try:
                await self._live()
                attempt = 0
            except (SkerryError, OSError, EOFError) as error:
                self._lose(str(error) or "its connection ended")
            finally:
                await self._end()
            await self._clock.sleep(0.2 + _AGAIN.delay(attempt, self._ids.random()))
            attempt += 1

    async def ask(self, verb: str, *arguments: object, seconds: float) -> Any:
        """Return the answer; raises what the bridge raised, and Unavailable after the time."""
        process = self._process
        if self.fault or process is None or process.stdin is None:
            raise Unavailable(self.fault or "Ray's head was not reached yet")
        self._number += 1
        number = self._number
        data = frame_of((number, verb, arguments))
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            async with asyncio.timeout(seconds):
                process.stdin.write(data)
                await process.stdin.drain()
                value = await answer
        except TimeoutError:
            raise Unavailable(f"Ray did not answer within {seconds:g} s") from None
        except (ConnectionError, OSError) as error:
            raise Unavailable(f"the bridge to Ray is gone: {error}") from None
        finally:
            self._pending.pop(number, None)
        if isinstance(value, Fault):
            raise value.error()
        return value

    def doubt(self, why: str) -> None:
        """End a bridge whose Ray does not answer; the next one begins anew."""
        if not self.fault:
            self._lose(why)
        if self._record is not None:
            kill_group(self._record)

    async def _live(self) -> None:
        ensure_token(self._settings, self._ids)
        host, _, port = self._settings.head_address.rpartition(":")
        if not await is_listening(host, int(port)):
            raise Unavailable("nothing listens there")  # Ray itself would try for half a minute
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        settings = self._settings
        bound_log(self._log_path, LOG_BYTES_MAX)
        with self._log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "workload_plane.replicas.ray.bridge"),
                *("--address", settings.head_address),
                *("--host", settings.host),
                *("--namespace", f"skerry-{self._plane}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=ray_environment(settings, os.environ),
                start_new_session=True,
            )
        assert process.stdout is not None
        self._process = process
        self._record = record_of(process.pid, "skerry-ray-bridge")
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                number, value = await next_frame(process.stdout)
        except TimeoutError:
            raise Unavailable(f"Ray's head at {settings.head_address} does not answer") from None
        if number != HELLO:
            raise Unavailable("the bridge to Ray did not say that it is connected")
        if isinstance(value, Fault):
            raise Unavailable(f"Ray's head at {settings.head_address}: {value.message[:300]}")
        self.fault = ""
        _log.info("ray.connected", address=settings.head_address)
        self.changed()
        while True:
            number, value = await next_frame(process.stdout)
            answer = self._pending.pop(number, None)
            if answer is not None and not answer.done():
                answer.set_result(value)

    def _lose(self, why: str) -> None:
        fault = f"Ray's head at {self._settings.head_address} does not answer: {why}"
        if not self.fault:
            _log.warning("ray.lost", reason=why)
        self.fault = fault[:400]
        self.changed()

    async def _end(self) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_result(Fault(kind="Unavailable", message=self.fault))
        self._pending.clear()
        process, record = self._process, self._record
        self._process = self._record = None
        if process is None:
            return
        if record is not None:
            kill_group(record, signal.SIGKILL)
        await process.wait()
