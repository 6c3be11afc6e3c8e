"""Asks every local replica the same thing at once, and takes what came back in time.

One dead or hanging replica costs its own answer, not the others'.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc

from skerry.api.openengine.v1 import openengine_pb2_grpc
from skerry.plumbing.rpc import insecure_channel
from workload_plane.front.endpoints import Endpoint

Answer = TypeVar("Answer")

# Hosts on loopback or the plane's own network answer in milliseconds.
ANSWER_SECONDS_MAX = 2.0

Ask = Callable[[openengine_pb2_grpc.ControlStub], Awaitable[Answer]]


class Channels:
    """One channel for each replica that is asked; those of replicas that are gone are closed."""

    def __init__(self) -> None:
        """Begin with none."""
        self._open: dict[str, grpc.aio.Channel] = {}

    async def ask_all(
        self, replicas: Sequence[Endpoint], ask: Ask[Answer]
    ) -> list[tuple[Endpoint, Answer]]:
        """Return the answers of those that answered in time, in the order of the replicas."""
        await self._close_all_but({replica.grpc for replica in replicas})
        answers = await asyncio.gather(*(self._ask(replica, ask) for replica in replicas))
        return [
            (replica, answer)
            for replica, answer in zip(replicas, answers, strict=True)
            if answer is not None
        ]

    async def close(self) -> None:
        """Close every channel."""
        await self._close_all_but(set())

    async def _ask(self, replica: Endpoint, ask: Ask[Answer]) -> Answer | None:
        if replica.grpc not in self._open:
            self._open[replica.grpc] = insecure_channel(replica.grpc)
        stub = openengine_pb2_grpc.ControlStub(self._open[replica.grpc])
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await ask(stub)
        except (grpc.RpcError, TimeoutError):
            return None

    async def _close_all_but(self, kept: set[str]) -> None:
        for address in [address for address in self._open if address not in kept]:
            await self._open.pop(address).close()
