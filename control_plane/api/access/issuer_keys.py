"""An issuer's public keys, fetched beside the calls and kept: who calls never waits for a fetch.

One exception: a key that nobody has seen yet is waited for, as issuers sign with a new key from
one moment to the next. That too is bounded, in time and in how often it happens.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import aiohttp
import jwt

from control_plane.access_settings import OidcSettings
from control_plane.api.access.oidc import JWKS_BYTES_MAX, Keys, read_keys
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Corrupt, Unauthenticated, Unavailable
from skerry.plumbing.tasks import first_of

_log = logs.get_logger(__name__)

REFRESH_SECONDS = 300.0
# Between two fetches, whatever is asked for: unknown keys are refused without one meanwhile, so
# that nobody has us flood the issuer with made-up key ids.
REFETCH_SECONDS_MIN = 30.0
FETCH_SECONDS_MAX = 5.0
# How long a call waits for a key that nobody has seen.
KEY_SECONDS_MAX = 3.0
# An issuer that is away for so long could have withdrawn any of them.
KEPT_FOR = timedelta(hours=24)

Fetch = Callable[[], Awaitable[bytes]]


class IssuerKeys:
    """Holds the keys of one issuer."""

    def __init__(self, fetch: Fetch, algorithms: tuple[str, ...], clock: Clock) -> None:
        """Hold none yet; `fetch` raises Unavailable."""
        self._fetch = fetch
        self._algorithms = algorithms
        self._clock = clock
        self._keys: Keys = {}
        self._fetched_at: datetime | None = None
        self._tried_at: float | None = None
        self._fault = ""
        self._wanted = asyncio.Event()
        self._tried = asyncio.Event()

    async def keep_fresh(self) -> None:
        """Fetch now, every five minutes, and when a key is wanted that is not there; for ever."""
        while True:
            self._wanted.clear()
            await self._try()
            done, self._tried = self._tried, asyncio.Event()
            done.set()
            await self._clock.sleep(REFETCH_SECONDS_MIN)
            rest = REFRESH_SECONDS - REFETCH_SECONDS_MIN if self._keys else 0.0
            if rest:
                await first_of(self._wanted.wait(), self._clock.sleep(rest))

    async def key(self, kid: str, algorithm: str) -> jwt.PyJWK:
        """Return a key; Unauthenticated where the issuer has none such, Unavailable while unknown.

        The issuer's absence ends nothing for a day: what it signed can still be checked.
        """
        if (kid, algorithm) not in self._keys and self._may_try():
            tried = self._tried
            self._wanted.set()
            await first_of(tried.wait(), self._clock.sleep(KEY_SECONDS_MAX))
        if self._fetched_at is None or self._clock.now() - self._fetched_at > KEPT_FOR:
            raise Unavailable(
                "the issuer's keys cannot be had at present, so its tokens cannot be checked;"
                " a service token works",
                retry_after_seconds=REFETCH_SECONDS_MIN,
            )
        key = self._keys.get((kid, algorithm))
        if key is None:
            raise Unauthenticated("the token is signed with a key that the issuer does not have")
        return key

    def _may_try(self) -> bool:
        if self._tried_at is None:
            return True
        return self._clock.monotonic() - self._tried_at >= REFETCH_SECONDS_MIN

    async def _try(self) -> None:
        self._tried_at = self._clock.monotonic()
        try:
            keys = read_keys(await self._fetch(), self._algorithms)
        except (Unavailable, Corrupt) as error:
            if error.message != self._fault:
                _log.warning("issuer.keys-not-fetched", error=error.message)
            self._fault = error.message
            return
        if self._fault or keys.keys() != self._keys.keys():
            _log.info("issuer.keys", keys=len({kid for kid, _ in keys}))
        self._keys, self._fetched_at, self._fault = keys, self._clock.now(), ""


def fetcher(oidc: OidcSettings) -> Fetch:
    """Return what gets the key set from where the settings say, and from nowhere else."""

    async def fetch() -> bytes:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS_MAX)
        try:
            trusted = ssl.create_default_context(cafile=oidc.ca)
            connector = aiohttp.TCPConnector(ssl=trusted)
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                # No redirect: only the operator says who may tell us keys.
                async with session.get(oidc.jwks_url, allow_redirects=False) as response:
                    if response.status != 200:
                        raise Unavailable(f"the issuer answered {response.status} for its keys")
                    return await _read(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise Unavailable(f"the issuer's keys could not be fetched: {why[:200]}") from None

    return fetch


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_chunked(16 * 1024):
        data += piece
        if len(data) > JWKS_BYTES_MAX:
            raise Unavailable(f"the issuer's key set has more than {JWKS_BYTES_MAX} bytes")
    return bytes(data)
