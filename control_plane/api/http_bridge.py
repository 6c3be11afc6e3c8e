"""One aiohttp request answered by an ASGI application: the operator API on the port for HTTP.

`control_plane/http.py` adds the route. Its runner must have `handler_cancellation`: a caller that
goes away is a handler that is cancelled, which is how an open stream ends.
"""

import asyncio
import contextlib
import json
import math
from http import HTTPStatus
from typing import Any

from aiohttp import web
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from control_plane.api.http_gateway import HttpGateway
from control_plane.api.http_guard import Asked, Refusal, refusal_of
from skerry.plumbing.errors import Exhausted

# A body of 4 MiB takes milliseconds on loopback; who takes longer holds memory for nothing.
BODY_SECONDS_MAX = 30.0


async def answer(gateway: HttpGateway, request: web.Request) -> web.StreamResponse:
    """Answer a request for a method of the operator API."""
    path = request.path
    asked = Asked(
        method=request.method,
        is_stream=gateway.is_stream(path) if gateway.has(path) else None,
        headers=request.headers,
        raw_headers=request.raw_headers,
    )
    if refusal := refusal_of(asked):
        return _refused(refusal)
    with contextlib.ExitStack() as held:
        try:  # before the body: one that comes slowly holds memory as well
            held.enter_context(gateway.a_place_for(path))
        except Exhausted as error:
            return _too_many(error)
        exchange = _Exchange(request)
        with contextlib.suppress(ConnectionError):  # the caller went while it was answered
            await gateway.application(_scope(request), exchange.receive, exchange.send)
        return exchange.response


def _refused(refusal: Refusal, **headers: str) -> web.Response:
    body = json.dumps({"code": refusal.code.value, "message": refusal.message})
    if refusal.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = "POST"
    return web.Response(
        status=refusal.status, text=body, content_type="application/json", headers=headers
    )


def _too_many(error: Exhausted) -> web.Response:
    code, status = Code.RESOURCE_EXHAUSTED, HTTPStatus.TOO_MANY_REQUESTS
    seconds = math.ceil(error.retry_after_seconds or 1)
    refusal = Refusal(status=status, code=code, message=error.message)
    return _refused(refusal, **{"Retry-After": str(seconds)})


def _scope(request: web.Request) -> Any:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.rel_url.raw_path.encode(),
        "query_string": b"",  # nothing is asked by the query
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": (request.remote or "", 0),
        "server": None,
        "extensions": {},
    }


class _Exchange:
    """One request's body on its way in, and its answer on its way out."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._is_read = False
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS_MAX
        self.response: web.StreamResponse = web.Response(status=500)

    async def receive(self) -> Any:
        """Return the next piece of the body; past its end nothing comes but cancellation."""
        if self._is_read:
            await asyncio.Event().wait()
        content = self._request.content
        try:
            async with asyncio.timeout_at(self._deadline):
                piece = await content.readany()
        except TimeoutError:
            message = f"the body did not come within {BODY_SECONDS_MAX:.0f} s"
            raise ConnectError(Code.DEADLINE_EXCEEDED, message) from None
        self._is_read = content.at_eof()
        return {"type": "http.request", "body": piece, "more_body": not self._is_read}

    async def send(self, message: Any) -> None:
        """Keep the head until the body begins: one piece goes out whole, more as they come."""
        if message["type"] == "http.response.start":
            self.response = web.StreamResponse(status=message["status"])
            for name, value in message["headers"]:
                self.response.headers.add(name.decode(), value.decode())
            return
        body, more = message["body"], message["more_body"]
        if not more and not self.response.prepared:
            headers = self.response.headers
            self.response = web.Response(status=self.response.status, body=body, headers=headers)
            return
        if not self.response.prepared:
            await self.response.prepare(self._request)
        if body:
            await self.response.write(body)
        if not more:
            await self.response.write_eof()
