"""The agent's small HTTP server on loopback: /metrics for Prometheus, where a port is told."""

import asyncio
import contextlib

from aiohttp import web

from skerry.plumbing import logs, metrics
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ports import check_port_free
from workload_plane.replicas.records import LOOPBACK

_log = logs.get_logger(__name__)
_SHUTDOWN_SECONDS = 0.2


async def serve_metrics_forever(port: int) -> None:
    """Serve until cancelled; a port that is taken costs the metrics and nothing else."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"content-type": metrics.CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/metrics", page)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            check_port_free(LOOPBACK, port)
            await web.TCPSite(runner, LOOPBACK, port).start()
        except (SkerryError, OSError) as error:
            _log.error("metrics.not-served", port=port, error=str(error))
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(OSError):
            await runner.cleanup()
