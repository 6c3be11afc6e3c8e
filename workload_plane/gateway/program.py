"""Which Envoy runs, and which one would be started: another after an upgrade of Skerry.

The agent's `BootstrapKeeper` asks, so that the new program is tried before anybody restarts the
gateway. Both name themselves in the same words.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp

from skerry.plumbing import logs
from workload_plane.gateway.envoy import version_argv

_log = logs.get_logger(__name__)

_ADMIN_SECONDS_MAX = 1.0
# It loads a hundred megabytes from a disk that may be busy.
_VERSION_SECONDS_MAX = 30.0
# What it lacked may be mended beside it: a library, a mount, a busy disk.
_ASK_AGAIN_SECONDS = 60.0
# "PROGRAM  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"
_BEFORE_VERSION = b"version: "

AskVersion = Callable[[], Awaitable[str]]


class Programs(NamedTuple):
    """The versions of the Envoy that runs and of the one to be started; "" is not known."""

    running: str = ""
    next: str = ""

    @property
    def differ(self) -> bool:
        """Say whether a start may be of another one: too broken to name its version, too."""
        return bool(self.running) and self.running != self.next


class NextProgram:
    """Asks the Envoy that a start would take, whenever it is new, and remembers the answer."""

    def __init__(self, ask_version: AskVersion | None = None) -> None:
        """Ask nobody yet; by default the program itself."""
        self._ask_version = ask_version or _version_of_next
        self._version = ""
        self._stamp: tuple[int, int] | None = None
        self._asked_at: float | None = None

    async def version(self, now: float) -> str:
        """Return its version, "" when it says none; `now` is in seconds of a monotonic clock."""
        stamp = _stamp()
        if self._asked_at is None or stamp != self._stamp or self._is_due(now - self._asked_at):
            self._asked_at, self._stamp = now, stamp
            self._version = await self._ask_version()
        return self._version

    def _is_due(self, seconds: float) -> bool:
        return not self._version and seconds >= _ASK_AGAIN_SECONDS


class ProgramVersions:
    """Asks the running Envoy by its admin page, the other one whenever it is new."""

    def __init__(self, admin_port: int) -> None:
        """Ask nobody yet."""
        self._url = f"http://127.0.0.1:{admin_port}/server_info"
        self._next = NextProgram()

    async def ask(self, session: aiohttp.ClientSession, now: float) -> Programs:
        """Return what both say now; never raises for one that says nothing.

        `session` is the caller's, `now` seconds of its monotonic clock.
        """
        following = await self._next.version(now)
        return Programs(await self._version_of_running(session), following)

    async def _version_of_running(self, session: aiohttp.ClientSession) -> str:
        timeout = aiohttp.ClientTimeout(total=_ADMIN_SECONDS_MAX)
        try:
            async with session.get(self._url, timeout=timeout) as response:
                return str((await response.json(content_type=None))["version"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return ""


def _stamp() -> tuple[int, int] | None:
    """Return what changes when another program is put in this one's place."""
    try:
        found = Path(version_argv()[0]).stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


async def _version_of_next() -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *version_argv(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        _log.warning("gateway.program-not-asked", error=str(error))
        return ""
    try:
        async with asyncio.timeout(_VERSION_SECONDS_MAX):
            said, _ = await process.communicate()
    except TimeoutError:
        _log.warning("gateway.program-not-asked", error="it does not end")
        return ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.partition(_BEFORE_VERSION)[2].strip().decode(errors="replace")
