"""As whom engines run is read whole or refused by field; root is nobody's engine."""

from pathlib import Path
from typing import Any

import pytest

from skerry.plumbing.errors import InvalidInput
from tests.unit.workload_plane.test_settings import GOOD
from workload_plane.engine_user import EngineUser
from workload_plane.settings import parse_settings


def faults_of(section: Any) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        parse_settings({**GOOD, "engine_user": section})
    return {violation.path for violation in caught.value.violations}


def test_a_number_is_enough_and_the_rest_follows() -> None:
    data_dir = Path(GOOD["data_dir"])
    user = parse_settings({**GOOD, "engine_user": {"uid": 60_001}}).engine_user
    assert user == EngineUser(
        uid=60_001, gid=60_001, home=data_dir / "engine-home", within=data_dir
    )
    assert user is not None
    assert EngineUser.from_json(user.to_json()) == user
    assert parse_settings(GOOD).engine_user is None


def test_groups_are_numbers_or_names_of_this_host() -> None:
    told = {"uid": 60_001, "gid": 60_002, "groups": [60_003, "root"], "home": "/srv/engines"}
    assert faults_of(told) == {"engine_user.groups"}  # root's group is root's
    good = {**told, "groups": [60_003]}
    user = parse_settings({**GOOD, "engine_user": good}).engine_user
    assert user is not None
    assert (user.gid, user.groups, user.home) == (60_002, (60_003,), Path("/srv/engines"))


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ({}, "engine_user.uid"),
        ({"uid": 0}, "engine_user.uid"),
        ({"uid": "nobody"}, "engine_user.uid"),
        ({"uid": 60_001, "gid": 0}, "engine_user.gid"),
        ({"uid": 60_001, "groups": ["no-such-group"]}, "engine_user.groups"),
        ({"uid": 60_001, "home": "here"}, "engine_user.home"),
        ({"uid": 60_001, "umask": 0}, "engine_user.umask"),
        (["nobody"], "engine_user"),
    ],
)
def test_what_is_no_user_is_refused_at_its_field(section: Any, field: str) -> None:
    assert field in faults_of(section)
