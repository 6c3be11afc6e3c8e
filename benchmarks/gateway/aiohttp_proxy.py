"""A proxy of thirty lines, to compare: `python -m benchmarks.gateway.aiohttp_proxy PORT ENGINE`."""

import sys

import aiohttp
import uvloop
from aiohttp import web

from benchmarks.gateway.engine import HOST

_HOP_BY_HOP = {"transfer-encoding", "connection", "content-length", "date", "server"}


def main() -> None:
    """Serve until killed."""
    port, engine = int(sys.argv[1]), sys.argv[2]
    uvloop.install()
    web.run_app(application(engine), host=HOST, port=port, access_log=None, print=None)


def application(engine: str) -> web.Application:
    """Return the proxy."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    sessions: list[aiohttp.ClientSession] = []

    async def forward(request: web.Request) -> web.StreamResponse:
        url = f"http://{HOST}:{engine}{request.rel_url}"
        headers = {"content-type": request.headers.get("content-type", "")}
        body = await request.read()
        async with sessions[0].request(request.method, url, data=body, headers=headers) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
            if answer.content_length is not None:
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    async def open_session(_: web.Application) -> None:
        sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))

    async def close_session(_: web.Application) -> None:
        await sessions[0].close()

    app.on_startup.append(open_session)
    app.on_cleanup.append(close_session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    main()
