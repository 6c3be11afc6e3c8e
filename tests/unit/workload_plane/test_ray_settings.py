"""The section `ray` of a plane's settings: defaults for an own head, and every fault by path."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from skerry.plumbing.errors import InvalidInput
from tests.unit.workload_plane.test_settings import GOOD
from workload_plane.replicas.ray.settings import OwnNode
from workload_plane.settings import parse_settings


def _values(**ray: Any) -> dict[str, Any]:
    values = deepcopy(GOOD) | {"runtime": "ray"}
    values["pools"][0]["nodes"] = 0
    return values | ({"ray": ray} if ray else {})


def _faults(values: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse_settings(values)
    return [violation.path for violation in caught.value.violations]


def test_a_plane_without_the_runtime_has_no_ray() -> None:
    assert parse_settings(GOOD).ray is None
    assert _faults(deepcopy(GOOD) | {"ray": {"port": 1}}) == ["ray"]
    assert _faults(deepcopy(GOOD) | {"runtime": "k8s"}) == ["runtime"]


def test_without_an_address_the_agent_keeps_a_head_on_loopback() -> None:
    ray = parse_settings(_values()).ray
    assert ray is not None
    assert (ray.starts_head, ray.head_address) == (True, "127.0.0.1:6379")
    assert ray.nodes == (OwnNode(name="cpu-1", pool="cpu"),)
    assert ray.pools[0].labels == {"skerry.io/pool": "cpu"}
    assert (ray.pools[0].resource, ray.dashboard) == ("CPU", False)
    assert ray.token_file == Path("/data/here/ray/token")


def test_nodes_are_counted_by_ray_so_settings_may_not_count_them() -> None:
    values = _values()
    values["pools"][0]["nodes"] = 2
    assert _faults(values) == ["pools[0].nodes"]


def test_a_cluster_of_somebody_elses_needs_its_token() -> None:
    assert _faults(_values(address="10.0.0.5:6379")) == ["ray.token_file"]
    ray = parse_settings(_values(address="10.0.0.5:6379", token_file="/t", host="10.0.0.5")).ray
    assert ray is not None
    assert (ray.starts_head, ray.nodes) == (False, ())


def test_every_fault_is_told_by_its_path() -> None:
    faults = _faults(
        _values(
            address="nowhere",
            port=0,
            token_file="t",
            temp_dir="/" + "x" * 60,
            object_store_memory_bytes=1,
            pools={"gpu": {}, "cpu": {"labels": {"a": 1}}},
            nodes=[{"name": "n1", "pool": "cpu"}],
            what=1,
        )
    )
    assert sorted(faults) == sorted(
        [
            "ray.what",
            "ray.address",
            "ray.port",
            "ray.token_file",
            "ray.temp_dir",
            "ray.object_store_memory_bytes",
            "ray.pools.gpu",
            "ray.pools.cpu.labels",
            "ray.nodes",
        ]
    )
