"""The logs of a data directory: begun anew at a start when long, and bounded while they grow.

One old file `<name>.1` is kept of each; `plumbing.bounded_log` cuts them.
"""

import os
from pathlib import Path

from skerry.cli.supervisor.layout import CONTROL_PLANE_NAME, DataDirectory
from skerry.plumbing import logs
from skerry.plumbing.bounded_log import FILE_MODE, bound_log, old_log

_log = logs.get_logger(__name__)

# Two files of this size for each of a plane's ten processes: 1.3 GiB, an evening of debug lines.
LOG_BYTES_MAX = 64 * 1024 * 1024
# Begun anew at a start already from here on, where nothing is lost by it.
START_BYTES_MAX = LOG_BYTES_MAX // 4


def log_files(directory: DataDirectory) -> tuple[Path, ...]:
    """Return the logs there are: supervisor, control plane, and all of the planes."""
    control_planes = directory.root.glob(f"{CONTROL_PLANE_NAME}*/log")
    single = (directory.supervisor_log, *sorted(control_planes))
    planes = directory.root / "planes"
    found = [*single]
    for folder in ("*/logs", "*/nodes/*/logs"):  # a plane's, and those of its Ray nodes here
        found += [*planes.glob(f"{folder}/*.log"), *planes.glob(f"{folder}/*/*.log")]
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
            if bound_log(path, LOG_BYTES_MAX):
                _log.info("log.cut", path=path)
        except OSError as error:
            _log.error("log.not-cut", path=path, error=str(error))
