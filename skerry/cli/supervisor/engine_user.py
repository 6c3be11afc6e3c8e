"""Engines of a fleet on this host as a user of their own: `skerry up --engine-user UID[:GID]`.

What is refused here is refused before anything starts. Below a plane's directory its replica hosts
open the ways themselves; the directories above are the fleet's, and opened here.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from skerry.cli.supervisor.layout import DataDirectory, Layout
from skerry.plumbing.confined import User, unreachable, why_no_other_user
from skerry.plumbing.errors import Denied, InvalidInput

_ID_MAX = 2**32 - 2


def numbers_of(text: str) -> tuple[int, int]:
    """Return the user and the group in `UID` or `UID:GID`; raises InvalidInput."""
    uid, _, gid = text.partition(":")
    found = [int(part) if part.isdigit() else 0 for part in (uid, gid or uid)]
    if not all(0 < number <= _ID_MAX for number in found):
        raise InvalidInput(
            f"--engine-user must be UID or UID:GID, numbers of 1..{_ID_MAX}, not {text!r}",
            field="--engine-user",
        )
    return found[0], found[1]


def let_engines_in(directory: DataDirectory, layout: Layout, models: Sequence[Path]) -> None:
    """Let the engines' user pass to the planes' directories.

    Raises InvalidInput for what is no user, Denied where this host keeps it from its work.
    """
    if not layout.engine_user:
        return
    uid, gid = numbers_of(layout.engine_user)
    if why := why_no_other_user():
        raise Denied(f"--engine-user {layout.engine_user}: {why}; leave it out, or say ''")
    planes = directory.plane("any").parent
    planes.mkdir(parents=True, exist_ok=True)
    for path in (directory.root, planes):
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & stat.S_IXOTH:
            os.chown(path, -1, gid)
            # They pass, and list nothing; what the group before could do is not theirs.
            path.chmod(mode & ~stat.S_IRWXG | stat.S_IXGRP)
    closed = unreachable(User(uid=uid, gid=gid), models)
    if closed:
        raise Denied(
            f"--engine-user {layout.engine_user}: that user cannot read {closed[0]}; let it pass"
            " every directory on the way there, or name other models in SKERRY_MODEL_DIR"
        )
    if not _passes(planes, uid, gid):
        raise Denied(
            f"--engine-user {layout.engine_user}: that user cannot pass to {planes}; take a"
            " --data-dir that it can, as below /var/lib or /srv"
        )


def _passes(planes: Path, uid: int, gid: int) -> bool:
    """Say whether the user reaches what lies below: seen at an empty file of everybody's."""
    seen = planes / ".reachable"
    seen.touch()
    try:
        seen.chmod(0o444)
        return not unreachable(User(uid=uid, gid=gid), [seen])
    finally:
        seen.unlink(missing_ok=True)
