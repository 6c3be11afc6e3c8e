"""`skerry-replica`: starts one engine, serves it, and ends with it.

Composition root of the replica host. Exit codes: 0 ended as asked, 1 the engine could not start or
ended by itself, 2 the spec's file is missing or wrong.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import read_spec
from workload_plane.replica_host.state import record_of, write_record

_log = logs.get_logger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run one replica until it ends and return the exit code."""
    parser = argparse.ArgumentParser(prog="skerry-replica", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="the replica's JSON file")
    arguments = parser.parse_args(argv)
    logs.configure()
    try:
        spec = read_spec(arguments.spec)
    except SkerryError as error:
        print(f"skerry-replica: {error}", file=sys.stderr, flush=True)
        return 2
    logs.bind(replica=spec.name, deployment=spec.deployment)
    try:
        launch = engine_process.prepare(spec, sys.executable)
        # Before gRPC's threads: the kernel ties the engine's life to the thread that starts it.
        engine = engine_process.start(spec, launch)
        _log.info("engine.started", engine=spec.engine.name.value, pid=engine.pid)
        # Only now, while the engine loads.
        from workload_plane.replica_host.serving import serve

        return asyncio.run(serve(spec, launch, engine, SystemClock()))
    except (SkerryError, OSError) as error:
        # An engine that was started dies with this process.
        _log.error("replica.not_started", error=error)
        spec.state_file.parent.mkdir(parents=True, exist_ok=True)
        write_record(spec.state_file, record_of(spec, HostState.FAILED, None, str(error)))
        return 1


if __name__ == "__main__":
    sys.exit(main())
