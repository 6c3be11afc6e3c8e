"""Asks every local replica the same thing at once, and takes what came back in time.

One dead or hanging replica costs its own answer, not the others'. Many calls fan out at the same
time over the same channels, so what one call asks says nothing of what the others need.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import grpc

from skerry.api.openengine.v1 import openengine_pb2_grpc
from skerry.plumbing.rpc import insecure_channel
from workload_plane.front.endpoints import Endpoint

Answer = TypeVar("Answer")

# Hosts on loopback or the plane's own network answer in milliseconds.
ANSWER_SECONDS_MAX = 2.0
# Longer than any call on the channel of a replica that left, so that none is cut.
_CLOSE_SECONDS_MAX = ANSWER_SECONDS_MAX + 0.5

Method = Callable[[openengine_pb2_grpc.ControlStub], Callable[..., Awaitable[Answer]]]


class Channels:
    """One channel for each replica that was asked, kept while the plane has that replica."""

    def __init__(self) -> None:
        """Begin with none."""
        self._open: dict[str, grpc.aio.Channel] = {}

    async def ask_all(
        self, replicas: Sequence[Endpoint], method: Method[Answer], request: Any
    ) -> list[tuple[Endpoint, Answer]]:
        """Return the answers of those that answered in time, in the order of the replicas."""
        answers = await asyncio.gather(*(self._ask(one, method, request) for one in replicas))
        return [
            (replica, answer)
            for replica, answer in zip(replicas, answers, strict=True)
            if answer is not None
        ]

    async def close_all_but(self, kept: Iterable[Endpoint]) -> None:
        """Close the channels of all other replicas, once what was asked on them is answered.

        `kept` is every replica of the plane, never only those that one call asks.
        """
        addresses = {replica.grpc for replica in kept}
        gone = [self._open.pop(address) for address in self._open.keys() - addresses]
        await asyncio.gather(*(channel.close(_CLOSE_SECONDS_MAX) for channel in gone))

    async def close(self) -> None:
        """Close every channel at once; what is asked on them now has no answer."""
        opened, self._open = self._open, {}
        await asyncio.gather(*(channel.close() for channel in opened.values()))

    async def _ask(self, replica: Endpoint, method: Method[Answer], request: Any) -> Answer | None:
        if replica.grpc not in self._open:
            self._open[replica.grpc] = insecure_channel(replica.grpc)
        stub = openengine_pb2_grpc.ControlStub(self._open[replica.grpc])
        try:
            return await method(stub)(request, timeout=ANSWER_SECONDS_MAX)
        except grpc.RpcError:
            return None
        except asyncio.CancelledError:
            # grpc.aio raises it too when a channel is closed under a call. Passed on, it would end
            # the handler without a status, and the client would wait until its own deadline.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None
