"""The engine's `trtllm.TrtllmService` as the host uses it: raw calls, probe, load.

Implements `engine_client.EngineAsked`; `trtllm_pass_through` makes its calls on the channel.
"""

import contextlib
from collections.abc import Iterator
from typing import Self

import grpc

from workload_plane.replica_host.engine_client import PROBE_SECONDS_MAX
from workload_plane.replica_host.forwarding import raw
from workload_plane.replica_host.load import EngineLoad
from workload_plane.replica_host.openengine_client import open_channel
from workload_plane.replica_host.trtllm_messages import HEALTH_CHECK, Complete, is_healthy


class TrtllmClient:
    """Speaks with one engine on this machine; use it as an async context manager."""

    def __init__(self, port: int, slots: int) -> None:
        """Remember where the engine listens and how many requests it works on at once."""
        self._port = port
        self._slots = slots
        self._channel: grpc.aio.Channel | None = None
        self._working = 0
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
        try:
            check = raw(self.channel.unary_unary, HEALTH_CHECK)
            return is_healthy(await check(b"", timeout=PROBE_SECONDS_MAX))
        except grpc.aio.AioRpcError:
            return False

    async def look(self) -> tuple[str, EngineLoad]:
        """Return no page, which such an engine has not, and how busy it is."""
        return "", await self.load()

    async def turns(self, seconds_max: float) -> bool:
        """Return True: nothing of it waits for a turn of its work."""
        return True

    async def load(self) -> EngineLoad:
        """Return what passed through here: the service has no word for it, and no other way in."""
        running = min(self._working, self._slots)
        return EngineLoad(
            running_requests=running,
            queued_requests=self._working - running,
            prompt_tokens=self._counted["prompt"],
            generated_tokens=self._counted["generated"],
            cached_prompt_tokens=self._counted["cached"],
        )

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count a request as the engine's for the block."""
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    def count(self, complete: Complete) -> None:
        """Add what the engine counted for one sequence of an answer."""
        self._counted["generated"] += complete.completion_tokens
        if complete.sequence == 0:  # all sequences of an answer have one prompt
            self._counted["prompt"] += complete.prompt_tokens
            self._counted["cached"] += complete.cached_tokens
