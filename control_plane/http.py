"""The control plane's HTTP port: liveness, readiness, metrics, and on loopback the operator API.

main.py starts it.
"""

from collections.abc import Callable

from aiohttp import web

from control_plane.api.http_bridge import answer
from control_plane.api.http_gateway import HttpGateway
from control_plane.api.http_guard import is_loopback
from skerry.plumbing import logs, metrics
from skerry.plumbing.errors import Conflict

_log = logs.get_logger(__name__)

STOP_SECONDS = 1.0  # open streams; their gRPC calls have ended by then


def http_application(
    why_not_ready: Callable[[], str], gateway: HttpGateway | None = None
) -> web.Application:
    """Return the application of `/livez`, `/readyz`, `/metrics`, and of the API if it is given."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if reason := why_not_ready():
            return web.Response(status=503, text=f"{reason}\n")
        return web.Response(text="ok\n")

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), content_type="text/plain")

    application = web.Application()
    application.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", scrape)]
    )
    if gateway is not None:
        _add_operator_api(application, gateway)
    return application


def _add_operator_api(application: web.Application, gateway: HttpGateway) -> None:
    async def call(request: web.Request) -> web.StreamResponse:
        return await answer(gateway, request)

    async def close(_: web.Application) -> None:
        await gateway.close()

    application.router.add_route("*", r"/{service:skerry\.[^/]+}/{method:[^/]+}", call)
    application.on_cleanup.append(close)


def may_serve_operators(address: str) -> bool:
    """Say whether the operator API may be at this address; it is plaintext and asks no name."""
    if is_loopback(address.rpartition(":")[0]):
        return True
    _log.info("http.api-not-served", address=address, reason="the address is not on loopback")
    return False


async def serve_http(application: web.Application, address: str) -> web.AppRunner:
    """Serve the application at `host:port`; the caller cleans the runner up."""
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(
        application,
        access_log=None,
        # Whoever goes away cancels what was done for them: an open stream is nobody's otherwise.
        handler_cancellation=True,
        # Nothing here takes compressed bodies, and a small one could become a large one.
        auto_decompress=False,
        shutdown_timeout=STOP_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        await runner.cleanup()
        raise Conflict(
            f"cannot listen on {address}: {error.strerror}; stop what holds it or choose another"
        ) from error
    return runner
