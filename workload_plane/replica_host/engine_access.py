"""As whom a replica's engine runs, and the ways that its files are opened for that user.

The replica host asks before it starts the engine. Only what belongs to the host's own user, and
lies within the plane's data directory, is opened, and only for the engines' group: to pass through
directories, and to read the base model and the engine's own configuration.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.confined import User, unreachable, why_no_other_user
from skerry.plumbing.errors import Denied
from workload_plane.engine_user import EngineUser
from workload_plane.replica_host.spec import ReplicaSpec

_log = logs.get_logger(__name__)

_PASS, _READ, _LIST = stat.S_IXGRP, stat.S_IRGRP, stat.S_IRGRP | stat.S_IXGRP
_HOME_MODE = 0o700
_FILES_MAX = 100_000  # of one base model; the largest have a few hundred
_OF_RANKS = "engines over several nodes are started by Ray, as Ray's user"


def engine_user(spec: ReplicaSpec) -> tuple[EngineUser | None, str]:
    """Return as whom the engine is started, None for the host's own user, and what it is told by.

    The text is empty where it is as the plane's settings say.
    """
    wanted = spec.engine_user
    if wanted is None or (os.geteuid(), os.getegid()) == (wanted.uid, wanted.gid):
        return None, ""
    why = _OF_RANKS if spec.nodes > 1 else why_no_other_user()
    if not why:
        return wanted, ""
    return None, f"the engine runs as user {os.geteuid()}, not as engine_user {wanted.uid}: {why}"


def as_user(user: EngineUser | None) -> User | None:
    """Return the user as whom a process is started."""
    return None if user is None else User(uid=user.uid, gid=user.gid, groups=user.groups)


def open_ways(spec: ReplicaSpec, user: EngineUser, program: str, disk_path: Path | None) -> None:
    """Let the engine's user reach its files and its program; raises Denied for what it cannot.

    The directory for prefixes, if any, was given to it before.
    """
    user.home.mkdir(mode=_HOME_MODE, parents=True, exist_ok=True)
    os.chown(user.home, user.uid, user.gid)
    user.home.chmod(_HOME_MODE)
    wanted = [spec.config_dir, *(Path(model) for model in _models(spec))]
    for path in (user.home, *wanted):
        _open_way(path, user, user.within)
    for path in wanted:
        _open_tree(path, user)
    found = shutil.which(program)
    needed = [user.home, *wanted, *([Path(found)] if found else [])]
    needed += [disk_path] if disk_path else []
    if closed := unreachable(User(uid=user.uid, gid=user.gid, groups=user.groups), needed):
        raise Denied(
            f"engine_user {user.uid} (group {user.gid}) cannot read {closed[0]}: let it read that"
            " and pass every directory on the way there, as with `chmod o+x`, or choose another"
            " engine_user"
        )


def give_directory(path: Path, user: EngineUser, within: Path) -> None:
    """Make a directory the engine's own; those above it, from `within` down, it may but pass."""
    os.chown(path, user.uid, user.gid)
    _open_way(path, user, within)
    _open_way(within, user, user.within)


def _models(spec: ReplicaSpec) -> tuple[str, ...]:
    # The simulated engine has no base model: its path may be any text.
    found = (spec.model_path, spec.draft_model_path or "")
    return tuple(path for path in found if path and os.path.exists(path))


def _open_way(path: Path, user: EngineUser, within: Path) -> None:
    """Let the group pass the directories above the path, from `within` down."""
    whole, top = path.resolve(), within.resolve()
    if not whole.is_relative_to(top):
        return
    for directory in whole.parents:
        if directory.is_relative_to(top):
            _allow(directory, user, _PASS)


def _open_tree(path: Path, user: EngineUser) -> None:
    """Let the group read all below the path, if it lies within the plane's directory.

    A link that leads out of there opens nothing: it may lead to the plane's key.
    """
    top = path.resolve()
    if not top.is_relative_to(user.within.resolve()):
        return
    for one in _tree(top):
        whole = one.resolve()
        if whole.is_relative_to(top) and whole.exists():
            _allow(whole, user, _LIST if whole.is_dir() else _READ)


def _tree(path: Path) -> Iterator[Path]:
    yield path
    files = 0
    for where, names, found in os.walk(path):
        for name in (*names, *found):
            files += 1
            if files > _FILES_MAX:
                return
            yield Path(where) / name


def _allow(path: Path, user: EngineUser, bits: int) -> None:
    told = os.stat(path)
    others = bits >> 3
    if told.st_mode & others == others or told.st_uid != os.geteuid():
        return  # everybody may; or it is not ours to open, and the look at the end says so
    if told.st_gid != user.gid:
        os.chown(path, -1, user.gid)
        told = os.stat(path)
        # What the group before could do is not the new one's.
        os.chmod(path, stat.S_IMODE(told.st_mode) & ~stat.S_IRWXG | bits)
    elif told.st_mode & bits != bits:
        os.chmod(path, stat.S_IMODE(told.st_mode) | bits)
