"""Settings are read whole or refused with every fault at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.engine import EngineName
from skerry.plumbing.errors import InvalidInput, NotFound
from workload_plane.settings import parse_settings, read_settings

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
    assert settings.identity.labels == (("tier", "one"),)
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


def test_a_file_that_is_absent_or_no_json_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="skerry up"):
        read_settings(tmp_path / "settings.json")
    path = tmp_path / "settings.json"
    path.write_text("{")
    with pytest.raises(InvalidInput, match="not JSON"):
        read_settings(path)
    path.write_text(json.dumps(GOOD))
    assert read_settings(path).plane == "here"
