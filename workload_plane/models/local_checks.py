"""What lies on this machine already: where, and whether it is what its URI's `#sha256=` asks for.

The convergence loop says on each turn which ones are wanted and is told what was last found: the
disk is asked in threads of its own, since a shared one may hang. Files are read once for as long
as they stay the same. No start waits for another's base model.
"""

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from skerry.fleet.digests import split_digest
from skerry.plumbing import logs
from skerry.plumbing.errors import Corrupt, Infeasible, SkerryError, Unavailable
from workload_plane.models.sources import resolve
from workload_plane.models.store import PinnedFile, content_digest

_log = logs.get_logger(__name__)

CHUNK_BYTES = 1024 * 1024
# The disk is what it takes time for: two at once would only share it.
THREADS_MAX = 1

Stamp = tuple[tuple[str, int, int], ...]  # of each file: its path, bytes, and when it was written


class _GivenUp(Exception):
    """Nobody wants to know any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """The reading of one base model."""

    stamp: Stamp
    digest: "Future[str]"
    given_up: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A base model as last looked: where its files are, None of no file; or what keeps it."""

    path: Path | None = None
    stamp: Stamp = ()
    error: SkerryError | None = None


class LocalChecks:
    """Finds base models of the model directories, and reads those that must have some content."""

    def __init__(self, model_dirs: Sequence[Path], wake: asyncio.Event) -> None:
        """Look at nothing yet; `wake` is set whenever one was found, changed or read."""
        self._model_dirs = model_dirs
        self._wake = wake
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="model-checks")
        # A look waits for no reading, which may take an hour.
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="model-places")
        self._look: Future[Mapping[str, _Seen]] | None = None
        self._wanted: frozenset[str] = frozenset()
        self._seen: dict[str, _Seen] = {}
        self._checks: dict[str, _Check] = {}

    def want(self, uris: Iterable[str]) -> None:
        """Have these looked at, and read anew if they were written since; and no others any more.

        Call it again and again: each call begins a look unless one is under way.
        """
        self._wanted = frozenset(uris)
        for uri in self._seen.keys() - self._wanted:
            del self._seen[uri]
        for uri in self._checks.keys() - self._wanted:
            self._give_up(uri)
        self._begin_look()

    def waits(self, uris: Iterable[str]) -> str:
        """Return why a start has to wait, "" when nothing keeps it or it is to be refused."""
        for uri in uris:
            if uri in self._wanted and uri not in self._seen:
                return f"looking for {split_digest(uri)[0]} on the disk"
            held = self._checks.get(uri)
            if held is not None and not held.digest.done():
                return f"checking the SHA-256 of {split_digest(uri)[0]}"
        return ""

    def path(self, uri: str) -> Path | None:
        """Return the file or directory an engine is given, None when it needs none.

        Raises what keeps it from being used: Corrupt for another content than the URI asks for,
        Unavailable while nobody knows, Infeasible when it can't be read, or as `resolve`.
        """
        seen = self._seen.get(uri)
        if seen is None:
            raise Unavailable(f"base model {uri} is not known yet: nobody has looked for it")
        if seen.error is not None:
            raise seen.error
        if seen.path is not None:
            self._check(uri)
        return seen.path

    def _check(self, uri: str) -> None:
        asked = split_digest(uri)[1]
        if not asked:
            return
        held = self._checks.get(uri)
        if held is None or not held.digest.done():
            raise Unavailable(f"base model {uri}: its SHA-256 is not known yet")
        try:
            found = held.digest.result()
        except OSError as error:
            raise Infeasible(f"base model {uri} can't be read: {error}") from None
        if found != asked:
            raise Corrupt(
                f"base model {split_digest(uri)[0]} has the SHA-256 {found}, not {asked} as its URI"
                " or the catalogue of base models says; nothing of it is used"
            )

    def close(self) -> None:
        """Stop reading."""
        for uri in list(self._checks):
            self._give_up(uri)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._looks.shutdown(wait=False, cancel_futures=True)

    def _begin_look(self) -> None:
        if self._look is not None or not self._wanted:
            return
        self._look = self._looks.submit(_look_at, self._wanted, self._model_dirs)
        loop = asyncio.get_running_loop()
        self._look.add_done_callback(lambda look: _tell(loop, self._take, look))

    def _take(self, look: "Future[Mapping[str, _Seen]]") -> None:
        """Remember the outcome of a look, and begin to read what was not read as it is now."""
        self._look = None
        if look.cancelled():
            return  # closed meanwhile
        found = look.result()
        for uri in sorted(found.keys() & self._wanted):
            seen, before = found[uri], self._seen.get(uri)
            self._seen[uri] = seen
            held = self._checks.get(uri)
            if held is not None and held.stamp != seen.stamp:
                self._give_up(uri)
            if uri not in self._checks and seen.stamp:
                self._begin(uri, seen.stamp)
            if before is None or _told(before) != _told(seen):
                self._wake.set()
        if self._wanted - self._seen.keys():
            self._begin_look()  # they are asked for since

    def _begin(self, uri: str, stamp: Stamp) -> None:
        given_up = threading.Event()
        digest = self._threads.submit(_digest, stamp, given_up)
        self._checks[uri] = _Check(stamp=stamp, digest=digest, given_up=given_up)
        _log.info("model.check-began", uri=uri, bytes=sum(size for _, size, _ in stamp))
        loop = asyncio.get_running_loop()
        digest.add_done_callback(lambda _: _tell(loop, self._wake.set))

    def _give_up(self, uri: str) -> None:
        check = self._checks.pop(uri)
        check.given_up.set()
        check.digest.cancel()


def _tell(loop: asyncio.AbstractEventLoop, told: Callable[..., None], *arguments: object) -> None:
    """Call back on the loop, from a thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(told, *arguments)


def _told(seen: _Seen) -> tuple[Path | None, Stamp, str]:
    return seen.path, seen.stamp, str(seen.error or "")


def _look_at(uris: Iterable[str], model_dirs: Sequence[Path]) -> Mapping[str, _Seen]:
    return {uri: _look_at_one(uri, model_dirs) for uri in uris}


def _look_at_one(uri: str, model_dirs: Sequence[Path]) -> _Seen:
    try:
        path = resolve(uri, model_dirs).path
        stamp = _stamp(path) if path is not None and split_digest(uri)[1] else ()
    except SkerryError as error:
        return _Seen(error=error)
    except OSError as error:
        return _Seen(error=Infeasible(f"base model {uri} can't be read: {error}"))
    return _Seen(path=path, stamp=stamp)


def _stamp(path: Path) -> Stamp:
    """Return the file, or the files below the directory, as they are now."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    told = ((str(file), file.stat()) for file in files)
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in told)


def _digest(stamp: Stamp, given_up: threading.Event) -> str:
    """Return what `#sha256=` asks for: of one file its own digest, of many their tree's."""
    names = [name for name, _, _ in stamp]
    root = os.path.commonpath([os.path.dirname(name) for name in names])
    files = [
        PinnedFile(
            path=os.path.relpath(name, root), sha256=_file_digest(name, given_up), size_bytes=size
        )
        for name, size, _ in stamp
    ]
    return content_digest(files)


def _file_digest(name: str, given_up: threading.Event) -> str:
    digest = hashlib.sha256()
    with open(name, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if given_up.is_set():
                raise _GivenUp
            digest.update(chunk)
    return digest.hexdigest()
