"""Keeps what Ray's own nodes of this host leave on disk within bounds, while they run for months.

Ray bounds each log (`environment`), but not how many there are: each process that joins leaves
some, each raylet that is started again a folder of sockets. `own_nodes` calls it now and then.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from skerry.plumbing import logs

_log = logs.get_logger(__name__)

LOGS_BYTES_MAX = 512 * 1024 * 1024  # of all Ray nodes of a plane on this host
LOGS_MAX = 2_000
# A process that lives writes at least its metrics' line each minute, or has its log open for long.
QUIET_SECONDS = 86_400.0
_LOGS = "session_*/logs/**/*"
_NODE_LOGS = "*/session_*/logs/**/*"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One file: its size, and when it was last written, in seconds of Unix time."""

    path: Path
    size_bytes: int
    written_at: float


def too_many(files: Iterable[LogFile], now: float) -> tuple[LogFile, ...]:
    """Return the files to remove, the longest quiet first, until the rest is within bounds."""
    known = sorted(files, key=lambda file: (file.written_at, str(file.path)))
    size, count = sum(file.size_bytes for file in known), len(known)
    gone: list[LogFile] = []
    for file in known:
        if size <= LOGS_BYTES_MAX and count <= LOGS_MAX:
            break
        if now - file.written_at < QUIET_SECONDS:
            break  # its writer may live, and would go on into a file that nobody sees
        gone.append(file)
        size, count = size - file.size_bytes, count - 1
    return tuple(gone)


def sweep(folder: Path, now: float) -> int:
    """Remove the oldest of Ray's logs below the folder past the bounds; return how many."""
    gone = too_many(_files(folder), now)
    for file in gone:
        try:
            file.path.unlink()
        except OSError as error:
            _log.warning("ray.log-not-removed", path=file.path, error=str(error))
    if gone:
        _log.info("ray.logs-removed", folder=folder, files=len(gone))
    return len(gone)


def _files(folder: Path) -> list[LogFile]:
    found: dict[Path, LogFile] = {}
    for pattern in (_LOGS, _NODE_LOGS):
        for path in folder.glob(pattern):
            real = path.resolve()  # `session_latest` is a link to one of the others
            try:
                status = real.stat()
            except OSError:
                continue
            if real.is_file():
                size, at = status.st_size, status.st_mtime
                found[real] = LogFile(path=real, size_bytes=size, written_at=at)
    return list(found.values())
