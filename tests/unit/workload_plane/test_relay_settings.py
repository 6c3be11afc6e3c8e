"""The section `relay` of a plane's settings, with every fault told at once."""

from typing import Any

import pytest

from skerry.plumbing.errors import InvalidInput
from workload_plane.relay_settings import HELD_BYTES_MAX, RelaySettings
from workload_plane.settings import parse_settings

PORTS = {"http_port": 9301, "grpc_port": 9302, "inner_port": 9303}
VALUES: dict[str, Any] = {
    "plane": "a",
    "cloud": "c",
    "region": "r",
    "pools": [],
    "data_dir": "/data",
    "gateway": {"public_port": 1, "peer_port": 2, "admin_port": 3},
    "front_port": 4,
}


def test_a_plane_without_the_section_has_no_relay() -> None:
    assert parse_settings(VALUES).relay is None


def test_the_ports_are_read() -> None:
    settings = parse_settings(VALUES | {"relay": PORTS})
    assert settings.relay == RelaySettings(**PORTS, held_bytes_max=HELD_BYTES_MAX)
    assert str(settings.relay_path) == "/data/relay.json"


@pytest.mark.parametrize(
    ("relay", "path"),
    [
        ({}, "relay.http_port"),
        (PORTS | {"grpc_port": 70_000}, "relay.grpc_port"),
        (PORTS | {"inner_port": 9301}, "relay.inner_port"),
        (PORTS | {"held_bytes_max": -1}, "relay.held_bytes_max"),
        (PORTS | {"speed": 1}, "relay.speed"),
        (7, "relay"),
    ],
)
def test_what_is_wrong_is_told_by_its_path(relay: Any, path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_settings(VALUES | {"relay": relay})
    assert path in [violation.path for violation in refused.value.violations]
