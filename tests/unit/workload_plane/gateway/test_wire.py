"""What Envoy is told in its own words."""

import pytest

from workload_plane.gateway.wire import socket_address


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::1"])
def test_an_address_is_told_as_it_is(host: str) -> None:
    assert socket_address(host, 8080) == {"socket_address": {"address": host, "port_value": 8080}}


def test_who_listens_on_all_addresses_of_ipv6_is_reached_by_ipv4_too() -> None:
    told = socket_address("::", 8080)["socket_address"]
    assert told == {"address": "::", "port_value": 8080, "ipv4_compat": True}
