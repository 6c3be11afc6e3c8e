"""A replica host that serves nothing: for the contract of the replica runtime.

Starts `sleep` as its engine, writes the state file, listens on the health port, ends on SIGTERM
or with its engine, as the real one does.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from skerry.plumbing.processes import record_of
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import read_spec
from workload_plane.replica_host.state import ReplicaRecord, write_record


def main() -> int:
    """Run until SIGTERM or until the engine ends."""
    spec = read_spec(Path(sys.argv[sys.argv.index("--spec") + 1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server((spec.host, spec.health_port))
    engine = subprocess.Popen(["sleep", "600"], start_new_session=True)
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
