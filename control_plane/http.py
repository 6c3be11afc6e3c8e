"""The control plane's small HTTP port: liveness, readiness and metrics; main.py starts it."""

from collections.abc import Callable

from aiohttp import web

from skerry.plumbing import metrics


def http_application(is_ready: Callable[[], bool]) -> web.Application:
    """Return the application of `/livez`, `/readyz` and `/metrics`."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if is_ready():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the first reconcile turn is not over yet\n")

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), content_type="text/plain")

    application = web.Application()
    application.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", scrape)]
    )
    return application


async def serve_http(application: web.Application, address: str) -> web.AppRunner:
    """Serve the application at `host:port`; the caller cleans the runner up."""
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, int(port)).start()
    return runner
