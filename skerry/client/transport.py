"""How one attempt reaches one gateway: the port, and the real one over HTTP and gRPC.

`skerry.client.inference` makes attempts through it and decides what a failed one means.
"""

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Protocol, Self

import aiohttp
import grpc.aio

from skerry.client.gateways import Gateway, Request, RequestKind
from skerry.client.generate_grpc import ask_generate
from skerry.client.openai_http import ask_openai
from skerry.plumbing.ids import IdSource
from skerry.plumbing.rpc import CHANNEL_OPTIONS

# Loopback and the internet connect in well under a second; a dead machine's address never does.
CONNECT_SECONDS_MAX = 2.0

Pieces = AsyncGenerator[tuple[str, int], None]


class Transport(Protocol):
    """Where attempts are made."""

    def attempt(self, gateway: Gateway, request: Request) -> Pieces:
        """Yield (text, tokens) as they come; raises AttemptFailed when they do not."""
        ...


class NetworkTransport:
    """Connections to gateways, made when they are needed; use it in an `async with` block."""

    def __init__(self, ids: IdSource) -> None:
        """Name requests by these ids."""
        self._ids = ids
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool of HTTP connections."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
        connector = aiohttp.TCPConnector(limit=0)  # the caller bounds what is in flight
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
        for channel in self._channels.values():
            await channel.close()

    def attempt(self, gateway: Gateway, request: Request) -> Pieces:
        """Yield (text, tokens) as the gateway sends them; raises AttemptFailed."""
        if request.kind is RequestKind.GENERATE:
            channel = self._channels.get(gateway.grpc)
            if channel is None:
                channel = grpc.aio.insecure_channel(gateway.grpc, options=list(CHANNEL_OPTIONS))
                self._channels[gateway.grpc] = channel
            return ask_generate(channel, gateway, request, self._ids.new_id())
        if self._session is None:
            raise RuntimeError("use the transport in an `async with` block")
        return ask_openai(self._session, gateway, request)
