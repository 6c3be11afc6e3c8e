"""A plane tells others a host that they can come to, or refuses to start and says what to tell."""

import pytest

from workload_plane.advertised import advertised_host, is_wildcard, machine_name


def unasked() -> str:
    raise AssertionError("the machine's name is nobody's business here")


@pytest.mark.parametrize("bound", ["127.0.0.1", "10.0.0.10", "gpu-1.example.net", "localhost"])
def test_without_another_word_others_come_to_where_the_gateway_listens(bound: str) -> None:
    assert advertised_host("", bound, unasked) == bound


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "10.0.0.10", "fd00::1"])
def test_what_is_told_goes_before_all(bound: str) -> None:
    assert advertised_host("lb.example.net", bound, unasked) == "lb.example.net"


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "0::0"])
def test_who_listens_everywhere_is_reached_by_the_machines_name(bound: str) -> None:
    assert is_wildcard(bound)
    assert advertised_host("", bound, lambda: "gpu-1.example.net") == "gpu-1.example.net"


@pytest.mark.parametrize("name", ["", "localhost", "localhost.localdomain"])
def test_a_machine_without_a_name_of_its_own_needs_to_be_told_one(name: str) -> None:
    with pytest.raises(ValueError, match=r"tell gateway\.advertised_host"):
        advertised_host("", "0.0.0.0", lambda: name)


@pytest.mark.parametrize(
    "told",
    ["0.0.0.0", "::", "fd00::1", "[fd00::1]", "a:8080", "https://a", "two names", "-", "a" * 254],
)
def test_what_nobody_can_come_to_is_refused(told: str) -> None:
    with pytest.raises(ValueError, match=r"tell gateway\.advertised_host"):
        advertised_host(told, "10.0.0.10", unasked)


def test_this_machine_has_a_name_or_none_but_never_fails() -> None:
    assert isinstance(machine_name(), str)
