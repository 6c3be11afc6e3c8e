"""What a launcher ends is gone, also when its node's records say nothing of it."""

import sys
from dataclasses import replace
from pathlib import Path

from skerry.plumbing.processes import is_alive
from workload_plane.replicas.apart import spawn_apart
from workload_plane.replicas.ray.launcher import end_and_forget, node_runtime
from workload_plane.replicas.ray.values import LaunchPlace
from workload_plane.replicas.records import ReplicaRecord


async def test_a_process_without_a_record_is_ended_all_the_same(tmp_path: Path) -> None:
    place = LaunchPlace(
        plane="here",
        node="n1",
        node_id="a1",
        replicas_dir=str(tmp_path / "replicas"),
        logs_dir=str(tmp_path / "logs"),
        host="127.0.0.1",
    )
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    process = spawn_apart(command, env={}, stdout_path=tmp_path / "log")
    record = ReplicaRecord(name="demo-r1-a", deployment="demo", revision=1, pool="here--cpu")
    record = replace(
        record, pid=process.pid, start_time=process.start_time, boot_id=process.boot_id
    )
    assert is_alive(process)
    assert await end_and_forget(node_runtime(place), record, 5.0) == ""
    assert not is_alive(process)
    assert await end_and_forget(node_runtime(place), record, 5.0) == ""
