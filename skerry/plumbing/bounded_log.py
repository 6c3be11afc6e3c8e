"""A log that is cut to nothing when it outgrew its bound, with its end kept in `<name>.1`.

Every writer appends (O_APPEND), so a log may be copied and cut under its hands; what is written
between the two is lost. A pipe through this process would lose none, and would stop a writer
whose reader hangs.
"""

import os
from pathlib import Path

from skerry.plumbing import logs

_log = logs.get_logger(__name__)

FILE_MODE = 0o600  # prompts may stand in an engine's log
_COPY_BYTES = 1024 * 1024


def bound_log(path: Path, bytes_max: int, kept_bytes_max: int | None = None) -> bool:
    """Move the end of the log into the old file, if it has more than `bytes_max`; say whether.

    The end is `kept_bytes_max` long, else `bytes_max`, from the first whole line on. With the disk
    full there is no old file, and the log is cut all the same. Raises OSError when it cannot be.
    """
    try:
        if path.stat().st_size <= bytes_max:
            return False
    except FileNotFoundError:  # its replica is gone
        return False
    fault = None
    try:
        _keep_end(path, bytes_max if kept_bytes_max is None else kept_bytes_max)
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
            begin = max(0, source.seek(0, os.SEEK_END) - bytes_max)
            source.seek(begin)
            is_first = begin > 0
            while left > 0 and (data := source.read(min(_COPY_BYTES, left))):
                copy.write(data[data.find(b"\n") + 1 :] if is_first else data)
                left -= len(data)
                is_first = False
        os.replace(partial, old)
    finally:
        partial.unlink(missing_ok=True)
