"""Addresses of peers' gateways by host name: looked up beside everything else, never forgotten.

The feed asks for what is known now and publishes with it; a name server that is slow, dead or
empty delays no publication and removes no peer.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.tasks import first_of
from workload_plane.gateway.routing import Hosts

_log = logs.get_logger(__name__)

# A peer's new address is noticed within it; a name server takes a question per peer as often.
LOOKUP_PAUSE_SECONDS = 5.0
# What is not answered by then is waited for beside the next round.
LOOKUP_SECONDS_MAX = 2.0
# The resolver gives up after 10 to 30 s, which blocks a thread; so many names may be dead before
# living ones wait for them. Threads of their own: files are written in the loop's.
LOOKUP_THREADS_MAX = 8

LookUp = Callable[[str], str]


def look_up(name: str) -> str:
    """Return an address of the host; raises OSError when there is none."""
    found = socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    return str(found[0][4][0])


class PeerHosts:
    """The last good address of every host name that was ever asked for."""

    def __init__(self, changed: asyncio.Event, clock: Clock, look_up: LookUp = look_up) -> None:
        """Set `changed` whenever an address becomes known or another; resolves nothing yet."""
        self._changed = changed
        self._clock = clock
        self._look_up = look_up
        self._known: dict[str, str] = {}
        self._assumed: dict[str, str] = {}
        self._wanted: set[str] = set()
        self._asked = asyncio.Event()
        self._under_way: dict[str, asyncio.Future[str]] = {}
        self._faults: dict[str, str] = {}

    def known(self, names: Iterable[str]) -> Hosts:
        """Return what is known of the names now; those that are new are looked up soon."""
        wanted = {name for name in names if name}
        for name in wanted:
            if _is_address(name):
                self._known[name] = name
        wanted = {name for name in wanted if not _is_address(name)}
        if not wanted <= self._wanted:
            self._asked.set()
        self._wanted = wanted
        return Hosts(known={**self._assumed, **self._known})

    def assume(self, addresses: Mapping[str, str]) -> None:
        """Use these addresses of names that nothing has resolved in this run of the agent."""
        self._assumed = dict(addresses)

    async def resolve_forever(self) -> None:
        """Look up all wanted names now and then, and at once when there is a new one."""
        executor = ThreadPoolExecutor(LOOKUP_THREADS_MAX, thread_name_prefix="peer-hosts")
        try:
            while True:
                self._asked.clear()
                await self._round(executor)
                await first_of(self._clock.sleep(LOOKUP_PAUSE_SECONDS), self._asked.wait())
        finally:
            for future in self._under_way.values():
                future.cancel()
            self._under_way.clear()
            executor.shutdown(wait=False, cancel_futures=True)

    async def _round(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        for name in sorted(self._wanted - self._under_way.keys()):
            self._under_way[name] = loop.run_in_executor(executor, self._look_up, name)
        if not self._under_way:
            return
        await first_of(self._clock.sleep(LOOKUP_SECONDS_MAX), _all_of(self._under_way.values()))
        for name, future in list(self._under_way.items()):
            if future.done():
                del self._under_way[name]
                self._take(name, future)
            else:
                self._complain(name, f"no answer within {LOOKUP_SECONDS_MAX:.0f} s")

    def _take(self, name: str, future: asyncio.Future[str]) -> None:
        try:
            address = future.result()
        except (OSError, ValueError, IndexError) as error:  # ValueError: no name at all
            self._complain(name, str(error))
            return
        self._faults.pop(name, None)
        if self._known.get(name) != address:
            self._known[name] = address
            self._changed.set()

    def _complain(self, name: str, fault: str) -> None:
        if self._faults.get(name) != fault:
            self._faults[name] = fault
            kept = self._known.get(name) or self._assumed.get(name, "none")
            _log.warning("peer.not-resolved", host=name, error=fault, kept=kept)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _all_of(futures: Iterable[asyncio.Future[str]]) -> None:
    await asyncio.wait(list(futures))
