"""The supervisor's Unix socket: one line of JSON asked, one answered.

The supervisor serves it; `skerry up --only` and `skerry down` ask. Only this host's user can.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from skerry.plumbing.errors import SkerryError, Unavailable

_LINE_BYTES_MAX = 64 * 1024
# Ending a plane's replicas takes a few seconds each; a whole fleet's are ended side by side.
ANSWER_SECONDS_MAX = 60.0

Handler = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


@contextlib.asynccontextmanager
async def serve(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Answer requests at the socket for the block; a SkerryError is answered as its message."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            reply = await handler(request)
        except SkerryError as error:
            reply = {"error": error.message}
        except (ValueError, OSError) as error:
            reply = {"error": f"not a request: {error}"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
            writer.close()

    server = await asyncio.start_unix_server(answer, sock=_bind(path), limit=_LINE_BYTES_MAX)
    try:
        yield
    finally:
        server.close()
        _remove(path)


async def ask(path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the supervisor's answer; Unavailable when none listens, SkerryError if it refuses."""
    try:
        with _short_name(path) as name:
            reader, writer = await asyncio.open_unix_connection(name, limit=_LINE_BYTES_MAX)
    except OSError:
        raise Unavailable(f"no supervisor listens at {path}") from None
    try:
        writer.write(json.dumps(dict(request)).encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            reply = json.loads(await reader.readline())
    except (OSError, ValueError) as error:
        raise Unavailable(f"the supervisor at {path} did not answer: {error}") from None
    finally:
        writer.close()
    if "error" in reply:
        raise SkerryError(reply["error"])
    return dict(reply)


def _bind(path: Path) -> socket.socket:
    _remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short_name(path) as name:
        listener.bind(name)
    path.chmod(0o600)
    return listener


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Give a name for the socket that fits the kernel's 107 bytes however deep the folder is."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
