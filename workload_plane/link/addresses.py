"""Where control planes' names lead: the last good answer of the resolver, never an empty one.

A channel of gRPC asks anew and fails when the resolver is silent or its answer is empty, though the
control plane is where it was. `client.py` asks here and gives gRPC addresses in place of names.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from skerry.plumbing import logs

_log = logs.get_logger(__name__)

LOOKUP_SECONDS_MAX = 2.0  # then the last good answer is as good as any
ADDRESSES_MAX = 16  # of one name; gRPC tries them in turn

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


class Addresses:
    """Turns `host:port` into a gRPC target, with what was found last where nothing is found now."""

    def __init__(self, lookup: Lookup | None = None) -> None:
        """Ask this machine's resolver unless told another `lookup`: (host, port) to addresses."""
        self._lookup = lookup or _Resolver().lookup
        self._last: dict[str, str] = {}
        self._missing: set[str] = set()

    async def target(self, address: str) -> str:
        """Return what to connect to; the name itself while it was never found."""
        host, _, port = address.rpartition(":")
        if _is_literal(host) or not port.isdigit():
            return address
        try:
            async with asyncio.timeout(LOOKUP_SECONDS_MAX):
                found = await self._lookup(host, int(port))
        except OSError as error:  # TimeoutError is one
            found = ()
            if address not in self._missing:  # once, not with every try
                told = str(error) or "no answer"
                _log.warning("link.name-not-found", address=address, error=told)
            self._missing.add(address)
        if target := _target(found, port):
            self._last[address] = target
            self._missing.discard(address)
        return self._last.get(address, address)


class _Resolver:
    """The machine's resolver on a thread of its own: one that hangs must hold up nothing else."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="resolver")

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        """Return the name's addresses; OSError when there are none."""
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(
            self._thread,
            lambda: socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            ),
        )
        return [str(row[4][0]) for row in rows]


def _target(addresses: Sequence[str], port: str) -> str:
    """Return gRPC's notation of addresses of one family, IPv4 before IPv6; empty of none."""
    known = dict.fromkeys(addresses)
    for version, scheme, form in ((4, "ipv4", "{}:{}"), (6, "ipv6", "[{}]:{}")):
        same = [one for one in known if ipaddress.ip_address(one.split("%")[0]).version == version]
        if same:
            return f"{scheme}:" + ",".join(form.format(one, port) for one in same[:ADDRESSES_MAX])
    return ""


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
