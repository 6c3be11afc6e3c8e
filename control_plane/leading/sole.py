"""One control plane for one SQLite file: it starts at once after a crash, and a second is refused.

SQLite has no standbys. High availability means PostgreSQL.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from control_plane.store.engine import parse_url
from skerry.plumbing.errors import Conflict
from skerry.plumbing.files import lock_file


def is_sole(database_url: str) -> bool:
    """Say whether one control plane alone may have this database."""
    return parse_url(database_url).get_backend_name() == "sqlite"


@contextlib.contextmanager
def sole_control_plane(database_url: str) -> Iterator[None]:
    """Hold the file's lock for the block; Conflict while a living control plane has it.

    The kernel drops it with its holder, so after a crash nothing waits. On a file system that is
    shared by hosts a lock may not be: keep the file on a disk of this host.
    """
    if not is_sole(database_url):
        yield
        return
    path = Path(str(parse_url(database_url).database))
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock_file(path.with_name(f"{path.name}.lock")))
        except Conflict as error:
            raise Conflict(
                f"control plane process {error.hints.get('pid') or 'unknown'} has {path} open; an"
                " SQLite file has one control plane: stop that one, or use a postgresql:// database"
                " for several",
                hints=error.hints,
            ) from None
        yield
