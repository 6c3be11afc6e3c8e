"""Servers of base models on loopback, which speak as the real ones do and misbehave on demand.

One application holds files by path and serves them as plain HTTP, as a hub's API and as buckets.
"""

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from xml.sax.saxutils import escape

from aiohttp import web

COMMIT = "a" * 40
_RANGE = re.compile(r"bytes=(\d+)-")


class Fault(Enum):
    """What one answer for a file does wrong."""

    CUT = auto()  # ends the connection half-way
    IGNORE_RANGE = auto()  # answers the whole file to a range
    ALTERED = auto()  # the right length of other bytes
    LONGER = auto()  # tells and sends one byte more
    WRONG_RANGE = auto()  # another range than was asked for
    BUSY = auto()  # 503
    STALL = auto()  # half of it, then nothing
    ELSEWHERE = auto()  # redirects to another host
    SLOW = auto()  # a few bytes at a time, until `release`


@dataclass
class ModelServer:
    """Files, what goes wrong next, and what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Range
    headers: list[dict[str, str]] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    digests: dict[str, str] = field(default_factory=dict)  # what the hub tells instead
    sizes: dict[str, int] = field(default_factory=dict)
    port: int = 0
    lfs: bool = True
    page: int = 1000
    token: str = ""  # without which the hub tells no revision; "" asks for none
    share: float = 0.5  # of a file that comes before a fault

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def gets(self, path: str) -> list[str]:
        """Return the ranges asked of a file, "" for all of it."""
        return [asked for name, asked in self.asked if name == path]

    async def file(self, request: web.Request, path: str) -> web.StreamResponse:
        if path not in self.files:
            return web.Response(status=404)
        data = self.files[path]
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        self.asked.append((path, request.headers.get("Range", "")))
        self.headers.append(dict(request.headers))
        if request.headers.get("If-Match", etag) != etag:
            return web.Response(status=412)
        fault = self.faults.popleft() if self.faults else None
        if fault is Fault.BUSY:
            return web.Response(status=503, headers={"Retry-After": "0"})
        if fault is Fault.ELSEWHERE:
            target = f"http://localhost:{self.port}{request.path}"
            return web.Response(status=302, headers={"Location": target})
        begin, status, headers = (
            0,
            200,
            {"ETag": etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
        )
        match = _RANGE.match(request.headers.get("Range", ""))
        unchanged = request.headers.get("If-Range", etag) == etag
        if match and unchanged and fault is not Fault.IGNORE_RANGE:
            begin, status = int(match[1]) + (fault is Fault.WRONG_RANGE), 206
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        body = data[begin:]
        if fault is Fault.ALTERED:
            body = bytes(byte ^ 1 for byte in body)
        if fault is Fault.LONGER:
            body += b"!"
        return await self._send(
            request, web.StreamResponse(status=status, headers=headers), body, fault
        )

    async def _send(
        self, request: web.Request, response: web.StreamResponse, body: bytes, fault: Fault | None
    ) -> web.StreamResponse:
        response.content_length = len(body)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        half = int(len(body) * self.share)
        if fault in (Fault.CUT, Fault.STALL, Fault.SLOW):
            await response.write(body[:half])
            if fault is Fault.CUT:
                assert request.transport is not None
                request.transport.close()
                return response
            if fault is Fault.STALL:
                await self.stopped.wait()
                return response
            await self.release.wait()
            await response.write(body[half:])
            return response
        await response.write(body)
        return response

    async def plain(self, request: web.Request) -> web.StreamResponse:
        return await self.file(request, request.match_info["path"])

    async def revision(self, request: web.Request) -> web.StreamResponse:
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if request.match_info["revision"] not in ("main", "v1", COMMIT):
            return web.Response(status=404)
        self.headers.append(dict(request.headers))
        return web.json_response({"id": "org/model", "sha": COMMIT})

    async def tree(self, request: web.Request) -> web.StreamResponse:
        names = sorted(self.files)
        begin = int(request.query.get("cursor", "0"))
        entries: list[dict[str, object]] = [{"type": "directory", "path": "folder", "size": 0}]
        for name in names[begin : begin + self.page]:
            data = self.files[name]
            entry: dict[str, object] = {"type": "file", "path": name}
            entry["size"] = self.sizes.get(name, len(data))
            entry["oid"] = hashlib.sha1(data).hexdigest()
            if self.lfs and not name.endswith(".json"):
                digest = self.digests.get(name, hashlib.sha256(data).hexdigest())
                entry["lfs"] = {"oid": digest, "size": len(data)}
            entries.append(entry)
        headers = {}
        if begin + self.page < len(names):
            following = f"{self.url}{request.path}?recursive=true&cursor={begin + self.page}"
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(entries, headers=headers)

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        # As the hub does: the file itself lies with another host.
        path = request.match_info["path"]
        self.headers.append(dict(request.headers))
        return web.Response(
            status=302, headers={"Location": f"http://localhost:{self.port}/cdn/{path}"}
        )

    async def bucket(self, request: web.Request) -> web.StreamResponse:
        prefix = request.query.get("prefix", "")
        rows = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size>"
            f'<ETag>"{hashlib.md5(data).hexdigest()}"</ETag>'
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for name, data in sorted(self.files.items())
            if name.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        return web.Response(text=text, content_type="application/xml")


@asynccontextmanager
async def serving(server: ModelServer) -> AsyncIterator[ModelServer]:
    """Serve on a free port of loopback."""
    application = web.Application()
    application.add_routes(
        [
            web.get("/api/models/org/model/revision/{revision}", server.revision),
            web.get("/api/models/org/model/tree/{revision}", server.tree),
            web.get("/org/model/resolve/{revision}/{path:.+}", server.resolve),
            web.get("/cdn/{path:.+}", server.plain),
            web.get("/files/{path:.+}", server.plain),
            web.get("/bucket", server.bucket),
            web.get("/bucket/", server.bucket),
            web.get("/bucket/{path:.+}", server.plain),
        ]
    )
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        server.release.set()
        server.stopped.set()
        await runner.cleanup()
