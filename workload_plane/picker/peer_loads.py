"""How busy the peers are: each one's picker is asked once a second, at its gateway, over mTLS.

A peer that does not answer is unknown, and unknown means that nothing is spilled there by load.
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping

import aiohttp

from skerry.plumbing.clock import Clock
from skerry.plumbing.rpc import TlsFiles
from workload_plane.picker.facts import PeerLoad
from workload_plane.picker.wire import LOAD_PATH

POLL_SECONDS = 1.0
_ANSWER_SECONDS_MAX = 2.0  # a round trip around the world and a handshake
_LOAD_BYTES_MAX = 1024 * 1024
_COUNT_MAX = 2**31 - 1  # of requests or replicas; a larger one is no float any more

Loads = Mapping[str, PeerLoad] | None


def parse_loads(data: bytes) -> dict[str, PeerLoad]:
    """Return a peer's loads by deployment; raises ValueError for anything else."""
    try:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError("not an object")
        return {
            name: PeerLoad(_count(load["in_flight_min"], least=-1), _count(load["ready"]))
            for name, load in values.items()
        }
    # One peer's nonsense would otherwise end the picker, and nobody here would be served.
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not a peer's loads: {error!r}") from None


def _count(told: object, least: int = 0) -> int:
    if type(told) is not int or not least <= told <= _COUNT_MAX:
        raise ValueError("a load is a count")
    return told


class PeerLoads:
    """Asks all peers for ever."""

    def __init__(self, session: aiohttp.ClientSession, tls: TlsFiles, clock: Clock) -> None:
        """Show the plane's own certificate."""
        self._session = session
        self._tls = tls
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        self._known: ssl.SSLContext | None = None

    async def follow(
        self, peers: Callable[[], Mapping[str, str]], on_answer: Callable[[str, Loads], None]
    ) -> None:
        """Ask whoever is a peer (addresses by plane) now, and hand on each answer."""
        while True:
            known = peers()
            context = await asyncio.to_thread(self._context) if known else None
            if context is not None:
                asked = [self._ask(p, address, context) for p, address in known.items()]
                for plane, loads in zip(known, await asyncio.gather(*asked), strict=True):
                    on_answer(plane, loads)
            await self._clock.sleep(POLL_SECONDS)

    async def _ask(self, plane: str, address: str, context: ssl.SSLContext) -> Loads:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS_MAX)
        try:
            async with self._session.get(
                f"https://{address}{LOAD_PATH}", ssl=context, server_hostname=plane, timeout=timeout
            ) as answer:
                if answer.status != 200:
                    return None
                data = bytearray()
                async for piece in answer.content.iter_any():  # its length need not be told
                    data += piece
                    if len(data) > _LOAD_BYTES_MAX:
                        return None
                return parse_loads(bytes(data))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    def _context(self) -> ssl.SSLContext | None:
        """Return the context of the certificate as it is now: it is renewed from time to time."""
        try:
            stamp = (self._tls.cert.stat().st_mtime_ns, self._tls.ca.stat().st_mtime_ns)
            if stamp == self._stamp:
                return self._known
            context = ssl.create_default_context(cafile=str(self._tls.ca))
            context.load_cert_chain(str(self._tls.cert), str(self._tls.key))
        except (OSError, ssl.SSLError):
            return self._known  # being renewed; the next look has it whole
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._stamp, self._known = stamp, context
        return context
