"""The engine's HTTP API as the host uses it: generate, probe, metrics, tokenise.

An engine that serves openengine.v1 itself is asked through `openengine_client` instead.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, Self

import aiohttp

from skerry.api.openengine.v1 import error_pb2
from workload_plane.engines.port import EngineLaunch
from workload_plane.replica_host.faults import RequestFault, unavailable
from workload_plane.replica_host.load import UNKNOWN_LOAD, EngineLoad, parse_load

# A probe that takes longer is a hung engine: two of them and the pauses before are 1.35 s.
PROBE_SECONDS_MAX = 0.6
_METRICS_SECONDS_MAX = 1.0
_CONNECT_SECONDS_MAX = 2.0
# llama.cpp pings a silent stream every 30 s; a prompt of 100 k tokens on a CPU takes minutes.
_SILENCE_SECONDS_MAX = 600.0
_ERROR_BYTES_MAX = 64 * 1024
_PAGE_BYTES_MAX = 4 * 1024 * 1024


class EngineAsked(Protocol):
    """What the host asks of its engine whatever it speaks; to be used inside `async with`."""

    async def __aenter__(self) -> Self:
        """Open the connections."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        ...

    async def probe(self) -> bool:
        """Return whether the engine says within PROBE_SECONDS_MAX that it is healthy."""
        ...

    async def look(self) -> tuple[str, EngineLoad]:
        """Return the engine's Prometheus page, empty without one, and how busy it is."""
        ...

    async def load(self) -> EngineLoad:
        """Return how busy the engine is now, unknown where it does not tell."""
        ...

    async def turns(self, seconds_max: float) -> bool:
        """Return whether the engine ends a turn of its work within so long."""
        ...


class EngineClient:
    """Speaks HTTP with one engine on this machine; use it as an async context manager."""

    def __init__(self, base_url: str, launch: EngineLaunch) -> None:
        """Remember where the engine listens; nothing is opened yet."""
        self._base = base_url
        self._launch = launch
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        # A connection for each request: on loopback it costs 0.1 ms, and a kept one may be closed
        # by the engine at the very moment it is used again.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS_MAX, sock_read=_SILENCE_SECONDS_MAX
        )
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session with all its connections."""
        assert self._session is not None
        await self._session.close()

    @contextlib.asynccontextmanager
    async def generate(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Post a request and give its stream; leaving the block early aborts the engine's work.

        Raises RequestFault when the engine does not accept it.
        """
        try:
            response = await self._open.post(self._base + path, json=body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unavailable(f"the engine cannot be reached: {error}") from None
        try:
            if response.status != 200:
                raise await _fault_of(response)
            yield response.content
        finally:
            response.close()

    async def probe(self) -> bool:
        """Return whether the engine says within PROBE_SECONDS_MAX that it is healthy."""
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                async with self._open.get(self._base + self._launch.health_path) as response:
                    return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def metrics(self) -> str:
        """Return the engine's Prometheus page, empty when it gives none in time."""
        try:
            async with asyncio.timeout(_METRICS_SECONDS_MAX):
                async with self._open.get(self._base + self._launch.metrics_path) as response:
                    if response.status != 200:
                        return ""
                    data = await response.content.read(_PAGE_BYTES_MAX)
                    while not response.content.at_eof() and len(data) < _PAGE_BYTES_MAX:
                        data += await response.content.read(_PAGE_BYTES_MAX)
                    return data.decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return ""

    async def load(self) -> EngineLoad:
        """Return how busy the engine is now, unknown where it does not tell."""
        return (await self.look())[1]

    async def turns(self, seconds_max: float) -> bool:
        """Return whether the engine ends a turn of its work within so long.

        Only of one whose metrics page waits for that; one that is not there is not late.
        """
        try:
            async with asyncio.timeout(seconds_max):
                async with self._open.get(
                    self._base + self._launch.metrics_path,
                    timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS_MAX),
                ) as response:
                    await response.read()
        except (aiohttp.ClientError, OSError) as error:
            # aiohttp's own timeout is of the connection, and no turn.
            return isinstance(error, aiohttp.ClientError) or not isinstance(error, TimeoutError)
        return True

    async def look(self) -> tuple[str, EngineLoad]:
        """Return the metrics page and how busy the engine is by it, unknown where there is none."""
        page = await self.metrics()
        return page, parse_load(page, self._launch.load_metrics) if page else UNKNOWN_LOAD

    async def tokenize(self, text: str) -> tuple[int, ...]:
        """Return the text's token ids by llama.cpp's `/tokenize`, () when it gives none."""
        body = {"content": text, "add_special": False, "parse_special": False}
        try:
            async with asyncio.timeout(_METRICS_SECONDS_MAX):
                async with self._open.post(f"{self._base}/tokenize", json=body) as response:
                    values = await response.json() if response.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return ()
        return tuple(values.get("tokens") or ())

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use the client inside its `async with`"
        return self._session


async def _fault_of(response: aiohttp.ClientResponse) -> RequestFault:
    try:
        data = await response.content.read(_ERROR_BYTES_MAX)
    except (aiohttp.ClientError, TimeoutError):
        data = b""
    message = _message(data) or f"the engine answered {response.status}"
    match response.status:
        case 404:
            return RequestFault(code=error_pb2.ERROR_CODE_MODEL_NOT_FOUND, message=message)
        case 429 | 503:
            return RequestFault(
                code=error_pb2.ERROR_CODE_OVERLOADED, message=message, retryable=True
            )
        case status if 400 <= status < 500:
            return RequestFault(code=error_pb2.ERROR_CODE_INVALID_ARGUMENT, message=message)
    return unavailable(message)


def _message(data: bytes) -> str:
    try:
        values = json.loads(data)
    except ValueError:
        return data.decode(errors="replace")[:500]
    error = values.get("error", values) if isinstance(values, dict) else values
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:1_000]
