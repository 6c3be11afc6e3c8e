"""Starts a process that nothing of its starter's ties can reach: own session, other parent.

Ray ends the children of its workers with them, also those in sessions of their own (measured:
docs/decisions/0011-ray-runtime.md). What is started here has no parent but init.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from skerry.plumbing.errors import NotFound, Unavailable
from skerry.plumbing.processes import ProcessRecord, record_of

START_SECONDS_MAX = 20.0  # two forks and an exec; a machine that swaps takes seconds
# What Ray puts into its workers' environment for itself; an engine would be slowed by the first
# (one thread), and be handed the cluster's token by the others.
_RAY_OWN = ("OMP_NUM_THREADS",)
_RAY_PREFIX = "RAY_"
# Runs as the child: forks, says who the grandchild is, and ends. Not os.fork in a threaded worker.
_DETACH = (
    "import os,sys\n"
    "child=os.fork()\n"
    "if child:\n"
    " os.write(1,str(child).encode()); os._exit(0)\n"
    "os.setsid()\n"
    "log=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT,0o600)\n"
    "os.dup2(log,1); os.dup2(log,2); os.close(log)\n"
    "os.execvp(sys.argv[2],sys.argv[2:])\n"
)


def spawn_apart(argv: Sequence[str], *, env: Mapping[str, str], stdout_path: Path) -> ProcessRecord:
    """Start the program in its own session with init as its parent; return its record.

    Raises Unavailable when it cannot be started.
    """
    try:
        started = subprocess.run(
            [sys.executable, "-ISc", _DETACH, str(stdout_path), *argv],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            start_new_session=True,
            timeout=START_SECONDS_MAX,
            check=True,
        )
        return record_of(int(started.stdout), name=Path(argv[0]).name)
    except (OSError, ValueError, subprocess.SubprocessError, NotFound) as error:
        raise Unavailable(f"{argv[0]} cannot be started: {error}") from None


def without_ray(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment without what Ray added for its own processes."""
    kept = {
        key: value
        for key, value in environment.items()
        if not key.startswith(_RAY_PREFIX) and key not in _RAY_OWN
    }
    if kept.get("CUDA_VISIBLE_DEVICES") == "":
        del kept["CUDA_VISIBLE_DEVICES"]  # a worker that asked for no accelerator sees none
    return kept
