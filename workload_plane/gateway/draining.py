"""The end of a gateway that loses nothing: peers and clients go elsewhere, streams end here.

`plane.py` calls it before it ends Envoy, which on SIGTERM cuts everything at once. Sockets close
only after peers had time to notice, so that nobody meets a refusal that it had not to. The relay's
listener stays open: streams that come on open connections still pass it.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import aiohttp

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock

_log = logs.get_logger(__name__)

# Peers look twice a second and believe a refusing answer at once; clients' own looks are rarer.
NOTICE_SECONDS = 2.0
# The longest answer (2,000 tokens at 80 ms) takes 160 s.
DRAIN_SECONDS_MAX = 180.0
_LOOK_SECONDS = 0.2
_ADMIN_SECONDS = 2.0
_ACTIVE = re.compile(r"^http\.(?:public|peer|inner)\.downstream_rq_active: (\d+)$", re.MULTILINE)


class Drained(NamedTuple):
    """How a drain ended: whether Envoy answered at all, and how many requests were left."""

    answered: bool
    left: int


async def drain_gateway(
    admin_port: int,
    clock: Clock,
    seconds_max: float = DRAIN_SECONDS_MAX,
    told: Callable[[int], None] = lambda _: None,
) -> Drained:
    """Turn everybody away and wait until the requests under way have ended, within the bound.

    `told` hears how many are left whenever that changes. Envoy still runs afterwards.
    """
    timeout = aiohttp.ClientTimeout(total=_ADMIN_SECONDS)
    base = f"http://127.0.0.1:{admin_port}"
    async with aiohttp.ClientSession(base, timeout=timeout) as admin:
        # Answers say "connection: close" or GOAWAY from here on, and /health says 503.
        if not await _post(admin, "/healthcheck/fail"):
            return Drained(answered=False, left=0)
        await clock.sleep(NOTICE_SECONDS)
        if not await _post(admin, "/drain_listeners?inboundonly"):
            _log.warning("gateway.listeners-not-drained", remedy="new connections may still come")
        left = before = await _active(admin)
        deadline = clock.monotonic() + seconds_max
        while left and clock.monotonic() < deadline:
            if left != before:
                told(left)
                before = left
            await clock.sleep(_LOOK_SECONDS)
            left = await _active(admin)
        return Drained(answered=True, left=left)


async def _post(admin: aiohttp.ClientSession, path: str) -> bool:
    try:
        async with admin.post(path) as response:
            return response.status == 200
    except (TimeoutError, aiohttp.ClientError):
        return False


async def _active(admin: aiohttp.ClientSession) -> int:
    """Return how many requests are under way; 0 when Envoy is gone."""
    try:
        async with admin.get("/stats", params={"filter": "downstream_rq_active$"}) as response:
            return sum(map(int, _ACTIVE.findall(await response.text())))
    except (TimeoutError, aiohttp.ClientError):
        return 0
