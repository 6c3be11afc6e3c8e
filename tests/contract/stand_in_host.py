"""A replica host that serves nothing: for the contract of the replica runtime.

Starts `sleep` as its engine, writes the state file, listens on the health port, ends on SIGTERM
or with its engine, as the real one does. With `--leaves-one` its engine has a child that takes a
session of its own, closes all that it was given, and outlives both.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from skerry.plumbing.processes import record_of
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.marks import environment_of
from workload_plane.replica_host.spec import read_spec
from workload_plane.replica_host.state import ReplicaRecord, write_record

LEAVES_ONE = "--leaves-one"


def main() -> int:
    """Run until SIGTERM or until the engine ends."""
    spec = read_spec(Path(sys.argv[sys.argv.index("--spec") + 1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server((spec.host, spec.health_port))
    leaves = "setsid -f sleep 601 < /dev/null > /dev/null 2>&1; " if LEAVES_ONE in sys.argv else ""
    marked = {**os.environ, **environment_of(spec)}
    command = ["sh", "-c", f"{leaves}exec sleep 600"]
    engine = subprocess.Popen(command, start_new_session=True, env=marked)
    try:
        write_record(
            spec.state_file,
            ReplicaRecord(
                name=spec.name,
                deployment=spec.deployment,
                revision=spec.revision,
                pool=spec.pool,
                state=HostState.READY,
                host=record_of(os.getpid()),
                engine=record_of(engine.pid),
                http=f"{spec.host}:{spec.http_port}",
                grpc=f"{spec.host}:{spec.grpc_port}",
                health=f"{spec.host}:{spec.health_port}",
            ),
        )
        engine.wait()
    finally:
        engine.kill()
        engine.wait()
        listener.close()
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
