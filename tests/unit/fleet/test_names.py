"""Ids are DNS labels, and two of them joined never mean two things."""

import pytest

from skerry.fleet.names import InvalidName, check_name, parse_full_name, pool_name
from tests.builders import a_shape, an_identity


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "a_b", "a/b", "..", "é", "a" * 64])
def test_what_is_no_dns_label_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidName, match="1-63 characters"):
        check_name(name, "plane")


def test_plane_and_pool_may_not_hold_the_separator_of_their_joined_id() -> None:
    with pytest.raises(InvalidName, match="must not contain"):
        a_shape("b--c")
    with pytest.raises(InvalidName, match="must not contain"):
        an_identity("a--b")
    assert pool_name("onprem-fra", "cpu") == "onprem-fra--cpu"


def test_a_full_name_of_another_collection_is_refused() -> None:
    assert parse_full_name("projects/default/planes/fra", "planes") == ("default", "fra")
    with pytest.raises(InvalidName, match="must look like projects/PROJECT/planes/NAME"):
        parse_full_name("projects/default/pools/fra", "planes")
