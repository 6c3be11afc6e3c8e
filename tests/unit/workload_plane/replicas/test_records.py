"""Records survive what they are written for, and damage costs only the damaged one."""

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.fleet.observation import ReplicaState
from skerry.plumbing.errors import Corrupt
from workload_plane.replicas.records import (
    ReplicaRecord,
    UnreadableRecord,
    read_all,
    read_record,
    read_records,
    record_path,
    write_record,
)

RECORD = ReplicaRecord(
    name="demo-r1-aaaaaa",
    deployment="demo",
    revision=1,
    pool="here--cpu",
    devices=(0, 1),
    nodes=("rack-7",),
    start_seconds=12.5,
    pid=1234,
    start_time=55.0,
    boot_id="b",
    http_port=8000,
    state=ReplicaState.READY,
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert read_records(tmp_path) == (RECORD,)
    assert RECORD.host_process is not None
    assert RECORD.engine_process is None


def test_a_damaged_record_hides_no_other(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    (tmp_path / "torn.json").write_bytes(b'{"name": "to')
    (tmp_path / "list.json").write_bytes(b"[]")
    (tmp_path / "other-r1-a").mkdir()
    write_record(tmp_path / "other-r1-a", RECORD)
    (tmp_path / "other-r1-a" / f"{RECORD.name}.json").rename(tmp_path / "other.json")
    assert read_records(tmp_path) == (RECORD,)
    unreadable = [one for one in read_all(tmp_path) if isinstance(one, UnreadableRecord)]
    assert [one.name for one in unreadable] == ["list", "other", "torn"]
    assert all(one.fault for one in unreadable)
    assert read_records(tmp_path / "absent") == ()


def test_a_later_releases_field_is_left_out_and_a_wrong_type_is_damage(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    path = record_path(tmp_path, RECORD.name)
    text = path.read_text()
    path.write_text(text.replace('"pid": 1234', '"pid": 1234, "aura": "blue"'))
    assert read_record(path) == RECORD
    path.write_text(text.replace('"pid": 1234', '"pid": "1234"'))
    with pytest.raises(Corrupt, match="pid"):
        read_record(path)
    path.write_text(text.replace('"rack-7"', "7"))
    with pytest.raises(Corrupt, match="nodes"):
        read_record(path)
    path.write_text(text.replace("12.5", '"long"'))
    with pytest.raises(Corrupt, match="start_seconds"):
        read_record(path)


def test_a_record_of_a_release_without_nodes_is_read(tmp_path: Path) -> None:
    path = record_path(tmp_path, RECORD.name)
    path.write_text(
        '{"accelerators": 1, "boot_id": "b", "deployment": "demo", "devices": [0, 1],'
        ' "engine_pid": 0, "engine_start_time": 0.0, "grpc_port": 0, "health_port": 0,'
        ' "http_port": 8000, "message": "", "name": "demo-r1-aaaaaa", "pid": 1234,'
        ' "pool": "here--cpu", "restarts": 0, "revision": 1, "served_name": "",'
        ' "start_time": 55.0, "started_at": "", "state": "ready"}'
    )
    assert read_record(path) == replace(RECORD, nodes=(), start_seconds=0.0)
