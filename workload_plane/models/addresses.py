"""Which addresses a base model may be fetched from: the public ones, unless the settings say more.

A URI comes from outside: without this the plane would fetch its cloud's metadata for anybody. What
is checked is the address that is connected to, so a name that changes its answer gains nothing.
"""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from skerry.plumbing.errors import Denied

_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
# What a host's name may be. Look-alikes of digits and dots, escapes and a dot at the end are how an
# address is passed off as a name, which the resolver is then never asked for.
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
# RFC 6052: the last 32 bits are an IPv4 address that a gateway connects to.
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Say whether the address is one of the open internet, whatever it is written in."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address.teredo is not None:
            return False
        if inner is not None:
            address = inner
    return address.is_global and not address.is_multicast


def check_url(text: str) -> URL:
    """Return the URL to connect to; raises Denied for an address that is not public, or no name.

    What is returned is to be asked for, not the text: two readers of one text may find two hosts.
    """
    try:
        url = URL(text)
        written, host = urlsplit(text).netloc, url.raw_host or ""
    except ValueError:
        raise _denied(text[:200], text[:200]) from None
    if not written.isascii():
        raise _denied(written, host)
    check_host(host)
    return url


def check_host(host: str) -> None:
    """Raise Denied when the host is an address that is not public, or neither address nor name."""
    try:
        fine = is_public(host.strip("[]"))
    except ValueError:
        # A name: the resolver looks at what it stands for. But 0x7f.1 and 2130706433 are none.
        fine = bool(_NAME.fullmatch(host)) and not _NUMERIC.fullmatch(host.rpartition(".")[2])
    if not fine:
        raise _denied(host, host)


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses alone; one other address among them refuses the name."""

    def __init__(self) -> None:
        """Ask the machine's own resolver."""
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the host's addresses; raises Denied when any of them is not public."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if not is_public(one["host"]):
                raise _denied(host, one["host"])
        return found

    async def close(self) -> None:
        """Release nothing."""
        await self._inner.close()


def _denied(host: str, address: str) -> Denied:
    where = host if host == address else f"{host} ({address})"
    return Denied(
        f"{where} is no public address and no plain name of one; to fetch base models from there"
        " set model_cache.allow_private_addresses in the plane's settings"
    )
