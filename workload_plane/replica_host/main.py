"""`skerry-replica`: starts one engine, serves it, and ends with it.

Composition root of the replica host. Exit codes: 0 ended as asked, 1 the engine could not start or
ended by itself, 2 the spec's file is missing or wrong.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from skerry.fleet.engine import EngineName
from skerry.plumbing import logs, processes
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.device_locks import take_devices
from workload_plane.replica_host.engine_access import engine_user
from workload_plane.replica_host.engine_group import EngineGroup
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.prefix_disk import take_place
from workload_plane.replica_host.spec import ReplicaSpec, read_spec
from workload_plane.replica_host.state import Counts, record_of, write_record

_log = logs.get_logger(__name__)

# Which interpreter starts engines that are Python modules; without it `python3` of the PATH.
PYTHON_VARIABLE = "SKERRY_ENGINE_PYTHON"


def engine_python(name: EngineName, environment: Mapping[str, str]) -> str:
    """Return the interpreter that has the engine: Skerry's own has none but Skerry's own."""
    if name in (EngineName.SIMULATED, EngineName.LLAMACPP):
        return sys.executable
    return environment.get(PYTHON_VARIABLE) or "python3"


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
    logs.bind(
        plane=spec.plane, replica=spec.name, deployment=spec.deployment, revision=spec.revision
    )
    clock = SystemClock()
    held: tuple[int, ...] = ()
    place = None
    try:
        processes.adopt_orphans()
        held = _take_devices(spec)
        user, note = engine_user(spec)
        if note:
            _log.warning("engine.user-not-changed", reason=note)
        place = take_place(spec, user)
        python = engine_python(spec.engine.name, os.environ)
        launch = engine_process.prepare(spec, python, place.blocks if place else None, user)
        # Before gRPC's threads: the kernel ties the engine's life to the thread that starts it.
        engine = EngineGroup(spec, launch, held=held, place=place, user=user, owns_children=True)
        engine.start()
        _log.info("engine.started", engine=spec.engine.name.value, pid=engine.first.pid)
        # Only now, while the engine loads.
        from workload_plane.replica_host.serving import serve

        return asyncio.run(serve(spec, launch, engine, clock, note))
    except Exception as error:
        # Also a mistake of ours is told in the record: else people see a host that is gone. An
        # engine that was started dies with this process.
        if isinstance(error, SkerryError | OSError):
            _log.error("replica.not_started", error=error)
        else:
            _log.exception("replica.not_started")
        spec.state_file.parent.mkdir(parents=True, exist_ok=True)
        counts, told = Counts(failures=spec.failures), str(error) or repr(error)
        write_record(spec.state_file, record_of(spec, HostState.FAILED, None, told, counts))
        return 1
    finally:
        for descriptor in held:  # the next engine need not wait until a disk is tidy
            os.close(descriptor)
        if place is not None:
            asyncio.run(place.give_back(clock))


def _take_devices(spec: ReplicaSpec) -> tuple[int, ...]:
    if spec.device_locks_dir is None or not spec.locks_devices:
        return ()
    return take_devices(spec.device_locks_dir, spec.accelerators)


if __name__ == "__main__":
    sys.exit(main())
