"""Filters and orders of lists, as AIP-160 and AIP-132 have them."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api.filters import order_of, parse_filter
from skerry.api.common.v1 import supply_pb2
from skerry.api.operator.v1 import change_pb2, plane_pb2
from skerry.plumbing.errors import InvalidInput

PLANE = plane_pb2.Plane(
    name="projects/default/planes/onprem-fra",
    identity=supply_pb2.PlaneIdentity(
        name="onprem-fra",
        cloud="onprem",
        residency_zones=["de", "eu"],
        labels={"tier": "gold", "team": "a b"},
    ),
    state=plane_pb2.Plane.STATE_CONNECTED,
    reason='said "hello"',
)
PLANE.state_time.FromJsonString("2026-05-01T00:00:00Z")


def passes(text: str, message: Any = PLANE) -> bool:
    return parse_filter(text, type(message))(message)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        'identity.cloud = "onprem"',
        "identity.cloud = onprem",
        "identity.name = onprem*",
        "state = CONNECTED",
        "state = STATE_CONNECTED",
        "state != LOST",
        "identity.residency_zones:eu",
        "identity.labels.tier = gold",
        "identity.labels.tier:*",
        'identity.labels.team = "a b"',
        "identity.labels:tier",
        "NOT identity.labels.rank:*",
        "identity.labels.rank != 1",
        'state_time > "2026-04-30T00:00:00Z"',
        'state_time = "2026-05-01T00:00:00Z"',
        'reason = "said \\"hello\\""',
        "reason:HELLO",
        "identity.cloud = gcp OR identity.cloud = onprem",
        "identity.cloud = gcp OR identity.cloud = onprem AND state = CONNECTED",
        "state = CONNECTED identity.cloud = onprem",
        "(identity.cloud = gcp OR state = CONNECTED) AND -identity.cloud = aws",
        "NOT (identity.cloud = gcp)",
        "identity.labels.tier:gold",
        "identity.name = *prem*r*",
        "state:*",
        "NOT nack:*",
        "NOT desired:*",
        "NOT desired.epoch < 5",
        "NOT identity.labels.app.kubernetes.io/name:*",
    ],
)
def test_what_a_filter_lets_pass(text: str) -> None:
    assert passes(text)


@pytest.mark.parametrize(
    "text",
    [
        "identity.cloud = gcp",
        "NOT state = CONNECTED",
        "identity.labels.tier = silver",
        "identity.labels.tier:silver",
        "identity.labels.tier:g AND identity.labels.tier:x",
        "identity.name = *fra*prem*",
        "identity.name = onprem-fra*fra",
        "identity.labels.rank = 1",
        "identity.residency_zones:us",
        'state_time < "2026-05-01T00:00:00Z"',
        "identity.cloud = onprem AND state = LOST OR state = SUSPECT",
    ],
)
def test_what_a_filter_holds_back(text: str) -> None:
    assert not passes(text)


@pytest.mark.parametrize(
    ("text", "passing"),
    [("sequence >= 5", True), ("sequence < 5", False), ("epoch = -1", False), ("epoch > -1", True)],
)
def test_numbers_are_compared_as_numbers(text: str, passing: bool) -> None:
    assert passes(text, change_pb2.Change(sequence=10)) is passing


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nofield = 1", "there is no field 'nofield'; at this place there are desired, gateway"),
        ("identity.nofield = 1", "at this place there are cloud"),
        ("state", "must follow 'state'"),
        ("state =", "a value is expected"),
        ("= 1", "a field's name is expected"),
        ("state = FLYING", "is no value of this field"),
        ("name < a*", "has no order"),
        ('state_time > "yesterday"', "is no value of this field"),
        ("identity.residency_zones = eu", "ask with `:`"),
        ("(state = LOST", "not closed"),
        ("state = LOST)", "is not expected here"),
        ('reason = "open', "put text in quotes"),
        ("AND state = LOST", "a field's name is expected"),
        ("name.part = 1", "has no fields"),
        ("(" * 50 + "state = LOST" + ")" * 50, "nested deeper"),
        (" ".join(["state = LOST"] * 101), "more than 100 conditions"),
        ("x" * 3_000, "2048 are allowed"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as error:
        passes(text)
    assert told in error.value.message
    assert error.value.field == "filter"


@given(st.text(max_size=60) | st.text(alphabet="()=\"':<>- ANDORT.*state", max_size=60))
def test_no_text_does_anything_but_filter_or_be_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        passes(text)


def test_an_order_names_fields_and_which_of_them_fall() -> None:
    found = order_of("identity.cloud desc, name", plane_pb2.Plane)
    assert found == (("identity.cloud", True), ("name", False))
    assert order_of("", plane_pb2.Plane) == ()


@pytest.mark.parametrize(
    "text", ["nofield", "name down", "name desc asc", "identity", "identity.residency_zones", ",,"]
)
def test_an_order_of_what_has_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        order_of(text, plane_pb2.Plane)
    assert error.value.field == "order_by"
