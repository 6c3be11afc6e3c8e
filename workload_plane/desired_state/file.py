"""The desired state on disk: durable before it is acknowledged, with the copy before it kept.

The agent loads it at start and the link stores what was accepted. When no copy can be read it
raises: the agent then keeps what runs and asks, and never starts empty. The highest version is
kept beside them alone: damage of the newest copy makes nothing older acceptable.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skerry.fleet.generation import NEVER, Version
from skerry.plumbing.errors import Corrupt
from skerry.plumbing.files import (
    clean_temporaries,
    previous_path,
    write_atomically,
    write_keeping_previous,
)
from workload_plane.desired_state.format import (
    StoredDesired,
    decode,
    decode_seen,
    encode,
    encode_seen,
    parse,
    version_in,
)

_MODE = 0o600  # what a plane is told to run is no engine's to know
FILE_BYTES_MAX = 16 * 1024 * 1024  # four times the largest message of the link


class UnreadableDesired(Corrupt):
    """Neither copy can be used; `seen` is the highest version that the disk still names."""

    def __init__(self, message: str, seen: Version) -> None:
        """Keep what was still legible, so that nothing older is accepted afterwards."""
        super().__init__(message)
        self.seen = seen


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDesired:
    """What the disk holds; `fault` says why the copy before the newest was taken, if it was."""

    stored: StoredDesired
    seen: Version
    fault: str | None = None


class DesiredStateFile:
    """The one writer of a plane's desired-state file."""

    def __init__(self, path: Path) -> None:
        """Remember the path; touches nothing."""
        self._path = path

    def prepare(self) -> None:
        """Make the directory and remove what a killed writer left; call once at start."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        clean_temporaries(self._path.parent)

    def load(self) -> LoadedDesired | None:
        """Return the newest readable copy; None when this plane was never told anything.

        Raises UnreadableDesired when there were copies and none can be used.
        """
        faults: list[str] = []
        seen = self._seen()
        found: StoredDesired | None = None
        for path, data in self._copies():
            seen = max(seen, version_in(data))
            if found is not None:
                continue
            try:
                found = decode(data)
            except Corrupt as error:
                faults.append(f"{path.name}: {error}")
        if found is not None:
            if not self._path.exists():
                # A rename never leaves this behind: somebody or something removed it.
                faults.append(f"{self._path.name} is not there")
            return LoadedDesired(stored=found, seen=seen, fault="; ".join(faults) or None)
        if seen > NEVER:
            faults.append(f"{self._path.name} is not there")
        if faults:
            raise UnreadableDesired(f"no desired state can be read: {'; '.join(faults)}", seen)
        return None

    def store(self, payload: bytes) -> StoredDesired:
        """Make the message durable and return its value; raises Corrupt or OSError unchanged.

        The copy before it stays as `.prev`, unless that copy was unreadable.
        """
        stored = parse(payload)
        version = stored.state.version
        data = encode(payload, version)
        # First: what is acknowledged is then never above what this tells.
        write_atomically(seen_path(self._path), encode_seen(version))
        write_keeping_previous(self._path, data, is_whole=_is_whole, mode=_MODE)
        return stored

    def _seen(self) -> Version:
        """Return the highest version that is kept alone; NEVER where it is illegible or older."""
        path = seen_path(self._path)
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                return NEVER
            return decode_seen(path.read_bytes())
        except (OSError, Corrupt):
            return NEVER  # an earlier release kept none, and the copies name theirs

    def _copies(self) -> Iterator[tuple[Path, bytes]]:
        for path in (self._path, previous_path(self._path)):
            try:
                if path.stat().st_size > FILE_BYTES_MAX:
                    yield path, b""
                else:
                    yield path, path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError:
                yield path, b""  # there, but unreadable: that is damage, not absence


def seen_path(path: Path) -> Path:
    """Return where the highest version is kept alone."""
    return path.with_name(f"{path.name}.seen")


def _is_whole(data: bytes) -> bool:
    try:
        decode(data)
    except Corrupt:
        return False
    return True
