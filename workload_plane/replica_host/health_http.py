"""The host's small HTTP server.

/health is for gateways, /metrics for Prometheus, /load for the agent.
"""

import dataclasses
import math

from aiohttp import web

from skerry.plumbing import metrics
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.instruments import EngineReadings, show_state
from workload_plane.replica_host.load import BUCKETED, Buckets

_SHUTDOWN_SECONDS = 0.2


async def start_health_http(host: ReplicaHost) -> web.AppRunner:
    """Listen on the spec's health port; the caller cleans the runner up."""
    readings = EngineReadings()

    async def health(_: web.Request) -> web.Response:
        status = 200 if host.health.serving else 503
        body = {**_state(host), "message": host.message}
        return web.json_response(body, status=status)

    async def page(_: web.Request) -> web.Response:
        engine_page, load = await host.engine.look()
        readings.take(load)
        show_state(host.health.state)
        return web.Response(text=metrics.render().decode() + engine_page)

    async def load(_: web.Request) -> web.Response:
        body = {**_state(host), "grpc_requests": len(host.flights)}
        told = dataclasses.asdict(await host.engine.load())
        for name in BUCKETED:
            told[name] = _listed(told[name])
        return web.json_response({**body, **told})

    application = web.Application()
    application.router.add_get("/health", health)
    application.router.add_get("/metrics", page)
    application.router.add_get("/load", load)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    await web.TCPSite(runner, host.spec.host, host.spec.health_port).start()
    return runner


def _listed(buckets: Buckets | None) -> list[list[float | None]] | None:
    """Return the buckets in JSON, where the last one has no bound."""
    if buckets is None:
        return None
    return [[None if bound == math.inf else bound, count] for bound, count in buckets]


def _state(host: ReplicaHost) -> dict[str, object]:
    return {
        "state": host.health.state.value,
        "restarts": host.spec.restarts + host.restarts,
    }
