"""Which host a plane tells others to come to, when that is not the address it listens on.

`settings` asks once at start. Users, peers and the control plane are told the answer; peers look
names up in IPv4 only, and tell planes apart by their certificates' names, never by their hosts.
"""

import ipaddress
import re
import socket
from collections.abc import Callable

HOST_CHARS_MAX = 253  # of a DNS name
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?")
REMEDY = "tell gateway.advertised_host, a name or an IPv4 address that others reach this plane by"


def advertised_host(told: str, bound: str, machine: Callable[[], str]) -> str:
    """Return the host to tell others: what is told, else what is bound, else the machine's name.

    Raises ValueError with the remedy when that is nothing that others could come to.
    """
    host = told or bound
    if is_wildcard(host):
        if told:
            raise ValueError(f"{told} is every address and nobody's; {REMEDY}")
        host = machine()
        if not host or host.split(".")[0] == "localhost":
            raise ValueError(
                f"the gateway listens on {bound}, and this machine's name is {host!r}; {REMEDY}"
            )
    if _is_ipv6(host):
        raise ValueError(f"{host!r} is IPv6, where peers do not come; {REMEDY}")
    if len(host) > HOST_CHARS_MAX or _HOST.fullmatch(host) is None:
        raise ValueError(f"{host[:80]!r} is neither a host's name nor an address; {REMEDY}")
    return host


def is_wildcard(host: str) -> bool:
    """Return whether the host stands for all addresses of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def machine_name() -> str:
    """Return this machine's name, with its domain where the resolver knows one."""
    name = socket.gethostname()
    # Resolvers often know the machine only as its loopback's name, which leads elsewhere to itself.
    full = socket.getfqdn(name)
    return name if full.split(".")[0] == "localhost" else full


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).version == 6
    except ValueError:
        return False
