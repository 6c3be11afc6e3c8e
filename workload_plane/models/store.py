"""Base models on the plane's disk, by their content. Blocking I/O: the cache calls it in threads.

`blobs/DIGEST` holds each file once, `trees/DIGEST` a base model as links to its blobs, `pins/` what
each URI turned out to be, `partial/` what has begun to come, `uses/` who runs on which tree. Every
one of them is whole or absent: a base model is there from the moment its tree is renamed in place.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from skerry.plumbing.errors import Conflict, Corrupt
from skerry.plumbing.files import clean_temporaries, lock_file, write_atomically
from workload_plane.models.eviction import Kept
from workload_plane.models.port import RemoteFile, is_digest
from workload_plane.models.uris import ModelUri

FORMAT = 1
READ_BACK_BYTES = 64 * 1024 * 1024
RECORD_BYTES_MAX = 4 * 1024 * 1024  # of 2,000 files with 255 characters each
_BLOBS, _TREES, _PINS, _PARTIAL, _USES = "blobs", "trees", "pins", "partial", "uses"
_LOCK = "cache.lock"
_GOING = ".going-"
_PART_MODE = 0o644
_MODE = 0o444  # a base model is never written again, by an engine least of all


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """One file of a base model as it came."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What a URI turned out to be when it was first fetched; `tree` is the digest of it all."""

    uri: str
    revision: str
    tree: str
    files: tuple[PinnedFile, ...]

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is known of a partial file: it goes on only as the same file."""

    size_bytes: int
    sha256: str
    etag: str
    locator: str
    durable_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What lies on the disk: what may go as a whole, and the size of each file by inode."""

    kept: tuple[Kept, ...]
    sizes: Mapping[int, int]


def tree_digest(files: Sequence[PinnedFile]) -> str:
    """Return the digest of files with their names: of what sha256sum prints of them, by path."""
    lines = sorted((file.path, file.sha256) for file in files)
    text = "".join(f"{sha256}  {path}\n" for path, sha256 in lines)
    return hashlib.sha256(text.encode()).hexdigest()


def content_digest(files: Sequence[PinnedFile]) -> str:
    """Return what a URI's #sha256= asks for: of one file its own digest, of many their tree's."""
    return files[0].sha256 if len(files) == 1 else tree_digest(files)


def key_of(uri: ModelUri) -> str:
    """Return the name under which a URI is kept; another digest asked for is another thing."""
    return hashlib.sha256(f"{uri.text}#{uri.sha256}".encode()).hexdigest()[:32]


class ModelStore:
    """The one writer of a plane's directory of base models."""

    def __init__(self, root: Path) -> None:
        """Remember the directory; touches nothing."""
        self.root = root

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the directory's only writer for the block; Conflict while another plane's is there.

        The replicas of another plane are none of ours, and what they run on would give way.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o755)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(lock_file(self.root / _LOCK))
            except Conflict as error:
                holder = (error.hints or {}).get("pid") or "unknown"
                raise Conflict(
                    f"{self.root} is used by another plane's agent, process {holder}; give each"
                    " plane a model_cache.directory of its own"
                ) from None
            yield

    def prepare(self) -> None:
        """Make the directories and remove what a killed writer left; call once, when `alone`."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o755)
        for name in (_BLOBS, _TREES, _PINS, _PARTIAL, _USES):
            (self.root / name).mkdir(exist_ok=True)
        clean_temporaries(self.root / _PINS)
        for path in (self.root / _TREES).glob(f"{_GOING}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.root / _PARTIAL).iterdir():
            clean_temporaries(path)
        self.sweep()

    def pin(self, key: str) -> Pin | None:
        """Return what the URI turned out to be, None when it never came whole.

        Raises Corrupt when the record is damaged: another content must not slip in by that.
        """
        path = self._pin_path(key)
        try:
            if path.stat().st_size > RECORD_BYTES_MAX:
                raise Corrupt(f"{path} is larger than a pin can be; remove it to pin anew")
            values = json.loads(path.read_bytes())
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r}")
            files = tuple(PinnedFile(**file) for file in values["files"])
            pin = Pin(
                uri=str(values["uri"]),
                revision=str(values["revision"]),
                tree=str(values["tree"]),
                files=files,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Corrupt(f"{path} can't be read ({error}); remove it to pin anew") from None
        if pin.tree != tree_digest(pin.files):
            raise Corrupt(f"{path} is altered; remove it to pin anew")
        return pin

    def tree(self, pin: Pin) -> Path | None:
        """Return the pinned base model's directory, None when it is not there in full length."""
        root = self.root / _TREES / pin.tree
        for file in pin.files:
            try:
                if (root / file.path).stat().st_size != file.size_bytes:
                    return None
            except OSError:
                return None
        return root

    def contents(self) -> Contents:
        """Return what is on the disk, for the decision what gives way."""
        sizes: dict[int, int] = {}
        kept: list[Kept] = []
        _count(self.root / _BLOBS, sizes)
        used = self._used_at()
        for parent in (_TREES, _PARTIAL):
            for path in (self.root / parent).iterdir():
                with contextlib.suppress(FileNotFoundError):  # it has just been completed
                    used_at = used.get(path.name) or path.stat().st_mtime
                    kept.append(Kept(key=path.name, files=_count(path, sizes), used_at=used_at))
        return Contents(kept=tuple(kept), sizes=sizes)

    def free_bytes(self) -> int:
        """Return what the disk has left for us."""
        told = os.statvfs(self.root)
        return told.f_bavail * told.f_frsize

    def begin(self, key: str, file: RemoteFile) -> "PartialFile":
        """Return the partial file, with what came of the same file before."""
        directory = self.root / _PARTIAL / key
        directory.mkdir(exist_ok=True)
        os.utime(directory)
        return PartialFile(self, directory, file)

    def link_known(self, key: str, file: RemoteFile) -> bool:
        """Take the file from what is there already, by its digest; return whether it was."""
        blob = self.root / _BLOBS / file.sha256
        if not file.sha256 or not blob.is_file():
            return False
        if blob.stat().st_size != file.size_bytes:
            return False
        try:
            self._take(key, file.path, file.sha256)
        except FileNotFoundError:
            return False  # it has just been evicted
        return True

    def finished(self, key: str, file: RemoteFile) -> PinnedFile | None:
        """Return the file as it came when it came whole already, None otherwise."""
        path = self._tree_in(key) / file.path
        try:
            told = path.stat()
            digest = self._name_in(key, file.path).read_text()
        except (OSError, UnicodeDecodeError):
            return None
        if not is_digest(digest):
            return None
        blob = self.root / _BLOBS / digest
        if told.st_size != file.size_bytes or (file.sha256 and file.sha256 != digest):
            return None
        if not blob.exists() or not os.path.samefile(blob, path):
            return None
        return PinnedFile(path=file.path, sha256=digest, size_bytes=told.st_size)

    def adopt(self, key: str, file: RemoteFile, part: Path, sha256: str) -> PinnedFile:
        """Make a verified part a blob and a file of its tree; harmless when done twice."""
        os.chmod(part, _MODE)
        blob = self.root / _BLOBS / sha256
        with contextlib.suppress(FileExistsError):
            os.link(part, blob)
        self._take(key, file.path, sha256)
        part.unlink(missing_ok=True)
        return PinnedFile(path=file.path, sha256=sha256, size_bytes=file.size_bytes)

    def complete(self, key: str, pin: Pin) -> Path:
        """Make the finished files the base model: from here on it is there."""
        begun = self._tree_in(key)
        wanted = {file.path for file in pin.files}
        for path in list(_files(begun)):
            if path.relative_to(begun).as_posix() not in wanted:
                path.unlink()  # of a listing before this one
        for directory in [begun, *(path for path in begun.rglob("*") if path.is_dir())]:
            _sync(directory)
        _sync(self.root / _BLOBS)
        values = {"format": FORMAT, **asdict(pin)}
        write_atomically(self._pin_path(key), json.dumps(values, indent=1).encode() + b"\n")
        tree = self.root / _TREES / pin.tree
        if tree.exists() and self.tree(pin) is None:
            self._remove_tree(tree)
        if not tree.exists():
            os.rename(begun, tree)
            _sync(tree.parent)
        self.drop_partial(key)
        return tree

    def drop_partial(self, key: str) -> None:
        """Remove what has come of a URI."""
        shutil.rmtree(self.root / _PARTIAL / key, ignore_errors=True)

    def hold(self, replica: str, tree: str) -> None:
        """Note that a replica runs on a tree, so that it stays; before the replica starts."""
        (self.root / _USES / f"{replica}.{tree}").touch()
        _sync(self.root / _USES)

    def held(self) -> frozenset[str]:
        """Return the trees that replicas run on."""
        names = [path.name for path in (self.root / _USES).iterdir()]
        return frozenset(name.rpartition(".")[2] for name in names)

    def release(self, is_over: Callable[[str], bool]) -> None:
        """Forget the uses of the replicas that are over; each is asked about when it is its turn.

        A disk may let us wait, and a replica may have been started meanwhile.
        """
        for path in (self.root / _USES).iterdir():
            replica, _, tree = path.name.rpartition(".")
            if is_over(replica):
                self._touch(tree)  # it was in use until now
                path.unlink(missing_ok=True)

    def touch(self, key: str) -> None:
        """Note that the base model is used now."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._pin_path(key))

    def evict(self, keys: Sequence[str]) -> None:
        """Remove trees and partial downloads, and the blobs that nobody else has."""
        for key in keys:
            tree = self.root / _TREES / key
            if tree.exists():
                self._remove_tree(tree)
            else:
                self.drop_partial(key)
        self.sweep()

    def sweep(self) -> int:
        """Remove blobs that belong to nothing and return how many."""
        count = 0
        for path in (self.root / _BLOBS).iterdir():
            if path.stat().st_nlink == 1:
                path.unlink()
                count += 1
        return count

    def _remove_tree(self, tree: Path) -> None:
        # Out of the way first: a tree that is removed half must not be found by its name.
        going = tree.with_name(f"{_GOING}{tree.name}")
        shutil.rmtree(going, ignore_errors=True)
        os.rename(tree, going)
        shutil.rmtree(going, ignore_errors=True)

    def _touch(self, tree: str) -> None:
        for path in (self.root / _PINS).glob("*.json"):
            with contextlib.suppress(Corrupt):
                pin = self.pin(path.stem)
                if pin is not None and pin.tree == tree:
                    self.touch(path.stem)

    def _used_at(self) -> dict[str, float]:
        used: dict[str, float] = {}
        for path in (self.root / _PINS).glob("*.json"):
            with contextlib.suppress(Corrupt, FileNotFoundError):
                pin = self.pin(path.stem)
                if pin is not None:
                    used[pin.tree] = max(used.get(pin.tree, 0.0), path.stat().st_mtime)
        return used

    def _take(self, key: str, name: str, sha256: str) -> None:
        path = self._tree_in(key) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.link(self.root / _BLOBS / sha256, path)
        write_atomically(self._name_in(key, name), sha256.encode())

    def _pin_path(self, key: str) -> Path:
        return self.root / _PINS / f"{key}.json"

    def _tree_in(self, key: str) -> Path:
        return self.root / _PARTIAL / key / "tree"

    def _name_in(self, key: str, path: str) -> Path:
        return self.root / _PARTIAL / key / f"{_short(path)}.sha256"


class PartialFile:
    """One file that comes: its bytes so far, and what is known of them. Used by one download."""

    def __init__(self, store: ModelStore, directory: Path, file: RemoteFile) -> None:
        """Open what came before of the very same file, or begin anew.

        Raises BlockingIOError while another one writes it.
        """
        self._store = store
        self._key = directory.name
        self._file = file
        self.path = directory / f"{_short(file.path)}.part"
        self._facts = directory / f"{_short(file.path)}.part.json"
        self._kind = Kind(
            size_bytes=file.size_bytes, sha256=file.sha256, etag=file.etag, locator=file.locator
        )
        self._hash = hashlib.sha256()
        # A cancelled download leaves its thread to itself: one after the other, and none after
        # the file is closed, when its number may be another file's.
        self._lock = threading.Lock()
        self._descriptor = _open_part(self.path)
        try:
            self.size_bytes = self._durable_before()
            os.ftruncate(self._descriptor, self.size_bytes)
        except BaseException:
            self.close()
            raise
        self.hashed_bytes = 0

    def read_back(self) -> bool:
        """Hash the next stretch of what came before; return whether there is more of it.

        In stretches, so that nobody has to wait for the whole of a large file.
        """
        with self._lock:
            self._check_open()
            end = min(self.size_bytes, self.hashed_bytes + READ_BACK_BYTES)
            while self.hashed_bytes < end:
                count = min(1 << 20, end - self.hashed_bytes)
                chunk = os.pread(self._descriptor, count, self.hashed_bytes)
                if not chunk:
                    raise Corrupt(f"{self.path} is shorter than it was")
                self._hash.update(chunk)
                self.hashed_bytes += len(chunk)
            return self.hashed_bytes < self.size_bytes

    def restart(self) -> None:
        """Throw away what came: the source begins at 0, or it was not what it should be."""
        with self._lock:
            self._check_open()
            os.ftruncate(self._descriptor, 0)
            self._hash = hashlib.sha256()
            self.size_bytes = self.hashed_bytes = 0
            self._note(0)

    def append(self, data: bytes) -> None:
        """Write the next bytes; raises OSError with what came before in place."""
        with self._lock:
            self._check_open()
            assert self.hashed_bytes == self.size_bytes, "what came before is read back first"
            view = memoryview(data)
            while view:
                # Not all of it may fit: what did is kept and counted.
                written = os.pwrite(self._descriptor, view, self.size_bytes)
                self._hash.update(view[:written])
                self.size_bytes += written
                self.hashed_bytes = self.size_bytes
                view = view[written:]

    def sync(self) -> None:
        """Make durable what came, and note how much it is: a later run goes on from there."""
        with self._lock:
            self._check_open()
            os.fsync(self._descriptor)
            self._note(self.size_bytes)

    def digest(self) -> str:
        """Return the SHA-256 of what is there."""
        return self._hash.hexdigest()

    def finish(self, sha256: str) -> PinnedFile:
        """Make the verified file part of its base model."""
        with self._lock:
            self._check_open()
            os.fsync(self._descriptor)
            done = self._store.adopt(self._key, self._file, self.path, sha256)
            self._facts.unlink(missing_ok=True)
        return done

    def close(self) -> None:
        """Let go of the file; it stays."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, "the download was given up")

    def _durable_before(self) -> int:
        try:
            told = Kind(**json.loads(self._facts.read_bytes()))
            there = self.path.stat().st_size
        except (OSError, ValueError, TypeError):
            return 0
        durable = told.durable_bytes
        same = asdict(told) | {"durable_bytes": 0} == asdict(self._kind)
        if not same or type(durable) is not int or not 0 <= durable <= told.size_bytes:
            return 0
        # Without a digest or a tag that names the content, the rest might be another file's.
        if not told.sha256 and (not told.etag or told.etag.startswith("W/")):
            return 0
        return min(durable, there)

    def _note(self, durable_bytes: int) -> None:
        values = asdict(self._kind) | {"durable_bytes": durable_bytes}
        write_atomically(self._facts, json.dumps(values).encode())


def _open_part(path: Path) -> int:
    """Return the part's descriptor, for one writer at a time and never that of a verified file."""
    with contextlib.suppress(FileNotFoundError):
        told = path.lstat()
        if told.st_nlink > 1 or not stat.S_ISREG(told.st_mode):
            path.unlink()  # a kill in the midst of `adopt`: it is a blob's already
        elif not told.st_mode & stat.S_IWUSR:
            os.chmod(path, _PART_MODE)  # a kill at its very beginning
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, _PART_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it until a moment ago may have made it a blob.
        if os.fstat(descriptor).st_nlink != 1:
            raise BlockingIOError(errno.EAGAIN, "has just been taken over", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _short(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def _files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):  # which leaves out what vanishes meanwhile
        yield from (Path(directory, name) for name in names)


def _count(root: Path, sizes: dict[int, int]) -> frozenset[int]:
    """Note the size of every file below, and return which those are."""
    found = set()
    for path in _files(root):
        with contextlib.suppress(FileNotFoundError):  # a download's own, renamed meanwhile
            told = path.stat()
            sizes[told.st_ino] = told.st_size
            found.add(told.st_ino)
    return frozenset(found)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
