"""Which Envoy runs, and which one would be started: another after an upgrade of Skerry.

The agent's `BootstrapKeeper` asks, so that the new program is tried before anybody restarts the
gateway. Both name themselves in the same words.
"""

import asyncio
from pathlib import Path
from typing import NamedTuple

import aiohttp

from skerry.plumbing import logs
from workload_plane.gateway.envoy import version_argv

_log = logs.get_logger(__name__)

_ADMIN_SECONDS_MAX = 1.0
# It loads a hundred megabytes from a disk that may be busy.
_VERSION_SECONDS_MAX = 30.0
# "PROGRAM  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"
_BEFORE_VERSION = b"version: "


class Programs(NamedTuple):
    """The versions of the Envoy that runs and of the one to be started; "" is not known."""

    running: str = ""
    next: str = ""

    @property
    def differ(self) -> bool:
        """Say whether they are known to be two."""
        return bool(self.running and self.next) and self.running != self.next


class ProgramVersions:
    """Asks the running Envoy by its admin page, the other one whenever it is new."""

    def __init__(self, admin_port: int) -> None:
        """Ask nobody yet."""
        self._url = f"http://127.0.0.1:{admin_port}/server_info"
        self._next = ""
        self._stamp: tuple[int, int] | None = None

    async def ask(self) -> Programs:
        """Return what both say now; never raises for one that says nothing."""
        stamp = _stamp()
        if not self._next or stamp != self._stamp:
            self._stamp, self._next = stamp, await _version_of_next()
        return Programs(await self._version_of_running(), self._next)

    async def _version_of_running(self) -> str:
        timeout = aiohttp.ClientTimeout(total=_ADMIN_SECONDS_MAX)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self._url) as response,
            ):
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
        return ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.partition(_BEFORE_VERSION)[2].strip().decode(errors="replace")
