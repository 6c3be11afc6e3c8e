"""What lies on this machine already: where, and whether it is what its URI's `#sha256=` asks for.

The convergence loop says on each turn which ones are wanted and is told what was last found: the
disk is asked in threads of its own, since a shared one may hang. Files are read once for as long
as they stay the same, also for what they say of their weights. No start waits for another's base
model.
"""

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from skerry.fleet.digests import split_digest
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Corrupt, Infeasible, SkerryError, Unavailable
from workload_plane.models.checkpoint import header_files, held_weights
from workload_plane.models.limits import DISK_SECONDS_MAX
from workload_plane.models.sources import resolve
from workload_plane.models.store import PinnedFile, content_digest

_log = logs.get_logger(__name__)

CHUNK_BYTES = 1024 * 1024
# The disk is what it takes time for: two at once would only share it.
THREADS_MAX = 1
# A look for each base model at most, or what is on a disk that hangs would hide the others. A plane
# has a dozen.
LOOKS_MAX = 64

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
    """A base model as last looked: where its files are, None of no file; or what keeps it.

    `weights` is their format by their own word, as it was when the files that say it were as
    `header`.
    """

    path: Path | None = None
    stamp: Stamp = ()
    error: SkerryError | None = None
    header: Stamp = ()
    weights: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A look that is under way, and since when."""

    seen: "Future[_Seen]"
    since: float


class LocalChecks:
    """Finds base models of the model directories, and reads those that must have some content."""

    def __init__(
        self,
        model_dirs: Sequence[Path],
        wake: asyncio.Event,
        clock: Clock,
        *,
        allow_pickle: bool = False,
    ) -> None:
        """Look at nothing yet; `wake` is set whenever one was found, changed or read."""
        self._model_dirs = model_dirs
        self._wake = wake
        self._clock = clock
        self._allow_pickle = allow_pickle
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="model-checks")
        # A look waits for no reading, which may take an hour.
        self._places = ThreadPoolExecutor(LOOKS_MAX, thread_name_prefix="model-places")
        self._looks: dict[str, _Look] = {}
        self._wanted: frozenset[str] = frozenset()
        self._seen: dict[str, _Seen] = {}
        self._checks: dict[str, _Check] = {}

    def want(self, uris: Iterable[str]) -> None:
        """Have these looked at, and read anew if they were written since; and no others any more.

        Call it again and again: each call begins the looks that are not under way.
        """
        self._wanted = frozenset(uris)
        for uri in self._seen.keys() - self._wanted:
            del self._seen[uri]
        for uri in self._checks.keys() - self._wanted:
            self._give_up(uri)
        for uri in self._wanted - self._looks.keys():
            self._begin_look(uri)

    def waits(self, uris: Iterable[str]) -> str:
        """Return why a start has to wait, "" when nothing keeps it or it is to be refused."""
        for uri in uris:
            if self._is_hanging(uri):
                return f"the disk of {split_digest(uri)[0]} does not answer"
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
        if self._is_hanging(uri):
            raise Unavailable(f"base model {uri}: its disk does not answer; see to it")
        if seen is None:
            raise Unavailable(f"base model {uri} is not known yet: nobody has looked for it")
        if seen.error is not None:
            raise seen.error
        if seen.path is not None:
            self._check(uri)
        return seen.path

    def weights(self, uri: str) -> str | None:
        """Return the format of its weights as it says itself, None when it does not tell."""
        seen = self._seen.get(uri)
        return seen.weights if seen is not None else None

    def _is_hanging(self, uri: str) -> bool:
        look = self._looks.get(uri)
        return look is not None and self._clock.monotonic() - look.since > DISK_SECONDS_MAX

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
        self._places.shutdown(wait=False, cancel_futures=True)

    def _begin_look(self, uri: str) -> None:
        before = self._seen.get(uri)
        seen = self._places.submit(_look_at, uri, self._model_dirs, self._allow_pickle, before)
        self._looks[uri] = _Look(seen=seen, since=self._clock.monotonic())
        loop = asyncio.get_running_loop()
        seen.add_done_callback(lambda look: _tell(loop, self._take, uri, look))

    def _take(self, uri: str, look: "Future[_Seen]") -> None:
        """Remember the outcome of a look, and begin to read what was not read as it is now."""
        was_hanging = self._is_hanging(uri)
        del self._looks[uri]
        if look.cancelled() or uri not in self._wanted:
            return  # closed meanwhile, or nobody wants to know any more
        seen, before = look.result(), self._seen.get(uri)
        self._seen[uri] = seen
        held = self._checks.get(uri)
        if held is not None and held.stamp != seen.stamp:
            self._give_up(uri)
        if uri not in self._checks and seen.stamp:
            self._begin(uri, seen.stamp)
        if was_hanging or before is None or _told(before) != _told(seen):
            self._wake.set()

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


def _told(seen: _Seen) -> tuple[Path | None, Stamp, str, str | None]:
    return seen.path, seen.stamp, str(seen.error or ""), seen.weights


def _look_at(
    uri: str, model_dirs: Sequence[Path], allow_pickle: bool, before: _Seen | None
) -> _Seen:
    try:
        path = resolve(uri, model_dirs, allow_pickle=allow_pickle).path
        if path is None:
            return _Seen()
        stamp = _stamp(path) if split_digest(uri)[1] else ()
        header = _stamp_of(file for file in header_files(path) if file.is_file())
    except SkerryError as error:
        return _Seen(error=error)
    except OSError as error:
        return _Seen(error=Infeasible(f"base model {uri} can't be read: {error}"))
    if before is not None and (before.path, before.header) == (path, header):
        weights = before.weights
    else:
        weights = held_weights(path)
    return _Seen(path=path, stamp=stamp, header=header, weights=weights)


def _stamp(path: Path) -> Stamp:
    """Return the file, or the files below the directory, as they are now."""
    return _stamp_of(
        [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    )


def _stamp_of(files: Iterable[Path]) -> Stamp:
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
