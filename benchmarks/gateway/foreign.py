"""Gateways of others, from the package index, each in an environment of its own under build/bench.

Started with their own defaults for one worker, as far as they have any; what is set is said in
`told`. Nothing of them is imported here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.contenders import Running, spawn
from benchmarks.gateway.engine import HOST, SERVED, TICK_SECONDS
from benchmarks.venvs import Foreign, ensure
from skerry.plumbing.ports import free_port

SMG = Foreign(name="smg", requirement="smg==1.13.0")
# Below 1.107, of which one release was withdrawn as compromised.
LITELLM = Foreign(name="litellm", requirement="litellm[proxy]>=1.90,<1.100")
RAY_SERVE = Foreign(name="ray-serve", requirement="ray[serve]>=2.50,<3")
SKYSERVE = Foreign(name="skyserve", requirement="skypilot>=0.10,<0.15")

_RAY_PROGRAM = """
import asyncio, sys, threading
import ray
from ray import serve
from starlette.responses import Response, StreamingResponse

sys.path.insert(0, {root!r})
WHOLE, EVENT, END = {whole!r}, {event!r}, {end!r}

@serve.deployment(max_ongoing_requests=512)
class Answer:
    async def __call__(self, request):
        body = await request.json()
        if not body.get("stream"):
            return Response(WHOLE, media_type="application/json")
        return StreamingResponse(self.events(body["max_tokens"]), media_type="text/event-stream")

    async def events(self, count):
        for _ in range(count - 1):
            yield EVENT
            await asyncio.sleep({tick})
        yield END

ray.init(num_cpus=2, include_dashboard=False, _temp_dir={folder!r}, log_to_driver=False)
serve.start(http_options={{"host": {host!r}, "port": {port}}})
serve.run(Answer.bind(), route_prefix="/")
threading.Event().wait()
"""
_SKY_PROGRAM = """
from sky.serve.load_balancer import SkyServeLoadBalancer
SkyServeLoadBalancer("http://{host}:{engine}", {port}).run()
"""


@dataclass(frozen=True, slots=True)
class Smg:
    """SMG, the Rust gateway that came of SGLang's router."""

    name: str = "SMG 1.13"
    told: str = "`smg launch`, its default policy, one worker"

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Start it for one worker that speaks OpenAI's API."""
        port = free_port(HOST)
        argv: list[str | Path] = [
            *(ensure(SMG).binary("smg"), "launch", "--host", HOST, "--port", str(port)),
            *("--worker-urls", f"http://{HOST}:{engine_port}", "--log-level", "error"),
            *("--prometheus-port", str(free_port(HOST)), "--backend", "openai"),
        ]
        return Running(port=port, roots=(spawn(argv, folder, cores),))


@dataclass(frozen=True, slots=True)
class LiteLlm:
    """LiteLLM's proxy."""

    name: str = "LiteLLM"
    told: str = "`litellm --config`, one worker, no keys, no database"

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Start it for one model."""
        port = free_port(HOST)
        base = f"http://{HOST}:{engine_port}/v1"
        values = {
            "model_list": [
                {
                    "model_name": SERVED,
                    "litellm_params": {
                        "model": f"openai/{SERVED}",
                        "api_base": base,
                        "api_key": "none",
                    },
                }
            ]
        }
        file = folder / "litellm.yaml"
        file.write_text(json.dumps(values))  # JSON is YAML
        argv: list[str | Path] = [
            *(ensure(LITELLM).binary("litellm"), "--config", file, "--host", HOST),
            *("--port", str(port), "--num_workers", "1"),
        ]
        environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        return Running(port=port, roots=(spawn(argv, folder, cores, environment),))


@dataclass(frozen=True, slots=True)
class RayServe:
    """Ray Serve's HTTP proxy and one replica, which is the engine: Serve has none behind it."""

    name: str = "Ray Serve"
    told: str = "proxy and one replica that answers by itself; all of Ray's processes counted"

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Start a Ray of one node and the application."""
        from benchmarks.gateway import engine

        port = free_port(HOST)
        program = folder / "ray_serve.py"
        program.write_text(
            _RAY_PROGRAM.format(
                root=str(folder),
                whole=engine.ANSWER,
                event=engine.EVENT_TEXT,
                end=engine.END_TEXT,
                tick=TICK_SECONDS,
                folder=str(folder / "r"),
                host=HOST,
                port=port,
            )
        )
        argv: list[str | Path] = [ensure(RAY_SERVE).binary("python"), program]
        environment = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "80",
            "RAY_AUTH_MODE": "disabled",
            "PYTHONPATH": "",
        }
        return Running(port=port, roots=(spawn(argv, folder, cores, environment),))


@dataclass(frozen=True, slots=True)
class SkyServe:
    """SkyServe's load balancer; the engine plays its controller."""

    name: str = "SkyServe LB"
    told: str = "`sky.serve.load_balancer`, its default policy, one replica"

    def start(self, folder: Path, engine_port: int, cores: Sequence[int]) -> Running:
        """Start the load balancer; it asks for replicas after five seconds."""
        port = free_port(HOST)
        program = _SKY_PROGRAM.format(host=HOST, engine=engine_port, port=port)
        argv: list[str | Path] = [ensure(SKYSERVE).binary("python"), "-c", program]
        environment = {
            "PYTHONPATH": "",
            "HOME": str(folder),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        }
        return Running(port=port, roots=(spawn(argv, folder, cores, environment),))
