"""A directory of a replica's own for prefixes on disk, below the plane's directory for them.

The replica host makes it before its engine starts, and the engine's processes inherit its lock: the
kernel frees it once the last of them is gone, also after a `kill -9` of host or agent. Whoever can
take the lock, and finds no process of the replica, removes the directory: the host at its end, or
`sweep_prefixes` later.
"""

import contextlib
import dataclasses
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, Exhausted, InvalidInput, Unavailable
from workload_plane.engine_user import EngineUser
from workload_plane.engines.port import keeps_prefixes_on_disk
from workload_plane.replica_host.ending import DIRECTORY_SECONDS_MAX
from workload_plane.replica_host.engine_access import give_directory
from workload_plane.replica_host.marks import left_of_marks, mark_of
from workload_plane.replica_host.spec import ReplicaSpec

_log = logs.get_logger(__name__)

# Left alone on the volume: logs and state files of all replicas may be on it as well.
FREE_BYTES_MIN = 1024**3
# A replica's name has no dot, so nothing of somebody else's is taken for one.
_SUFFIX = ".prefixes"
_LEFT_SUFFIX = f"{_SUFFIX}.left"  # nobody's any more; being removed
_BLOCKS = "blocks"  # the engine's; beside it is what was promised
_BOUND = "bytes"
_OWNER = "replica"  # the mark of the processes that may write there
_MODE = 0o700  # what users asked can be read out of a cache
_DEPTH_MAX = 3  # of diskPath below the plane's directory: a mount for each volume, say
_PLACES_MAX = 1_024
# Past this many files the rest is taken to be unwritten: too little is given, never too much.
_FILES_MAX = 200_000
_GUARD_SECONDS_MAX = 30.0
_GUARD_LOOK_SECONDS = 0.05
_GONE_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixPlace:
    """The replica's directory: `blocks` is the engine's, `lock` the descriptor it inherits."""

    root: Path
    directory: Path
    lock: int
    user: EngineUser | None = None  # whose the blocks are, if not this process's

    @property
    def blocks(self) -> Path:
        """Return the directory that the engine is given."""
        return self.directory / _BLOCKS

    def empty(self) -> None:
        """Remove what an engine that is gone has kept; the next one finds nothing of it."""
        shutil.rmtree(self.blocks, ignore_errors=True)
        self.blocks.mkdir(mode=_MODE, exist_ok=True)
        self.hand_over()

    def hand_over(self) -> None:
        """Give the directory to the engine's user."""
        if self.user is not None:
            give_directory(self.blocks, self.user, self.root)

    async def give_back(self, clock: Clock) -> bool:
        """Remove the directory once the engine's last process is gone; False if one lives on."""
        os.close(self.lock)
        deadline = clock.monotonic() + DIRECTORY_SECONDS_MAX
        while True:
            sweep_prefixes(self.root)
            if not self.directory.exists():
                return True
            if clock.monotonic() > deadline:
                _log.warning("prefixes.still-in-use", path=self.directory)
                return False
            await clock.sleep(_GONE_LOOK_SECONDS)


def take_place(spec: ReplicaSpec, user: EngineUser | None = None) -> PrefixPlace | None:
    """Make the replica's directory, None for an engine that keeps no prefixes on disk.

    What the engine writes into is the `user`'s.

    Raises InvalidInput, Exhausted, Conflict or Unavailable, each with the remedy.
    """
    if not keeps_prefixes_on_disk(spec.engine):
        return None
    caching = spec.engine.prefix_caching
    wanted, root = Path(caching.disk_path or ""), spec.prefix_disk_dir
    if root is None or not _is_below(wanted, root):
        raise InvalidInput(
            f"prefixCaching.diskPath {wanted} is not below this plane's prefix_disk_dir,"
            f" {root or 'of which it has none'}: correct one of them"
        )
    try:
        wanted.mkdir(parents=True, exist_ok=True, mode=_MODE)
        sweep_prefixes(root)
        with _guard(root):
            place = _make(
                root,
                wanted / f"{spec.name}{_SUFFIX}",
                mark_of(spec.state_file),
                caching.disk_bytes or 0,
            )
        place = dataclasses.replace(place, user=user)
        place.hand_over()
        return place
    except OSError as error:
        raise Unavailable(
            f"the directory for prefixes below {wanted} cannot be made: {error}; give the volume"
            " room and the agent's user the right to write there, or leave diskPath out"
        ) from None


def sweep_prefixes(root: Path | None) -> int:
    """Remove the directories below `root` whose engines are all gone; return how many.

    What cannot be removed stays for the next time: a sweep ends nobody who serves.
    """
    if root is None or not root.is_dir():
        return 0
    swept = 0
    try:
        with _guard(root):
            left = [path for path in map(_put_aside, _unused(root)) if path is not None]
    except (OSError, Unavailable) as error:
        _log.warning("prefixes.not-swept", path=root, error=str(error))
        return 0
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
        swept += not path.exists()
    if swept:
        _log.info("prefixes.swept", path=root, replicas=swept)
    return swept


def sweep_beside(root: Path | None) -> None:
    """Sweep in a thread: hundreds of GiB take seconds, and replicas are adopted meanwhile."""
    if root is not None and root.is_dir():
        # One that is cut short leaves its directories put aside, for the next sweep.
        threading.Thread(target=sweep_prefixes, args=(root,), daemon=True).start()


def _is_below(wanted: Path, root: Path) -> bool:
    below = wanted.resolve().parts[len(root.resolve().parts) :]
    return wanted.resolve().is_relative_to(root.resolve()) and len(below) <= _DEPTH_MAX


@contextlib.contextmanager
def _guard(root: Path) -> Iterator[None]:
    """Hold off whoever else makes or sweeps below `root`; raises Unavailable after a while."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        waited = 0.0
        while not _lock(descriptor):
            if waited > _GUARD_SECONDS_MAX:
                raise Unavailable(f"{root} is locked by another process for {waited:.0f} s")
            threading.Event().wait(_GUARD_LOOK_SECONDS)
            waited += _GUARD_LOOK_SECONDS
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make(root: Path, directory: Path, owner: str, bound_bytes: int) -> PrefixPlace:
    if directory.exists():
        raise Conflict(f"{directory} is in use by an engine that was left behind; end that first")
    free, promised = _free_bytes(directory.parent), _promised_bytes(root, directory.parent)
    if free - promised < bound_bytes + FREE_BYTES_MIN:
        raise Exhausted(
            f"too little room for prefixes on disk: {directory.parent} has {_gib(free)} free,"
            f" {_gib(promised)} of it promised to other replicas, and {_gib(bound_bytes)} are to"
            f" be kept with {_gib(FREE_BYTES_MIN)} left over; lower prefixCaching.disk, or have"
            " diskPath on a larger volume"
        )
    directory.mkdir(mode=_MODE)
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (directory / _BOUND).write_text(f"{bound_bytes}\n")
        (directory / _OWNER).write_text(owner)
        (directory / _BLOCKS).mkdir(mode=_MODE)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return PrefixPlace(root=root, directory=directory, lock=lock)


def _places(root: Path) -> Iterator[Path]:
    """Yield the replicas' directories below `root`, and those that were being removed."""
    found = 0
    for where, names, _ in os.walk(root):
        mine = [name for name in names if name.endswith((_SUFFIX, _LEFT_SUFFIX))]
        depth = len(Path(where).relative_to(root).parts)
        names[:] = [] if depth >= _DEPTH_MAX else [name for name in names if name not in mine]
        for name in mine:
            found += 1
            if found > _PLACES_MAX:
                return
            yield Path(where) / name


def _unused(root: Path) -> Iterator[Path]:
    """Yield the directories of replicas of which no process is left, whatever closed its lock."""
    owners = {path: _owner_of(path) for path in _places(root)}
    living = left_of_marks({owner for owner in owners.values() if owner})
    yield from (path for path, owner in owners.items() if owner not in living)


def _owner_of(directory: Path) -> str:
    try:
        return (directory / _OWNER).read_text()
    except (OSError, ValueError):  # of a release that wrote none: the lock alone tells
        return ""


def _put_aside(directory: Path) -> Path | None:
    """Rename a directory that is nobody's, so that it is not taken for anybody's; None if it is."""
    if directory.name.endswith(_LEFT_SUFFIX):
        return directory
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not _lock(descriptor):
            return None
        return directory.rename(directory.with_name(directory.name + _LEFT_SUFFIX[len(_SUFFIX) :]))
    finally:
        os.close(descriptor)


def _free_bytes(path: Path) -> int:
    told = os.statvfs(path)
    return told.f_bavail * told.f_frsize


def _promised_bytes(root: Path, parent: Path) -> int:
    """Return what other replicas on the same volume may write yet."""
    volume = parent.stat().st_dev
    total = 0
    for directory in _places(root):
        with contextlib.suppress(OSError, ValueError):
            if directory.stat().st_dev == volume:
                bound = int((directory / _BOUND).read_text())
                total += max(0, bound - _used_bytes(directory / _BLOCKS))
    return total


def _used_bytes(directory: Path) -> int:
    used = files = 0
    for where, _, names in os.walk(directory):
        for name in names:
            files += 1
            if files > _FILES_MAX:
                return used
            with contextlib.suppress(OSError):  # evicted meanwhile
                used += os.lstat(os.path.join(where, name)).st_blocks * 512
    return used


def _gib(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"
