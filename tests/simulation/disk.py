"""An agent's disk: the product's own file format and loader over bytes that a power cut may tear.

`DesiredStateFile` reads through `SimPath`. Writing follows `skerry.plumbing.files` step by step,
so that a crash may come between any two of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import cast

from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.plumbing.errors import Corrupt
from tests.simulation.timeline import Process
from workload_plane.desired_state import file as desired_file
from workload_plane.desired_state import format as desired_format

NAME = "desired_state"
PREVIOUS, SEEN = f"{NAME}.prev", f"{NAME}.seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Damage of one copy: torn off, or one bit flipped, `at` a fraction of its length."""

    copy: str
    at: float
    torn: bool


@dataclass(frozen=True, slots=True)
class _Stat:
    st_size: int


class SimPath:
    """As much of a pathlib.Path as the loader asks for."""

    def __init__(self, files: dict[str, bytes], name: str) -> None:
        self._files = files
        self.name = name

    def with_name(self, name: str) -> "SimPath":
        """Return a neighbour."""
        return SimPath(self._files, name)

    def exists(self) -> bool:
        """Say whether there is such a file."""
        return self.name in self._files

    def stat(self) -> _Stat:
        """Return its size; raises FileNotFoundError."""
        return _Stat(len(self.read_bytes()))

    def read_bytes(self) -> bytes:
        """Return its content; raises FileNotFoundError."""
        try:
            return self._files[self.name]
        except KeyError:
            raise FileNotFoundError(self.name) from None


class SimDisk:
    """What is on the disk, what of it a power cut would take back, and how slow it is."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.files: dict[str, bytes] = {}
        self._unsynced: dict[str, bytes] | None = None  # as it was before the last rename
        self.sync_seconds = 0.01
        self.full = False
        self.stored: list[tuple[Version, bytes]] = []  # whatever was ever made durable

    def load(self) -> desired_file.LoadedDesired | None:
        """Load as the agent does at its start; raises UnreadableDesired."""
        path = cast(Path, SimPath(self.files, NAME))
        return desired_file.DesiredStateFile(path).load()

    def store(self, process: Process, payload: bytes, done: Callable[[], None]) -> None:
        """Make a message durable in three steps with time between them; then `done`."""
        version = parsed(payload).version
        data = desired_format.encode(payload, version)
        process.after(self.sync_seconds, lambda: self._rename(process, data, version, done))

    def _rename(
        self, process: Process, data: bytes, version: Version, done: Callable[[], None]
    ) -> None:
        self.files[SEEN] = desired_format.encode_seen(version)
        self._unsynced = dict(self.files)
        newest = self.files.get(NAME)
        if newest is not None and _is_whole(newest):
            self.files[PREVIOUS] = newest
        self.files[NAME] = data
        self.stored.append((version, data))

        def synced() -> None:
            self._unsynced = None
            done()

        process.after(self.sync_seconds / 2, synced)

    def cut_power(self) -> None:
        """Take back what was not synced, or half of it."""
        if self._unsynced is not None and self._random.random() < 0.5:
            self.files = self._unsynced
        self._unsynced = None

    def damage(self, cuts: Iterable[Cut]) -> list[str]:
        """Tear or flip copies that are there: a disk that lied when it said that it had synced.

        Returns which of them are damaged now.
        """
        done = []
        for cut in cuts:
            data = self.files.get(cut.copy)
            if data:
                at = min(int(cut.at * len(data)), len(data) - 1)
                rest = b"" if cut.torn else bytes([data[at] ^ 1]) + data[at + 1 :]
                self.files[cut.copy] = data[:at] + rest
                done.append(cut.copy)
        return done


@lru_cache(maxsize=4_000)
def parsed(payload: bytes) -> DesiredState:
    """Return a push's value; raises Corrupt. Many seeds are pushed the same."""
    return desired_format.parse(payload).state


@lru_cache(maxsize=4_000)
def digest_of(payload: bytes) -> bytes:
    """Return the digest that a push tells of itself."""
    return desired_format.digest_in(payload)


@lru_cache(maxsize=4_000)
def _is_whole(data: bytes) -> bool:
    try:
        desired_format.decode(data)
    except Corrupt:
        return False
    return True
