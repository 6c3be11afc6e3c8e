"""How one attempt reaches one gateway: the port, and the real one over HTTP and gRPC.

`skerry.client.inference` makes attempts through it and decides what a failed one means.
"""

from types import TracebackType
from typing import Protocol, Self

import aiohttp
import grpc.aio

from skerry.client.gateways import (
    AttemptFailed,
    Cause,
    Emitted,
    Gateway,
    Items,
    Request,
    RequestKind,
)
from skerry.client.generate_grpc import ask_generate
from skerry.client.openai_http import ask_openai
from skerry.plumbing.clock import Clock
from skerry.plumbing.rpc import CHANNEL_OPTIONS

# Loopback and the internet connect in well under a second; a dead machine's address never does.
CONNECT_SECONDS_MAX = 2.0
# A gateway answers from memory; what takes longer than this is no gateway to send a request to.
PROBE_SECONDS_MAX = 2.0
_PROBE_BYTES_MAX = 1024 * 1024


class Transport(Protocol):
    """Where attempts are made."""

    def attempt(
        self, gateway: Gateway, request: Request, request_id: str, emitted: Emitted | None = None
    ) -> Items:
        """Yield a head, pieces and an end as they come; raises AttemptFailed when they do not.

        With `emitted` the gateway is asked for the rest of an answer that broke elsewhere, in the
        dialect that the request's head named.
        """
        ...

    async def probe(self, gateway: Gateway) -> float:
        """Return how many seconds the gateway takes to answer anything; raises AttemptFailed."""
        ...


class NetworkTransport:
    """Connections to gateways, made when they are needed; use it in an `async with` block."""

    def __init__(self, clock: Clock, api_key: str = "") -> None:
        """Measure by the clock; show the key, if there is one, with every request."""
        self._clock = clock
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._session: aiohttp.ClientSession | None = None
        self._probes: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pools of HTTP connections."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
        connector = aiohttp.TCPConnector(limit=0)  # the caller bounds what is in flight
        self._session = aiohttp.ClientSession(
            timeout=timeout, connector=connector, headers=self._headers
        )
        # Of their own, so that no probe waits behind requests, and warm, so that what is
        # measured is one way there and back.
        self._probes = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS_MAX), headers=self._headers
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        for session in (self._session, self._probes):
            if session is not None:
                await session.close()
        for channel in self._channels.values():
            await channel.close()

    def attempt(
        self, gateway: Gateway, request: Request, request_id: str, emitted: Emitted | None = None
    ) -> Items:
        """Yield what the gateway sends as it comes; raises AttemptFailed."""
        if request.kind is RequestKind.GENERATE:
            channel = self._channels.get(gateway.grpc)
            if channel is None:
                channel = grpc.aio.insecure_channel(gateway.grpc, options=list(CHANNEL_OPTIONS))
                self._channels[gateway.grpc] = channel
            metadata = (*self._headers.items(), *request.headers)
            return ask_generate(channel, gateway, request, request_id, metadata, emitted)
        if self._session is None:
            raise RuntimeError("use the transport in an `async with` block")
        return ask_openai(self._session, gateway, request, request_id, emitted)

    async def probe(self, gateway: Gateway) -> float:
        """Return the seconds of one `GET /v1/models`, whatever its status."""
        if self._probes is None:
            raise RuntimeError("use the transport in an `async with` block")
        started = self._clock.monotonic()
        try:
            async with self._probes.get(f"http://{gateway.http}/v1/models") as response:
                seconds = self._clock.monotonic() - started
                await response.content.read(_PROBE_BYTES_MAX)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            text = f"{gateway.name}: {str(error) or type(error).__name__}"
            raise AttemptFailed(text, Cause.CONNECT) from None
        return seconds
