"""An empty SQLite store at this release's schema: migrated once a process, then copied."""

import functools
import tempfile
from pathlib import Path

from control_plane.store.schema import upgrade


def make_empty_store(path: Path) -> str:
    """Write the file and return its URL; migrating for each test took ten times as long."""
    path.write_bytes(_migrated())
    return f"sqlite:///{path}"


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "skerry.db"
        upgrade(f"sqlite:///{path}")
        return path.read_bytes()
