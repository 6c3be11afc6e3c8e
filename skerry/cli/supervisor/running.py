"""Which replica processes of a plane live, by the records that its agent keeps on disk.

The supervisor looks on every round; `skerry down` ends what is found.
"""

from pathlib import Path

from skerry.cli.supervisor.fleet_file import RunningReplica
from skerry.plumbing.processes import ProcessRecord, is_alive, is_ending
from workload_plane.replica_host.marks import left_below
from workload_plane.replicas.records import ReplicaRecord, read_records


def running_replicas(plane_directory: Path) -> tuple[RunningReplica, ...]:
    """Return the replicas whose host or engine lives."""
    return tuple(
        RunningReplica(
            name=record.name,
            deployment=record.deployment,
            state=record.state.value,
            pid=record.pid,
            engine_pid=record.engine_pid or None,
            http_port=record.http_port,
            grpc_port=record.grpc_port,
            health_port=record.health_port,
        )
        for record in _records(plane_directory)
        if living_processes(record)
    )


def replica_processes(plane_directory: Path) -> tuple[ProcessRecord, ...]:
    """Return the living processes of the plane's replicas: hosts, engines, what those left."""
    records = _records(plane_directory)
    hosts = [r.host_process for r in records]
    engines = [r.engine_process for r in records]
    living = [process for process in (*hosts, *engines) if process and is_alive(process)]
    known = {process.pid for process in living}
    return (*living, *(left for left in left_below(plane_directory) if left.pid not in known))


def living_processes(record: ReplicaRecord) -> tuple[ProcessRecord, ...]:
    """Return those of a replica's two processes that live; one that was killed does not."""
    processes = (record.host_process, record.engine_process)
    living = (process for process in processes if process and is_alive(process))
    return tuple(process for process in living if not is_ending(process))


def _records(plane_directory: Path) -> tuple[ReplicaRecord, ...]:
    return read_records(plane_directory / "replicas")
