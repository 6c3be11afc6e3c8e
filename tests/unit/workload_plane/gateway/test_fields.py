"""Numbers as Envoy prints them are told apart by their size; what is refused is in the tables."""

import json
import re

import pytest

from tests.unit.workload_plane.gateway.gateway_builders import DESCRIPTOR_SET, a_model, a_topology
from workload_plane.gateway.fields import NAMESPACE, field_fault, field_faults, field_rules
from workload_plane.gateway.resources import build_snapshot
from workload_plane.gateway.wire import Json


def told(number: str, place: int) -> str:
    """Return the filter state of a request with one of the five numbers."""
    numbers = [""] * 5
    numbers[place] = number
    return f"{','.join(numbers[:2])};{','.join(numbers[2:])};|"


def holds(predicate: Json, state: str) -> bool:
    """Say whether a predicate holds of a filter state."""
    regex = predicate["single_predicate"]["value_match"]["safe_regex"]["regex"]
    return re.fullmatch(regex, state) is not None


def matches(state: str) -> list[bool]:
    """Say which of the two bounds refuse it."""
    found = [holds(predicate, state) for predicate, _ in field_faults()]
    assert any(found) == holds(field_fault(), state)
    assert not any(found[2:])
    return found[:2]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("number", "is_many"),
    [
        *((number, False) for number in ("", "1", "9", "99", "100", "128", "-1", "-1000", "0.5")),
        *((number, True) for number in ("129", "130", "199", "200", "999", "1000", "1e+06")),
        *((number, True) for number in ("128.5", "1.5e+18", "4294967296", "1e+300")),
    ],
)
def test_more_answers_than_the_bound_are_refused_wherever_they_are_asked_for(
    number: str, is_many: bool, place: int
) -> None:
    assert matches(told(number, place)) == [is_many, False]


@pytest.mark.parametrize("place", [2, 3, 4])
@pytest.mark.parametrize(
    ("number", "is_long"),
    [
        *((number, False) for number in ("", "1", "16384", "1e+06", "999999999", "9.5e+08", "-1")),
        *((number, True) for number in ("1000000000", "2147483648", "1e+09", "1e+12", "1e+300")),
    ],
)
def test_more_tokens_than_the_bound_are_refused_wherever_they_are_asked_for(
    number: str, is_long: bool, place: int
) -> None:
    assert matches(told(number, place)) == [False, is_long]


def test_every_number_is_looked_at_beside_the_others() -> None:
    assert matches("1,2;3,4,5;|") == [False, False]
    assert matches("1,200;3,4,5;|") == [True, False]
    assert matches("1,2;3,4,1e+12;|") == [False, True]
    assert matches("300,;1e+12,,;|") == [True, True]


@pytest.mark.parametrize(
    ("state", "refusing"),
    [
        (",;,,;|", []),
        (",;,16,;poets|", [2]),
        (",;,,;|10.0.0.1", [3]),
        ("1,;,,;poets|10.0.0.1", [2]),
        (",;,,;;;||", [2]),
        (",;,,;|;;", [3]),
        (",;,,;\n|", [2]),
        ("200,;,1e+12,;poets|", [0, 1, 2]),
    ],
)
def test_adapters_and_wiring_are_refused_beside_any_number(state: str, refusing: list[int]) -> None:
    found = [place for place, (one, _) in enumerate(field_faults()) if holds(one, state)]
    assert found == refusing
    assert holds(field_fault(), state) == bool(refusing)


def test_fields_are_picked_out_where_clients_come_in_and_refused_before_models() -> None:
    snapshot = build_snapshot(a_topology(a_model("chat")), "/gateway", DESCRIPTOR_SET)
    public = json.dumps(next(one for one in snapshot.listeners if one["name"] == "public"))
    assert public.count(f'"{NAMESPACE}"') == len(field_rules())
    table = next(one for one in snapshot.routes if one["name"] == "public")
    steps = table["virtual_hosts"][0]["matcher"]["matcher_list"]["matchers"]
    assert len(steps) == 3
    refused = steps[0]["on_match"]["matcher"]["matcher_list"]["matchers"]
    assert [step["on_match"]["action"]["typed_config"]["routes"] for step in refused] == [
        [route] for _, route in field_faults()
    ]
