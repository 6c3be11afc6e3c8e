"""A message put together from its parts is the one that was cut, and nothing else is ever made."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.api.plane.v1.plane_service_pb2 import Part
from skerry.wire.parts import PART_BYTES, WHOLE_BYTES_MAX, Assembly, parts_of
from tests.properties.examples import examples

sizes = st.one_of(
    st.integers(1, 4 * PART_BYTES),
    st.integers(1, 4).map(lambda count: count * PART_BYTES),
    st.just(WHOLE_BYTES_MAX),
)


@cache
def period_of(salt: int) -> bytes:
    return bytes((salt + place * 7 + place // 251) % 256 for place in range(251 * 256))


def whole_of(size: int, salt: int = 0) -> bytes:
    period = period_of(salt)
    return (period * (size // len(period) + 1))[:size]


def put_together(assembly: Assembly, parts: list[Part]) -> list[bytes]:
    return [whole for part in parts if (whole := assembly.take(part)) is not None]


@settings(max_examples=examples(30), deadline=None)
@given(size=sizes)
def test_a_message_comes_out_as_it_went_in_with_its_last_part_alone(size: int) -> None:
    whole, assembly = whole_of(size), Assembly()
    parts = list(parts_of(whole))
    assert all(0 < len(part.data) <= PART_BYTES for part in parts)
    assert put_together(assembly, parts[:-1]) == []
    assert assembly.take(parts[-1]) == whole


@settings(max_examples=examples(50), deadline=None)
@given(sent=st.integers(1, 4 * PART_BYTES), begun=st.integers(0, 4), later=sizes)
def test_of_a_message_that_was_cut_short_nothing_is_in_the_next(
    sent: int, begun: int, later: int
) -> None:
    assembly, whole = Assembly(), whole_of(later, salt=9)
    put_together(assembly, list(parts_of(whole_of(sent)))[:begun][:-1])
    assert put_together(assembly, list(parts_of(whole))) == [whole]


@settings(max_examples=examples(100), deadline=None)
@given(data=st.data())
def test_parts_that_are_lost_or_out_of_place_make_no_message(data: st.DataObject) -> None:
    whole, assembly = whole_of(5 * PART_BYTES + 3), Assembly()
    parts = list(parts_of(whole))
    given_parts = data.draw(st.lists(st.sampled_from(parts), max_size=12), label="parts")
    for part in given_parts:
        try:
            made = assembly.take(part)
        except ValueError:
            continue
        assert made in (None, whole)


@pytest.mark.parametrize(
    "part",
    [
        Part(total_bytes=10, offset=4, data=b"later"),
        Part(total_bytes=10, offset=0, data=b""),
        Part(total_bytes=4, offset=0, data=b"longer"),
        Part(total_bytes=0, offset=0, data=b"none"),
        Part(total_bytes=-1, offset=0, data=b"none"),
        Part(total_bytes=WHOLE_BYTES_MAX + 1, offset=0, data=b"too much"),
    ],
)
def test_what_cannot_be_a_part_is_refused_and_the_next_message_is_not(part: Part) -> None:
    assembly = Assembly()
    with pytest.raises(ValueError, match="a part"):
        assembly.take(part)
    assert put_together(assembly, list(parts_of(b"next"))) == [b"next"]


def test_the_size_that_was_said_first_holds() -> None:
    assembly = Assembly()
    assert assembly.take(Part(total_bytes=10, offset=0, data=b"first")) is None
    with pytest.raises(ValueError, match="goes on nothing"):
        assembly.take(Part(total_bytes=12, offset=5, data=b"other"))
    with pytest.raises(ValueError, match="goes on nothing"):
        assembly.take(Part(total_bytes=10, offset=5, data=b"other"))


def test_what_nobody_would_take_is_not_cut() -> None:
    with pytest.raises(ValueError, match="above"):
        next(parts_of(bytes(WHOLE_BYTES_MAX + 1)))
