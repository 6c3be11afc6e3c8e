"""The logs of a data directory: begun anew at a start when long, and bounded while they grow.

Every writer appends (O_APPEND), so a log may be copied and cut to nothing under its hands; what
is written between the two is lost. One old file `<name>.1` is kept of each.
"""

import os
from pathlib import Path

from skerry.cli.supervisor.layout import DataDirectory
from skerry.plumbing import logs

_log = logs.get_logger(__name__)

# Two files of this size for each of a plane's ten processes: 1.3 GiB, an evening of debug lines.
LOG_BYTES_MAX = 64 * 1024 * 1024
# Begun anew at a start already from here on, where nothing is lost by it.
START_BYTES_MAX = LOG_BYTES_MAX // 4
FILE_MODE = 0o600  # prompts may stand in an engine's log
_COPY_BYTES = 1024 * 1024


def log_files(directory: DataDirectory) -> tuple[Path, ...]:
    """Return the logs there are: supervisor, control plane, and all of the planes."""
    single = (directory.supervisor_log, directory.control_plane / "log")
    planes = directory.root / "planes"
    found = (*single, *planes.glob("*/logs/*.log"), *planes.glob("*/logs/*/*.log"))
    return tuple(path for path in found if path.is_file())


def begin_log(path: Path) -> None:
    """Put a long log aside and make sure that there is one, readable by its owner alone.

    Call it right before the writer is started: nobody else writes then.
    """
    try:
        if path.stat().st_size > START_BYTES_MAX:
            os.replace(path, old_log(path))
    except FileNotFoundError:
        pass
    path.touch(mode=FILE_MODE)


def bound_logs(directory: DataDirectory) -> None:
    """Cut every log that outgrew its bound; what cannot be cut is told and stays."""
    for path in log_files(directory):
        try:
            if bound_log(path):
                _log.info("log.cut", path=path)
        except OSError as error:
            _log.error("log.not-cut", path=path, error=str(error))


def bound_log(path: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Move the log's last `bytes_max` bytes into the old file, if it has more; say whether.

    With the disk full there is no old file, and the log is cut all the same.
    """
    try:
        if path.stat().st_size <= bytes_max:
            return False
    except FileNotFoundError:  # its replica is gone
        return False
    fault = None
    try:
        _keep_end(path, bytes_max)
    except OSError as error:
        fault = error
    os.truncate(path, 0)
    if fault is not None:
        _log.warning("log.end-lost", path=path, error=str(fault))
    return True


def old_log(path: Path) -> Path:
    """Return where the log's content of before is kept."""
    return path.with_name(f"{path.name}.1")


def _keep_end(path: Path, bytes_max: int) -> None:
    """Copy the end of the log until there is no more, to lose as little as can be."""
    old = old_log(path)
    partial = old.with_name(f"{old.name}.part")
    try:
        with (
            open(path, "rb") as source,
            open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as copy,
        ):
            left = 2 * bytes_max  # a writer faster than we are is not followed for ever
            source.seek(max(0, source.seek(0, os.SEEK_END) - bytes_max))
            while left > 0 and (data := source.read(min(_COPY_BYTES, left))):
                copy.write(data)
                left -= len(data)
        os.replace(partial, old)
    finally:
        partial.unlink(missing_ok=True)
