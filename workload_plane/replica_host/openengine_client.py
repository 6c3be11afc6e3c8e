"""The engine's own `openengine.v1` server as the host uses it: raw calls, probe, load.

Implements `engine_client.EngineAsked` for engines without HTTP; `pass_through` makes its calls
on the channel.
"""

from typing import Self

import grpc

from skerry.api.openengine.v1 import (
    generation_pb2,
    lifecycle_pb2,
    openengine_pb2_grpc,
    server_pb2,
)
from workload_plane.engines.port import LOOPBACK
from workload_plane.replica_host.engine_client import PROBE_SECONDS_MAX
from workload_plane.replica_host.load import UNKNOWN_LOAD, EngineLoad

# TensorRT-LLM's own bound: token ids and log probabilities of a long prompt are larger than 4 MiB.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.bdp_probe", 0),
    # No keepalive: probes tell a hung engine, and TensorRT-LLM ends a connection that pings more
    # than every 10 s. gRPC's own pause grows to two minutes; a new engine is to be found at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
)
_LOAD_SECONDS_MAX = 1.0
_SERVING = frozenset({lifecycle_pb2.HEALTH_STATE_READY, lifecycle_pb2.HEALTH_STATE_DEGRADED})


def open_channel(port: int) -> grpc.aio.Channel:
    """Return a channel to the engine's own gRPC port, which connects once it is used."""
    return grpc.aio.insecure_channel(f"{LOOPBACK}:{port}", options=_OPTIONS)


class OpenEngineClient:
    """Speaks with one engine on this machine; use it as an async context manager."""

    def __init__(self, port: int) -> None:
        """Remember where the engine listens; nothing is opened yet."""
        self._port = port
        self._channel: grpc.aio.Channel | None = None
        self._counted = dict.fromkeys(("prompt", "generated", "cached"), 0)

    async def __aenter__(self) -> Self:
        """Make the channel, which connects once it is used, and again after a new start."""
        self._channel = open_channel(self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the channel with all its calls."""
        await self.channel.close()

    @property
    def channel(self) -> grpc.aio.Channel:
        """Return the channel to the engine."""
        assert self._channel is not None, "use the client inside its `async with`"
        return self._channel

    async def probe(self) -> bool:
        """Return whether the engine says within PROBE_SECONDS_MAX that it serves."""
        control = openengine_pb2_grpc.ControlStub(self.channel)
        try:
            response = await control.Health(
                lifecycle_pb2.HealthRequest(), timeout=PROBE_SECONDS_MAX
            )
        except grpc.aio.AioRpcError:
            return False
        return response.state in _SERVING

    async def look(self) -> tuple[str, EngineLoad]:
        """Return no page, which such an engine has not, and how busy it is."""
        return "", await self.load()

    async def load(self) -> EngineLoad:
        """Return what GetLoad tells, with the tokens that answers were said to have."""
        control = openengine_pb2_grpc.ControlStub(self.channel)
        try:
            told = await control.GetLoad(server_pb2.GetLoadRequest(), timeout=_LOAD_SECONDS_MAX)
        except grpc.aio.AioRpcError:
            return UNKNOWN_LOAD
        knows_blocks = told.HasField("used_kv_blocks") and told.total_kv_blocks
        return EngineLoad(
            running_requests=told.running_requests if told.HasField("running_requests") else None,
            queued_requests=told.queued_requests if told.HasField("queued_requests") else None,
            kv_used_ratio=told.used_kv_blocks / told.total_kv_blocks if knows_blocks else None,
            prompt_tokens=self._counted["prompt"],
            generated_tokens=self._counted["generated"],
            cached_prompt_tokens=self._counted["cached"],
        )

    async def turns(self, seconds_max: float) -> bool:
        """Return True: its health is answered by what works."""
        return True

    def count(self, usage: generation_pb2.Usage) -> None:
        """Add what the engine counted for one answer."""
        self._counted["prompt"] += usage.prompt_tokens
        self._counted["generated"] += usage.completion_tokens
        self._counted["cached"] += usage.cached_prompt_tokens
