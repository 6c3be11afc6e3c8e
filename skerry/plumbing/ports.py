"""TCP ports of this machine: find a free one, ask about one, refuse one that is taken.

Called by whoever starts a listening process, before it starts it.
"""

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Iterator

from skerry.plumbing.errors import Conflict

# Loopback answers in microseconds; a peer behind a dropping firewall never does.
_CONNECT_SECONDS_MAX = 1.0
# Above the ports that Ray gives its workers (10,002 to 19,999), below those that Linux gives to
# outgoing connections by default. The lower part is for listeners whose port is written down before
# they start, and while they are down: a replica that came meanwhile took a gateway's port.
_FIXED_FIRST, _FIXED_END = 20_000, 24_000
_PORT_FIRST, _PORT_END = 24_000, 32_768
# Far apart for neighbouring processes, which ask at the same time; prime to the span.
_PROCESS_STRIDE = 4_099
_CANDIDATES_TRIED_MAX = 1_000


def _candidates(first: int, end: int) -> Iterator[int]:
    span = end - first
    start = os.getpid() * _PROCESS_STRIDE
    return (first + (start + step) % span for step in itertools.count())


_CANDIDATES = _candidates(_PORT_FIRST, _PORT_END)
_FIXED_CANDIDATES = _candidates(_FIXED_FIRST, _FIXED_END)


def free_port(host: str) -> int:
    """Return a port of `host` that nothing listens on at this moment.

    Below the ports that the kernel gives to outgoing connections where there is one: such a
    connection of anybody took the port between this answer and the listener's start (Envoy's
    "Address already in use" in 1 of 4 busy test runs).
    """
    return _first_free(host, _CANDIDATES)


def fixed_port(host: str) -> int:
    """Return a free port for a listener of which others read before it listens.

    `free_port`, which a process asks that starts listeners at once, never gives one of these.
    """
    return _first_free(host, _FIXED_CANDIDATES)


def _first_free(host: str, candidates: Iterator[int]) -> int:
    for port in itertools.islice(candidates, _CANDIDATES_TRIED_MAX):
        try:
            _bound(host, port).close()
        except OSError:
            continue
        return port
    with _bound(host, 0) as bound:
        return int(bound.getsockname()[1])


async def is_listening(host: str, port: int) -> bool:
    """Return whether something accepts connections there within a second."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS_MAX):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.transport.abort()
    return True


def check_port_free(host: str, port: int) -> None:
    """Raise Conflict naming the port, and the process on it when the kernel tells."""
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        pid = _listener_pid(port)
        holder = f" by process {pid}" if pid else ""
        raise Conflict(
            f"port {port} of {host} is taken{holder}; stop that or choose another port",
            hints={"port": str(port), "pid": str(pid or "")},
        ) from None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # As servers do it: connections that are still closing do not make a port taken.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # Two sockets with SO_REUSEADDR may bind one port; only one of them may listen.
        bound.listen(1)
    except OSError:
        bound.close()
        raise
    return bound


def _listener_pid(port: int) -> int | None:
    import psutil  # only for this message: it costs every process 2.5 MB and its start-up time

    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,):
            return connection.pid
    return None
