"""The base models of a plane: what is there, what comes, and what gives way.

The convergence loop says on each turn which ones are wanted; `run` brings them, several at once,
and wakes the loop for each that has come. Nothing here waits for a replica, nor a replica for
another's base model.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import (
    Conflict,
    Corrupt,
    Denied,
    Exhausted,
    Infeasible,
    InvalidInput,
    SkerryError,
    Unavailable,
)
from skerry.plumbing.ids import IdSource
from skerry.plumbing.tasks import first_of
from workload_plane.models import progress
from workload_plane.models.checkpoint import held_weights
from workload_plane.models.download import FetchTools, FileFetch, disk_errors
from workload_plane.models.eviction import Room, plan_eviction
from workload_plane.models.limits import DISK_SECONDS_MAX, CacheSettings, FetchLimits
from workload_plane.models.port import RemoteFile, Source
from workload_plane.models.selection import main_file, select_files
from workload_plane.models.store import (
    ModelStore,
    Pin,
    PinnedFile,
    content_digest,
    key_of,
    tree_digest,
)
from workload_plane.models.uris import HUB, ModelUri, parse_uri
from workload_plane.models.wanted import WantedModel, choose_downloads

_log = logs.get_logger(__name__)

Result = TypeVar("Result")

# When a failed download is due again, or what was here went, nothing else tells.
TICK_SECONDS = 1.0
TOLD_SECONDS = 2.0  # people read it; every word of it goes to the control plane
# After a failure that another try may mend; a wrong URI is tried as rarely in the end.
RETRY_INITIAL_SECONDS = 5.0
RETRY_MAX_SECONDS = 300.0


@dataclass(slots=True)
class _Model:
    """What is remembered of one wanted base model."""

    uri: ModelUri
    key: str
    tree: str = ""
    path: Path | None = None  # as last looked
    weights: str | None = None  # by its own word, read once
    is_looked_at: bool = False
    listed_bytes: int = 0
    fetches: list[FileFetch] = field(default_factory=list)
    rate: progress.Rate = field(default_factory=progress.Rate)
    told: str = ""
    told_at: float = float("-inf")
    failures: int = 0
    error: SkerryError | None = None
    is_coming: bool = False
    is_admitted: bool = False  # there is room for all of it
    retry_at: float = float("-inf")

    @property
    def bytes_done(self) -> int:
        return sum(fetch.bytes_done for fetch in self.fetches)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A base model that is here: what an engine is given, the digest of it all, its own word."""

    path: Path
    tree: str
    weights: str | None = None


class ModelCache:
    """Fetches what is wanted and keeps what is used."""

    def __init__(
        self,
        settings: CacheSettings,
        sources: Mapping[str, Source],
        wake: asyncio.Event,
        clock: Clock,
        ids: IdSource,
        limits: FetchLimits = FetchLimits(),  # noqa: B008  (frozen)
    ) -> None:
        """Touch nothing yet; sources by scheme. `wake` is set when a base model has come."""
        self._settings = settings
        self._sources = sources
        self._wake = wake
        self._clock = clock
        self._limits = limits
        self._store = ModelStore(settings.directory)
        self._fault = f"{settings.directory} has not been looked at yet"
        self._tools = FetchTools(
            store=self._store,
            limits=limits,
            free_bytes_min=settings.free_bytes_min,
            clock=clock,
            ids=ids,
        )
        self._wanted: tuple[WantedModel, ...] = ()
        self._models: dict[str, _Model] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        # What goes and what may come is decided by one at a time.
        self._room = asyncio.Lock()
        # Apart from the downloads' threads: a look takes no time, and waits for no large write.
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="model-looks")
        self._looks_since: float | None = None  # of the look under way
        self._living: frozenset[str] | None = None
        self._is_over_noted = True

    def want(self, wanted: Sequence[WantedModel]) -> None:
        """Have these here, and give up the download of whatever else."""
        if tuple(wanted) == self._wanted:
            return
        before = {one.uri for one in self._wanted if one.due}
        self._wanted = tuple(wanted)
        uris = {one.uri for one in wanted}
        for uri in self._models.keys() - uris:
            del self._models[uri]
        for uri in uris - self._models.keys():
            with contextlib.suppress(InvalidInput):  # its start is refused with the reason
                parsed = parse_uri(uri)
                self._models[uri] = _Model(uri=parsed, key=key_of(parsed))
        for one in wanted:
            if one.due and one.uri not in before and one.uri in self._models:
                self._models[one.uri].retry_at = float("-inf")  # somebody waits now
        self._changed.set()

    def waits(self, uris: Iterable[str]) -> str:
        """Return why a start has to wait for a base model, "" when nothing keeps it.

        A download that failed keeps no start: the start then says what is wrong.
        """
        for uri in uris:
            model = self._models.get(uri)
            if model is None or model.error is not None:
                continue
            if self._here(model) is None or self._is_hanging():
                return self._tell(model)
        return ""

    def path(self, uri: str) -> Path:
        """Return the file or directory an engine is given; raises what keeps it from being here."""
        model = self._models.get(uri)
        if model is None:
            parse_uri(uri)
            raise Unavailable(f"base model {uri} has not been asked for yet")
        path = self._here(model)
        if path is not None:
            return path
        if model.error is not None:
            raise model.error
        raise Unavailable(f"base model {uri} is not here yet")

    def weights(self, uri: str) -> str | None:
        """Return the format of its weights as it says itself, None when it does not tell."""
        model = self._models.get(uri)
        return model.weights if model is not None else None

    async def hold(self, replica: str, uris: Iterable[str]) -> None:
        """Keep base models for a replica, before it is started; raises as `path`."""
        for uri in uris:
            path = self.path(uri)
            model = self._models[uri]
            self._living = (self._living or frozenset()) | {replica}
            try:
                async with asyncio.timeout(DISK_SECONDS_MAX):
                    await self._ask_disk(self._hold, replica, model.tree, model.key, path)
            except TimeoutError:
                raise Unavailable(
                    f"base model {uri}: the disk of {self._store.root} has not answered within"
                    f" {DISK_SECONDS_MAX:.0f} s; see to it"
                ) from None

    def keep_for(self, replicas: frozenset[str]) -> None:
        """Keep base models for these replicas alone; `run` notes it.

        What could not be noted is kept for longer than it need be, and no replica waits for it.
        """
        if replicas != self._living:
            self._living, self._is_over_noted = replicas, False
            self._changed.set()

    async def run(self) -> None:
        """Fetch what is wanted, for ever; Conflict while another plane has the directory."""
        self._tasks.clear()  # those of a run before ended with it
        with contextlib.ExitStack() as held:
            await self._begin(held)
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._note_over()
                    await self._look()
                    self._turn(group)
                    await first_of(self._clock.sleep(TICK_SECONDS), self._changed.wait())
                    self._changed.clear()

    async def _begin(self, held: contextlib.ExitStack) -> None:
        try:
            await self._lock(held)
            await self._ask_disk(self._store.prepare)
        except Conflict as error:
            self._fault = error.message
            raise
        except OSError as error:
            self._fault = f"{self._store.root} can't be used for base models: {error}"
            raise
        self._fault = ""

    async def _lock(self, held: contextlib.ExitStack) -> None:
        """Take the directory; a run that is ended meanwhile lets go of what it was just given.

        The thread takes the lock whatever becomes of who waits: it was then nobody's to release,
        and the next run met its own process as another plane.
        """
        locked = self._ask_disk(held.enter_context, self._store.alone())
        try:
            await asyncio.shield(locked)
        except asyncio.CancelledError:
            await asyncio.wait([locked], timeout=DISK_SECONDS_MAX)
            locked.add_done_callback(lambda _: held.close())  # of a disk slower than that
            raise

    def _ask_disk(self, work: Callable[..., Result], *arguments: object) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._looks, work, *arguments)

    async def _note_over(self) -> None:
        """Let go of what replicas ran on that are over."""
        if self._is_over_noted:
            return
        self._is_over_noted = True
        try:
            await self._ask_disk(
                self._store.release, lambda replica: replica not in (self._living or frozenset())
            )
        except OSError as error:
            self._is_over_noted = False  # tried again on the next tick
            _log.warning("model.uses-not-noted", error=str(error))

    def _turn(self, group: asyncio.TaskGroup) -> None:
        now = self._clock.monotonic()
        missing = []
        for one in self._wanted:
            model = self._models.get(one.uri)
            if model is None or not model.is_looked_at:
                continue
            if self._here(model) is None and now >= model.retry_at:
                missing.append(one)
        chosen = choose_downloads(missing, self._tasks, self._settings.downloads_max)
        for uri in [uri for uri in self._tasks if uri not in chosen]:
            self._tasks[uri].cancel()
        for uri in chosen:
            if uri not in self._tasks:
                self._tasks[uri] = group.create_task(self._bring(self._models[uri], uri))

    async def _bring(self, model: _Model, uri: str) -> None:
        model.error, model.rate, model.is_coming = None, progress.Rate(), True
        try:
            await self._fetch(model)
            model.failures = 0
        except (SkerryError, OSError) as error:
            self._failed(model, _kind(model, error))
        except Exception as error:
            _log.exception("model.download-failed", uri=uri)
            self._failed(model, SkerryError(f"base model {uri}: a mistake of ours: {error!r}"))
        finally:
            self._tasks.pop(uri, None)
            model.fetches, model.is_coming, model.is_admitted = [], False, False
            self._changed.set()
            self._wake.set()

    def _failed(self, model: _Model, error: SkerryError) -> None:
        delay = min(RETRY_MAX_SECONDS, RETRY_INITIAL_SECONDS * 2.0 ** min(model.failures, 10))
        model.failures += 1
        model.error = error
        model.retry_at = self._clock.monotonic() + delay
        _log.warning(
            "model.download-failed",
            uri=model.uri.text,
            error=str(error),
            retry_in_seconds=delay,
        )

    async def _fetch(self, model: _Model) -> None:
        uri, key = model.uri, model.key
        source = self._source(uri)
        pin = await self._tools.run(self._store.pin, key)
        listing = await source.list_files(uri, pin.revision if pin is not None else "")
        files = select_files(
            uri.text,
            _with_digests(listing.files, uri, pin),
            named=not uri.path.endswith("/") and (bool(uri.path) or uri.scheme != HUB),
            allow_pickle=self._settings.allow_pickle,
        )
        total = sum(file.size_bytes for file in files)
        if total > self._settings.model_bytes_max:
            raise Exhausted(
                f"{uri.text} has {progress.size(total)}, more than model_cache.model_bytes_max"
                f" ({progress.size(self._settings.model_bytes_max)})"
            )
        model.listed_bytes = total
        model.fetches = [FileFetch(self._tools, source, key, uri.text, file) for file in files]
        await self._make_room(model)
        _log.info("model.download-began", uri=uri.text, files=len(files), bytes=total)
        began = self._clock.monotonic()
        done = await self._fetch_files(model.fetches)
        found = Pin(uri=uri.text, revision=listing.revision, tree=tree_digest(done), files=done)
        await self._check(model, pin, found)
        with disk_errors(uri.text, self._store):
            await self._tools.run(self._store.complete, key, found)
        (here,) = await self._ask_disk(self._find, [(model.key, None)])
        self._take(model, here)
        _log.info(
            "model.download-ended",
            uri=uri.text,
            bytes=total,
            tree=found.tree,
            seconds=round(self._clock.monotonic() - began, 1),
        )

    async def _fetch_files(self, fetches: Sequence[FileFetch]) -> tuple[PinnedFile, ...]:
        turns = asyncio.Semaphore(self._limits.files_at_once_max)

        async def in_turn(fetch: FileFetch) -> PinnedFile:
            async with turns:
                return await fetch.run()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(in_turn(fetch)) for fetch in fetches]
        except* (SkerryError, OSError) as errors:
            raise _first(errors) from None
        return tuple(task.result() for task in tasks)

    async def _check(self, model: _Model, pin: Pin | None, found: Pin) -> None:
        uri = model.uri
        wanted, digest = uri.sha256, content_digest(found.files)
        if wanted and digest != wanted:
            await self._tools.run(self._store.drop_partial, model.key)
            raise Corrupt(
                f"{uri.text} has the SHA-256 {digest}, not {wanted} as its URI or the catalogue of"
                " base models says; nothing of it is used"
            )
        if pin is not None and pin.files != found.files:
            await self._tools.run(self._store.drop_partial, model.key)
            raise Corrupt(
                f"{uri.text} is no more what it was when this plane first fetched it; nothing of"
                " it is used; if it is meant, remove"
                f" {self._store.root}/pins/{model.key}.json, or name a revision"
            )

    async def _make_room(self, model: _Model) -> None:
        async with self._room:
            contents = await self._tools.run(self._store.contents)
            protected = await self._tools.run(self._store.held) | self._kept_from(model)
            reserved = sum(
                max(0, other.listed_bytes - other.bytes_done)
                for other in self._models.values()
                if other is not model and other.is_admitted
            )
            came = next((one.files for one in contents.kept if one.key == model.key), frozenset())
            here = sum(contents.sizes[file] for file in came)
            room = Room(
                need_bytes=max(0, model.listed_bytes - here),
                free_bytes=await self._tools.run(self._store.free_bytes),
                free_bytes_min=self._settings.free_bytes_min,
                bytes_max=self._settings.bytes_max,
                reserved_bytes=reserved,
            )
            eviction = plan_eviction(contents.kept, contents.sizes, protected, room)
            if eviction.short_bytes:
                raise Exhausted(
                    f"{model.uri.text} needs {progress.size(room.need_bytes)} and"
                    f" {progress.size(eviction.short_bytes)} are lacking in {self._store.root},"
                    " although all that is not in use went; free some space or raise"
                    " model_cache.bytes_max"
                )
            if eviction.keys:
                _log.info("model.evicted", keys=",".join(eviction.keys), for_uri=model.uri.text)
                await self._tools.run(self._store.evict, eviction.keys)
            model.is_admitted = True

    def _kept_from(self, model: _Model) -> frozenset[str]:
        """Return what may not give way for this one: of what is wanted all, or all that is due."""
        due = {one.uri for one in self._wanted if one.due}
        is_due = any(self._models.get(uri) is model for uri in due)
        kept = [
            other
            for uri, other in self._models.items()
            # What is fetched ahead gives way for what somebody waits for.
            if uri in due or other.is_coming or not is_due
        ]
        return frozenset(key for other in kept for key in (other.key, other.tree) if key)

    def _here(self, model: _Model) -> Path | None:
        """Return what an engine is given as last looked, None when the base model is not here."""
        # It is here once its download says so, not a moment before.
        return None if self._fault or model.is_coming else model.path

    async def _look(self) -> None:
        """Learn what is here, and wake the loop where that is news."""
        models = [one for one in self._models.values() if not one.is_coming]
        before = [(one.path, one.is_looked_at, one.error is None) for one in models]
        self._looks_since = self._clock.monotonic()
        found = await self._ask_disk(self._find, [(one.key, one.path) for one in models])
        was_hanging, self._looks_since = self._is_hanging(), None
        # None of them can have begun to come: that is decided after this, by the same task.
        for model, here in zip(models, found, strict=True):
            self._take(model, here)
        after = [(one.path, one.is_looked_at, one.error is None) for one in models]
        if after != before or was_hanging:
            self._wake.set()

    def _is_hanging(self) -> bool:
        since = self._looks_since
        return since is not None and self._clock.monotonic() - since > DISK_SECONDS_MAX

    def _take(self, model: _Model, here: "_Found | Corrupt | None") -> None:
        """Remember the outcome of a look."""
        model.is_looked_at = True
        match here:
            case _Found():
                if here.tree:  # found anew, and so read anew
                    model.tree, model.weights = here.tree, here.weights
                model.path = here.path
                model.error, model.listed_bytes = None, 0
            case Corrupt():
                model.path, model.tree, model.error = None, "", here
            case None:
                model.path, model.tree = None, ""

    def _find(self, asked: Sequence[tuple[str, Path | None]]) -> "list[_Found | Corrupt | None]":
        """Return what is on the disk of each key; what was there before is only looked for."""
        return [self._find_one(key, before) for key, before in asked]

    def _find_one(self, key: str, before: Path | None) -> "_Found | Corrupt | None":
        if before is not None and _is_there(before):
            return _Found(path=before, tree="")
        try:
            pin = self._store.pin(key)
        except Corrupt as error:
            return error
        root = self._store.tree(pin) if pin is not None else None
        if pin is None or root is None:
            return None
        path = root / main_file([one.path for one in pin.files])
        return _Found(path=path, tree=pin.tree, weights=held_weights(path))

    def _hold(self, replica: str, tree: str, key: str, path: Path) -> None:
        self._store.hold(replica, tree)
        self._store.touch(key)
        if not _is_there(path):
            raise Unavailable(f"{path} has just gone; it is fetched again")

    def _tell(self, model: _Model) -> str:
        now = self._clock.monotonic()
        if now - model.told_at < TOLD_SECONDS and model.told:
            return model.told
        uri = model.uri.text
        if self._fault:
            model.told = f"{uri} is not fetched: {self._fault}"
        elif self._is_hanging():
            model.told = f"the disk of {self._store.root} does not answer; {uri} waits for it"
        elif not model.is_looked_at:
            model.told = f"looking for {uri} on the disk"
        elif not model.is_coming:
            model.told = f"{uri} waits for other downloads"
        elif not model.fetches:
            model.told = f"asking what there is at {uri}"
        else:
            model.rate.add(now, model.bytes_done)
            model.told = progress.downloading(
                uri, model.bytes_done, model.listed_bytes, model.rate.bytes_per_second(now)
            )
        model.told_at = now
        return model.told

    def _source(self, uri: ModelUri) -> Source:
        if uri.scheme not in self._settings.schemes or uri.scheme not in self._sources:
            allowed = ", ".join(f"{scheme}://" for scheme in self._settings.schemes)
            raise Denied(
                f"base model {uri.text}: this plane fetches {allowed or 'nothing'} alone; add"
                f" {uri.scheme!r} to model_cache.schemes in its settings"
            )
        return self._sources[uri.scheme]


def _with_digests(
    files: Sequence[RemoteFile], uri: ModelUri, pin: Pin | None
) -> tuple[RemoteFile, ...]:
    """Return the files with the digests that are known of them from elsewhere."""
    known = {file.path: file.sha256 for file in pin.files} if pin is not None else {}
    if uri.sha256 and len(files) == 1:
        known[files[0].path] = uri.sha256
    return tuple(
        file
        if file.sha256 or file.path not in known
        else RemoteFile(
            path=file.path,
            size_bytes=file.size_bytes,
            sha256=known[file.path],
            etag=file.etag,
            locator=file.locator,
        )
        for file in files
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # such as a stale handle of a shared disk


def _kind(model: _Model, error: SkerryError | OSError) -> SkerryError:
    if isinstance(error, SkerryError):
        return error
    return Infeasible(f"base model {model.uri.text}: {error}; see to the plane's disk")


def _first(errors: BaseExceptionGroup[SkerryError | OSError]) -> SkerryError | OSError:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _first(error)
        return error
    raise AssertionError("an empty group of errors")
