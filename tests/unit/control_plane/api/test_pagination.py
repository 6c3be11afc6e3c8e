"""Pages hold every item once, and only our own tokens are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api.pagination import (
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    after_of,
    page_of,
    sequence_after,
    size_of,
    token_of,
)
from skerry.plumbing.errors import InvalidInput


@given(names=st.sets(st.text(min_size=1, max_size=8), max_size=30), size=st.integers(1, 7))
def test_the_pages_of_a_list_are_the_list(names: set[str], size: int) -> None:
    found: list[str] = []
    token = ""
    while True:
        page = page_of(tuple(names), str, "list", size, token)
        assert len(page.items) <= size
        found += page.items
        if not (token := page.next_token):
            break
    assert found == sorted(names)


@given(token=st.text(min_size=1, max_size=60))
def test_a_forged_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput, match="start again without it"):
        after_of("list", token)


def test_a_token_is_of_one_list_only() -> None:
    token = token_of("planes", "b")
    assert after_of("planes", token) == "b"
    with pytest.raises(InvalidInput):
        after_of("pools", token)


def test_a_token_without_a_number_is_no_place_in_the_log() -> None:
    assert sequence_after("log", token_of("log", "41")) == 41
    for odd in ("", "-1", "x", "9" * 19, "\u0663"):
        with pytest.raises(InvalidInput):
            sequence_after("log", token_of("log", odd))


def test_a_page_has_a_default_and_a_greatest_size() -> None:
    assert [size_of(n) for n in (0, 1, 5_000)] == [PAGE_SIZE_DEFAULT, 1, PAGE_SIZE_MAX]
    with pytest.raises(InvalidInput, match="negative"):
        size_of(-1)
