"""Settings are read whole or refused with every fault at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.engine import EngineName
from skerry.fleet.node import NODES_REPORTED_MAX
from skerry.plumbing.errors import InvalidInput, NotFound
from workload_plane.settings import default_locks_dir, parse_settings, read_settings

GOOD: dict[str, Any] = {
    "project": "default",
    "plane": "here",
    "cloud": "aws",
    "region": "us-east-1",
    "zone": "",
    "residency_zones": ["us"],
    "labels": {"tier": "one"},
    "pools": [
        {
            "name": "cpu",
            "accelerator": "cpu",
            "accelerator_memory_bytes": 0,
            "nodes": 1,
            "accelerators_per_node": 4,
            "host_memory_bytes": 0,
        }
    ],
    "control_planes": ["127.0.0.1:7000"],
    "data_dir": "/data/here",
    "gateway": {"host": "127.0.0.1", "public_port": 1, "peer_port": 2, "admin_port": 3},
    "front_port": 4,
    "tls": {"ca": "/ca", "certificate": "/cert", "key": "/key"},
    "model_dirs": ["/models"],
    "engine_override": None,
}


def test_good_settings_are_read_whole() -> None:
    settings = parse_settings(GOOD)
    assert settings.identity.labels == (("skerry.io/runtime", "local"), ("tier", "one"))
    assert settings.pools[0].accelerators == 4
    assert settings.gateway.peer_port == 2
    assert settings.engine_override is None
    assert settings.replicas_dir == Path("/data/here/replicas")
    overridden = parse_settings({**GOOD, "engine_override": "simulated"})
    assert overridden.engine_override is EngineName.SIMULATED


def test_all_faults_are_reported_together() -> None:
    wrong = {
        **GOOD,
        "plane": "Not A Name",
        "pools": [{**GOOD["pools"][0], "nodes": "one"}, 7],
        "control_planes": ["nowhere"],
        "data_dir": "relative",
        "gateway": {"public_port": 0, "peer_port": True},
        "front_port": 99_999,
        "engine_override": "perpetuum-mobile",
        "colour": "blue",
    }
    with pytest.raises(InvalidInput) as caught:
        parse_settings(wrong)
    paths = {violation.path for violation in caught.value.violations}
    assert paths >= {
        "plane",
        "pools[0].nodes",
        "pools[1]",
        "control_planes[0]",
        "data_dir",
        "gateway.public_port",
        "gateway.peer_port",
        "gateway.admin_port",
        "front_port",
        "engine_override",
        "colour",
    }


@pytest.mark.parametrize("missing", ["plane", "cloud", "pools", "data_dir", "gateway"])
def test_what_is_missing_is_named(missing: str) -> None:
    values = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(InvalidInput, match=f"{missing}: is missing"):
        parse_settings(values)


def test_a_link_without_certificates_is_refused() -> None:
    with pytest.raises(InvalidInput, match="mTLS only"):
        parse_settings({**GOOD, "tls": None})
    alone = parse_settings({**GOOD, "tls": None, "control_planes": []})
    assert alone.tls is None


def test_where_to_come_back_is_told_only_with_control_planes() -> None:
    assert parse_settings(GOOD).join_addresses == ()
    told = parse_settings({**GOOD, "join_addresses": ["control:7444"]})
    assert told.join_addresses == ("control:7444",)
    for wrong in (
        {"join_addresses": ["control"]},
        {"control_planes": [], "join_addresses": ["a:1"]},
    ):
        with pytest.raises(InvalidInput, match="join_addresses"):
            parse_settings({**GOOD, **wrong})


def test_a_file_that_is_absent_or_no_json_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="skerry up"):
        read_settings(tmp_path / "settings.json")
    path = tmp_path / "settings.json"
    for data in (b"{", b"\xff", b"[" * 100_000):
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match="not JSON"):
            read_settings(path)
    path.write_text(json.dumps(GOOD))
    assert read_settings(path).plane == "here"


def test_prefixes_on_disk_are_in_the_data_directory_unless_told_otherwise() -> None:
    assert parse_settings(GOOD).prefix_disk_dir == Path(GOOD["data_dir"]) / "prefixes"
    told = parse_settings({**GOOD, "prefix_disk_dir": "/nvme/prefixes"})
    assert told.prefix_disk_dir == Path("/nvme/prefixes")
    with pytest.raises(InvalidInput, match="absolute path"):
        parse_settings({**GOOD, "prefix_disk_dir": "nvme"})


def a_pool(name: str = "cpu", nodes: int = 2, **values: Any) -> dict[str, Any]:
    return {**GOOD["pools"][0], "name": name, "nodes": nodes, **values}


def faults_of(*pools: dict[str, Any], plane: str = "here") -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        parse_settings({**GOOD, "plane": plane, "pools": list(pools)})
    return {violation.path: violation.message for violation in caught.value.violations}


def test_nodes_have_the_names_they_are_given_or_are_counted() -> None:
    pools = [a_pool(), a_pool("gpu", node_names=["rack-7", "rack-3"]), a_pool("none", 0)]
    nodes = parse_settings({**GOOD, "pools": pools}).nodes
    assert [(node.name, node.pool, node.accelerators) for node in nodes] == [
        ("cpu-1", "cpu", 4),
        ("cpu-2", "cpu", 4),
        ("rack-7", "gpu", 4),
        ("rack-3", "gpu", 4),
    ]
    assert all(node.ready for node in nodes)


def test_names_of_nodes_are_as_many_as_nodes_and_each_once_in_the_plane() -> None:
    assert faults_of(a_pool(node_names=["one"])).keys() == {"pools[0].node_names"}
    assert faults_of(a_pool(node_names="one")).keys() == {"pools[0].node_names"}
    assert faults_of(a_pool(node_names=["One", "a--b"])).keys() == {
        "pools[0].node_names[0]",
        "pools[0].node_names[1]",
    }
    twice = faults_of(a_pool(node_names=["x", "y"]), a_pool("gpu", node_names=["y", "z"]))
    assert twice.keys() == {"pools[1].node_names[0]"}
    counted = faults_of(a_pool(), a_pool("gpu", node_names=["cpu-2", "z"]))
    assert "appears twice" in counted["pools[0].node_names"]


def test_a_node_whose_id_would_be_too_long_is_refused_with_the_remedy() -> None:
    plane, pool = "p" * 30, "q" * 30
    (fault,) = faults_of(a_pool(pool), plane=plane).items()
    assert fault[0] == "pools[0].node_names"
    assert "longer than 63 characters; name the pool's nodes here" in fault[1]
    named = {**GOOD, "plane": plane, "pools": [a_pool(pool, node_names=["a", "b"])]}
    assert [node.name for node in parse_settings(named).nodes] == ["a", "b"]
    long = faults_of(a_pool(node_names=["a", "b" * 62]))
    assert long.keys() == {"pools[0].node_names[1]"}


def test_a_plane_of_too_many_nodes_lists_none_of_them() -> None:
    many = a_pool("many", NODES_REPORTED_MAX)
    assert len(parse_settings({**GOOD, "pools": [many]}).nodes) == NODES_REPORTED_MAX
    assert parse_settings({**GOOD, "pools": [a_pool(nodes=1), many]}).nodes == ()
    told = faults_of(a_pool(nodes=1, node_names=["x"]), many)
    assert "tells none" in told["pools[0].node_names"]


def test_others_are_told_the_advertised_host_and_the_gateway_listens_on_its_own() -> None:
    gateway = {**GOOD["gateway"], "host": "0.0.0.0", "advertised_host": "lb.example.net"}
    settings = parse_settings({**GOOD, "gateway": gateway})
    assert (settings.gateway.host, settings.gateway.advertised_host) == (
        "0.0.0.0",
        "lb.example.net",
    )
    assert parse_settings(GOOD).gateway.advertised_host == GOOD["gateway"]["host"]


def test_an_advertised_host_that_nobody_can_come_to_is_a_fault_by_name() -> None:
    gateway = {**GOOD["gateway"], "advertised_host": "lb.example.net:8080"}
    with pytest.raises(InvalidInput, match=r"gateway\.advertised_host: 'lb\.example\.net:8080' is"):
        parse_settings({**GOOD, "gateway": gateway})


def test_a_misspelt_setting_of_the_gateway_is_a_fault() -> None:
    gateway = {**GOOD["gateway"], "advertise_host": "lb.example.net"}
    with pytest.raises(InvalidInput, match=r"gateway\.advertise_host: is not a setting"):
        parse_settings({**GOOD, "gateway": gateway})


def test_accelerators_are_locked_where_strangers_cannot_write_if_that_can_be(
    tmp_path: Path,
) -> None:
    assert default_locks_dir(0, tmp_path / "none") == tmp_path / "none"
    assert default_locks_dir(1000, tmp_path) == tmp_path
    assert default_locks_dir(1000, tmp_path / "none") == Path("/tmp/skerry-devices")
