"""Hosts of a fleet as network namespaces on one bridge, whose paths can be cut in one direction.

A cut gives the sender a neighbour address that nobody has: its packets leave and never arrive, as
on a network that drops them, and nothing is told to either side. Needs root, `ip` and a kernel
with network namespaces, veth and bridges; nothing of nft or tc, which not every kernel has.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")

_CLONE_NEWNET = 0x40000000
_NOBODY = "02:00:00:00:00:66"  # an address that no interface here has
_COMMAND_SECONDS_MAX = 10.0


def why_not() -> str:
    """Return why networks cannot be made here; empty when they can."""
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    if shutil.which("ip") is None:
        return "needs `ip` of iproute2"
    probe = f"skp{os.getpid() % 100_000}"
    try:
        ip("netns", "add", probe)
        try:
            ip("link", "add", f"{probe}v", "type", "veth", "peer", "name", "eth0", "netns", probe)
            ip("link", "add", f"{probe}b", "type", "bridge")
        finally:
            for link in (f"{probe}v", f"{probe}b"):
                with contextlib.suppress(OSError):
                    ip("link", "del", link)
            ip("netns", "del", probe)
    except OSError as error:
        return f"this kernel makes no namespaces, veth or bridges: {error}"
    return ""


def ip(*arguments: str) -> None:
    """Run `ip`; OSError with what it says when it refuses."""
    ran = subprocess.run(
        ["ip", *arguments],
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS_MAX,
        check=False,
    )
    if ran.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {ran.stderr.strip()}")


@dataclass(slots=True)
class Network:
    """Hosts by name with their addresses; the test itself is on the bridge."""

    prefix: str
    subnet: str
    hosts: dict[str, str] = field(default_factory=dict)
    _cuts: set[tuple[str, str]] = field(default_factory=set)

    def namespace(self, host: str) -> str:
        """Return the name of a host's namespace."""
        return f"{self.prefix}-{host}"

    def add(self, host: str) -> str:
        """Make a host and return its address."""
        number = len(self.hosts) + 10
        address, name, link = f"{self.subnet}.{number}", self.namespace(host), self._link(number)
        ip("netns", "add", name)
        self.hosts[host] = address
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", link, "master", self.bridge, "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        return address

    @property
    def bridge(self) -> str:
        """Return the bridge's name."""
        return f"{self.prefix}b"

    def inside(self, host: str, call: Callable[[], Value]) -> Value:
        """Call something on a host: sockets it opens and processes it starts are there."""

        def entered() -> Value:
            descriptor = os.open(f"/run/netns/{self.namespace(host)}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
            finally:
                os.close(descriptor)
            return call()

        # A namespace is a thread's own, and what a thread starts inherits it.
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(entered).result()

    def cut(self, source: str, target: str) -> None:
        """Lose everything that one host sends to another; the other direction goes on."""
        neighbour = ("neigh", "replace", self.hosts[target], "lladdr", _NOBODY)
        ip("-n", self.namespace(source), *neighbour, "dev", "eth0", "nud", "permanent")
        self._cuts.add((source, target))

    def cut_off(self, host: str) -> None:
        """Lose everything to and from a host, the test's own requests as well."""
        ip("-n", self.namespace(host), "link", "set", "eth0", "down")
        self._cuts.add((host, ""))

    def heal(self) -> None:
        """End every cut."""
        for source, target in self._cuts:
            name = self.namespace(source)
            if target:
                ip("-n", name, "neigh", "del", self.hosts[target], "dev", "eth0")
            else:
                ip("-n", name, "link", "set", "eth0", "up")
        self._cuts.clear()

    def _link(self, number: int) -> str:
        return f"{self.prefix}v{number}"


@contextlib.contextmanager
def a_network() -> Iterator[Network]:
    """Yield an empty network; nothing of it is left at the end."""
    number = os.getpid() % 100_000
    network = Network(f"sk{number}", f"10.213.{number % 250 + 1}")
    ip("link", "add", network.bridge, "type", "bridge")
    try:
        ip("addr", "add", f"{network.subnet}.1/24", "dev", network.bridge)
        ip("link", "set", network.bridge, "up")
        yield network
    finally:
        for host in network.hosts:
            with contextlib.suppress(OSError):
                ip("netns", "del", network.namespace(host))
        ip("link", "del", network.bridge)


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Have the folder be a file system of that size for the block; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        for log in (path for path in folder.rglob("*log") if path.is_file()):
            shutil.copy(log, folder.with_name(f"{folder.name}.{log.name}"))
        # Lazily: what was killed a moment ago may still hold a file.
        _run("umount", "-l", str(folder))


def fill(folder: Path) -> Path:
    """Take all that is left of the folder's disk; remove the file that is returned to give back."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_COMMAND_SECONDS_MAX)
