"""A program started with less than its starter may do, and dead with it.

It can gain no privileges, leaves no core, writes files that are its own user's alone, and is
another user where its starter may change to one. Replica hosts start engines so.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.plumbing.errors import Denied, NotFound
from skerry.plumbing.processes import ProcessRecord, record_of

_UMASK = 0o077
# To become another user, to give it its files, and to see and end it then. A container's root may
# lack some: an engine that could not be ended must not be started.
_CAPABILITIES = {"CHOWN": 0, "KILL": 5, "SETGID": 6, "SETUID": 7, "SYS_PTRACE": 19}
# Runs as the child, already as its user: a change of user takes the parent's death off. Not
# `preexec_fn`, which runs Python between fork and exec beside gRPC's threads and may deadlock, and
# not setpriv, which cannot see whether the parent was dead already.
_CONFINE = (
    "import ctypes,os,resource,sys\n"
    "for order in ((1,9,0,0,0),(38,1,0,0,0),(47,4,0,0,0)):\n"  # SIGKILL, no gains, nothing ambient
    " if ctypes.CDLL(None).prctl(*order): sys.exit(f'prctl {order[0]} is refused')\n"
    "resource.setrlimit(resource.RLIMIT_CORE,(0,0))\n"
    "os.getppid()==int(sys.argv[1]) or os._exit(1)\n"
    "os.execvp(sys.argv[2],sys.argv[2:])\n"
)
_REACH = (
    "import os,sys\nfor path in sys.argv[1:]:\n"
    " os.access(path,os.R_OK|(os.X_OK if os.path.isdir(path) else 0)) or print(path)\n"
)
_REACH_SECONDS_MAX = 20.0  # an interpreter's start; seconds from a disk that is cold


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user by number, with its group and the groups it is in besides."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def why_no_other_user() -> str:
    """Return what this process lacks to start programs as another user, empty if nothing."""
    if os.geteuid() != 0:
        return "only root may start an engine as another user"
    status = Path("/proc/self/status").read_text()
    held = next(int(line[7:], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    lacking = [f"CAP_{name}" for name, bit in _CAPABILITIES.items() if not held >> bit & 1]
    return f"root lacks {', '.join(lacking)} here" if lacking else ""


def spawn_confined(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    stdout_path: Path,
    held: Sequence[int],
    user: User | None,
) -> ProcessRecord:
    """Start a program in its own session, confined, and return its record; call as `spawn`.

    It inherits the descriptors that are `held`, and dies with the calling THREAD. Without a user it
    is ours. Raises NotFound without such a program, Denied where the user cannot run Python.
    """
    program = shutil.which(argv[0], path=env.get("PATH"))
    if program is None:
        raise NotFound(f"no program {argv[0]!r} on PATH; install it or give its full path")
    with open(stdout_path, "ab") as output:
        try:
            child = subprocess.Popen(
                [sys.executable, "-ISc", _CONFINE, str(os.getpid()), program, *argv[1:]],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                close_fds=True,
                pass_fds=held,
                start_new_session=True,
                umask=_UMASK,
                user=None if user is None else user.uid,
                group=None if user is None else user.gid,
                extra_groups=None if user is None else user.groups,
            )
        except PermissionError:
            raise Denied(_cannot_run(user, sys.executable)) from None
    record = record_of(child.pid, name=Path(argv[0]).name)
    # Children are reaped by pid in `processes`; Popen must not warn about one it forgot.
    child.returncode = 0
    return record


def unreachable(user: User, paths: Collection[Path]) -> tuple[Path, ...]:
    """Return which of the paths the user cannot read; raises Denied if it cannot run Python."""
    try:
        told = subprocess.run(
            [sys.executable, "-ISc", _REACH, *map(str, paths)],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_REACH_SECONDS_MAX,
            check=True,
            user=user.uid,
            group=user.gid,
            extra_groups=user.groups,
        )
    except (OSError, subprocess.SubprocessError):
        raise Denied(_cannot_run(user, sys.executable)) from None
    return tuple(Path(line) for line in told.stdout.decode().splitlines())


def _cannot_run(user: User | None, program: str) -> str:
    who = "this user" if user is None else f"user {user.uid} (group {user.gid})"
    return (
        f"{who} cannot run {program}: let it pass every directory on the way there, or install"
        " Skerry and its Python where every user may read, as below /opt"
    )
