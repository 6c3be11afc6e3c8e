"""One file of a base model, from its source to a verified file on the disk, through interruptions.

The cache runs one of these for each file. What has come is kept whatever happens, and a later run
goes on from there; only a wrong digest throws it away.
"""

import asyncio
import contextlib
import errno
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, Corrupt, Exhausted, Unavailable
from skerry.plumbing.ids import IdSource
from skerry.plumbing.tasks import Backoff
from workload_plane.models.limits import FetchLimits
from workload_plane.models.port import RemoteFile, Source
from workload_plane.models.progress import size
from workload_plane.models.store import ModelStore, PartialFile, PinnedFile

_log = logs.get_logger(__name__)

Result = TypeVar("Result")

THREADS_MAX = 4
RETRY = Backoff(initial_seconds=1.0, max_seconds=30.0)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _threads() -> Executor:
    return ThreadPoolExecutor(max_workers=THREADS_MAX, thread_name_prefix="models")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchTools:
    """What every download of a cache works with."""

    store: ModelStore
    limits: FetchLimits
    free_bytes_min: int
    clock: Clock
    ids: IdSource
    threads: Executor = field(default_factory=_threads)

    def run(self, work: Callable[..., Result], *arguments: object) -> asyncio.Future[Result]:
        """Return the work's result once a thread of the downloads' own has done it.

        In threads shared with the rest of the agent, eight slow writes would keep back what it
        notes of replicas and desired states.
        """
        return asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)


class FileFetch:
    """The download of one file; `bytes_done` moves while it runs."""

    def __init__(
        self, tools: FetchTools, source: Source, key: str, uri: str, file: RemoteFile
    ) -> None:
        """Prepare; nothing is asked or written yet."""
        self._tools = tools
        self._source = source
        self._key = key
        self._uri = uri
        self._file = file
        self.bytes_done = 0

    async def run(self) -> PinnedFile:
        """Return the verified file.

        Raises Corrupt for a wrong content, Exhausted for a full disk, what the source raises, and
        Unavailable when no byte came for several tries.
        """
        store, file = self._tools.store, self._file
        known = await self._tools.run(self._known)
        if known is not None:
            self.bytes_done = file.size_bytes
            return known
        with disk_errors(self._uri, store):
            part = await self._open_part()
        try:
            while await self._tools.run(part.read_back):
                self.bytes_done = part.hashed_bytes
            self.bytes_done = part.size_bytes
            await self._receive(part)
            digest = part.digest()
            if file.sha256 and digest != file.sha256:
                await self._anew(part)
                digest = part.digest()
            if file.sha256 and digest != file.sha256:
                await self._tools.run(part.restart)
                raise Corrupt(
                    f"{self._uri}: {file.path} has the SHA-256 {digest}, not {file.sha256}; nothing"
                    " of it is used"
                )
            with disk_errors(self._uri, store):
                return await self._tools.run(part.finish, digest)
        finally:
            # A thread of ours may still write: the file is closed after it, never under it.
            await asyncio.shield(self._tools.run(part.close))

    async def _open_part(self) -> PartialFile:
        opening = self._tools.run(self._tools.store.begin, self._key, self._file)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Its thread goes on; what it opens would be locked for as long as this process lives.
            opening.add_done_callback(_close_opened)
            raise
        except BlockingIOError:
            raise Unavailable(
                f"{self._uri}: {self._file.path} is still being written by a download before this"
            ) from None

    def _known(self) -> PinnedFile | None:
        store, file = self._tools.store, self._file
        done = store.finished(self._key, file)
        if done is None and store.link_known(self._key, file):
            done = store.finished(self._key, file)
        return done

    async def _anew(self, part: PartialFile) -> None:
        # What came in pieces may be of two files; a second wrong one in a row is the source's.
        _log.warning("model.file-altered", uri=self._uri, file=self._file.path)
        await self._tools.run(part.restart)
        self.bytes_done = 0
        await self._receive(part)

    async def _receive(self, part: PartialFile) -> None:
        """Fetch until all bytes are there, beginning again as long as some come."""
        tries = 0
        while part.size_bytes < self._file.size_bytes:
            before = part.size_bytes
            try:
                await self._stream(part)
                fault: Unavailable | Conflict = Unavailable(
                    f"{self._file.locator} ends after {part.size_bytes} of"
                    f" {self._file.size_bytes} bytes"
                )
            except (Unavailable, Conflict) as error:
                fault = error
            if part.size_bytes >= self._file.size_bytes:
                return
            if isinstance(fault, Conflict):
                await self._tools.run(part.restart)
            tries = 0 if part.size_bytes > before else tries + 1
            self.bytes_done = part.size_bytes
            if tries >= self._tools.limits.tries_max:
                raise fault
            delay = RETRY.delay(tries, self._tools.ids.random())
            if fault.retry_after_seconds is not None:
                delay = max(delay, min(fault.retry_after_seconds, RETRY.max_seconds))
            _log.info(
                "model.download-interrupted",
                uri=self._uri,
                file=self._file.path,
                bytes=part.size_bytes,
                fault=str(fault),
            )
            await self._tools.clock.sleep(delay)

    async def _stream(self, part: PartialFile) -> None:
        unsynced = 0
        store, limits = self._tools.store, self._tools.limits
        try:
            async with self._source.open(self._file, part.size_bytes) as body:
                if body.offset != part.size_bytes:
                    await self._tools.run(part.restart)
                pieces = _gather(body.chunks(), limits.write_bytes)
                async with contextlib.aclosing(pieces):
                    async for data in pieces:
                        if part.size_bytes + len(data) > self._file.size_bytes:
                            raise Conflict(f"{self._file.locator} sends more than it has")
                        unsynced += len(data)
                        with disk_errors(self._uri, store):
                            await self._tools.run(part.append, data)
                            self.bytes_done = part.size_bytes
                            if unsynced >= limits.sync_bytes:
                                await self._tools.run(part.sync)
                                unsynced = 0
                                await self._tools.run(self._check_free)
        finally:
            # Also when this is given up or the agent ends: a later run goes on from here.
            if unsynced:
                await asyncio.shield(self._tools.run(_sync_anyhow, part))

    def _check_free(self) -> None:
        free = self._tools.store.free_bytes()
        if free < self._tools.free_bytes_min:
            raise Exhausted(
                f"{self._uri}: the disk of {self._tools.store.root} has {size(free)} left, less"
                f" than model_cache.free_bytes_min ({size(self._tools.free_bytes_min)}); what came"
                " is kept; free some space"
            )


@contextlib.contextmanager
def disk_errors(uri: str, store: ModelStore) -> Iterator[None]:
    """Turn a full disk into Exhausted, with what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise Exhausted(
            f"{uri}: the disk of {store.root} is full ({error.strerror}); what came is kept; free"
            " some space, and the download goes on"
        ) from None


async def _gather(
    chunks: AsyncGenerator[bytes, None], bytes_min: int
) -> AsyncGenerator[bytes, None]:
    """Yield the same bytes in pieces worth a write; what came before a failure too."""
    held: list[bytes] = []
    count = 0
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                held.append(chunk)
                count += len(chunk)
                if count >= bytes_min:
                    data, held, count = b"".join(held), [], 0
                    yield data
    except Unavailable:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


def _close_opened(opening: asyncio.Future[PartialFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _sync_anyhow(part: PartialFile) -> None:
    try:
        part.sync()
    except OSError as error:
        _log.info("model.partial-not-synced", file=str(part.path), error=str(error))
