"""An API key has no more requests under way than it may; who has none is not counted."""

import json

import pytest

from skerry.plumbing.errors import Corrupt
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.picker.test_picker import NOW, PLAIN, a_picker, ends, pick
from workload_plane.picker.authz import Authz, Rooms
from workload_plane.picker.key_counts import KeyCounts
from workload_plane.picker.picker import TICKET_SECONDS_MAX, Picker
from workload_plane.picker.plane_file import parse_plane
from workload_plane.picker.wire import DEPLOYMENT_HEADER, KEY_HEADER

KEYED = PLAIN._replace(key="team")


class Asked:
    """A question as Envoy asks it, and its answer."""

    def __init__(self, path: bytes, key: str = "") -> None:
        self.path, self.body = path, b""
        self.headers = {DEPLOYMENT_HEADER.encode(): b"d"}
        if key:
            self.headers[KEY_HEADER.encode()] = key.encode()
        self.answered = b""

    def answer(self, response: bytes) -> None:
        self.answered = response


def status_of(picker: Picker, key: str = "", path: bytes = b"/pick/v1/completions") -> bytes:
    exchange = Asked(path, key)
    authz = Authz(picker, FakeClock(), Rooms(b"room", b"room-grpc"), "here")
    authz(exchange)  # type: ignore[arg-type]
    return exchange.answered.split(b" ", 2)[1]


def test_one_more_than_a_key_may_have_waits_for_one_to_end() -> None:
    picker = a_picker("a")
    picker.keys.update({"team": 2})
    first = pick(picker, KEYED)
    assert status_of(picker, "team") == b"200"
    assert status_of(picker, "team") == b"429"
    assert status_of(picker, "other") == b"200", "another key"
    assert status_of(picker) == b"200", "none"
    assert status_of(picker, "team", b"/forwarded/v1/completions") == b"200", "counted by the peer"
    ends(picker, first)
    assert status_of(picker, "team") == b"200"
    assert picker.keys.refused == 1


def test_what_was_never_told_to_end_makes_room_in_time() -> None:
    picker = a_picker("a")
    picker.keys.update({"team": 1})
    pick(picker, KEYED)
    assert not picker.keys.admits("team")
    picker.expire(NOW + TICKET_SECONDS_MAX + 1)
    assert picker.keys.admits("team")


def test_a_bound_that_changes_counts_what_is_open() -> None:
    counts = KeyCounts()
    counts.begin("team")
    assert counts.admits("team")
    counts.update({"team": 1})
    assert not counts.admits("team")
    counts.update({})
    assert counts.admits("team")


def test_the_bounds_come_with_the_planes_file_and_an_older_one_has_none() -> None:
    values = {"format": 1, "plane": "a", "deployments": []}
    assert parse_plane(json.dumps(values).encode()).key_limits == {}
    told = {**values, "key_limits": {"team": 3}}
    assert parse_plane(json.dumps(told).encode()).key_limits == {"team": 3}
    with pytest.raises(Corrupt):
        parse_plane(json.dumps({**values, "key_limits": [3]}).encode())
