"""What users of OpenAI's HTTP are told where the engine serves gRPC of its own and nothing else.

Listens on the replica's HTTP port instead of the engine. The answer is a 400 as OpenAI shapes it:
no gateway or client tries that again elsewhere, as they would a 5xx.
"""

from aiohttp import web

from skerry.fleet.engine import EngineProtocol
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.pass_through import GENERATE
from workload_plane.replica_host.trtllm_messages import GENERATE as TRTLLM_GENERATE

_SHUTDOWN_SECONDS = 0.2
CODE = "openai_http_not_served"


async def start_openai_absent(host: ReplicaHost) -> web.AppRunner:
    """Listen on the spec's HTTP port; the caller cleans the runner up."""
    protocol = host.spec.engine.protocol
    generate = TRTLLM_GENERATE if protocol is EngineProtocol.TRTLLM else GENERATE
    message = (
        f"model {host.spec.served_name!r} is served over gRPC only: call {generate[1:]} at this"
        f" address. Its engine was deployed with `protocol: {protocol}`, with which it has no"
        " OpenAI HTTP; a deployment without `protocol` is served over both"
    )
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": CODE}

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": error}, status=400)

    async def health(_: web.Request) -> web.Response:
        return web.Response(status=200 if host.health.serving else 503)

    application = web.Application()
    application.router.add_get("/health", health)
    application.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    await web.TCPSite(runner, host.spec.host, host.spec.http_port).start()
    return runner
