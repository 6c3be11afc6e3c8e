"""The logs of a runtime's replicas: what is kept of those that are gone.

A runtime is the only writer of its folder: what has no record of its own there belongs to a replica
that is gone.
"""

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from skerry.plumbing.bounded_log import old_log

# A crash loop makes 3,000 replicas a day; the last few tell why as well as all of them.
LOGS_OF_GONE_MAX = 20
_SUFFIX = ".log"
_REPLICA_LOG = re.compile(r"[a-z0-9-]+-r\d+-[0-9a-z]+\.log")


def host_log(logs_dir: Path, name: str) -> Path:
    """Return the log of a replica's host; beside it is the folder of its engine's logs."""
    return logs_dir / f"{name}{_SUFFIX}"


def engine_logs(logs_dir: Path, name: str) -> Path:
    """Return the folder of the logs of a replica's engine."""
    return logs_dir / name


def prune_logs(logs_dir: Path, living: Collection[str]) -> None:
    """Keep the logs of the replicas there are and of the latest that are gone."""
    gone = [
        path
        for path in logs_dir.glob(f"*{_SUFFIX}")
        if _REPLICA_LOG.fullmatch(path.name) and path.stem not in living
    ]
    gone.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in gone[LOGS_OF_GONE_MAX:]:
        path.unlink(missing_ok=True)
        old_log(path).unlink(missing_ok=True)
        shutil.rmtree(engine_logs(logs_dir, path.stem), ignore_errors=True)
