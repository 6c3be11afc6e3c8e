"""A request that engines died of is refused for a while, and nobody else is."""

import pytest

from skerry.fleet.routing import RoutingPolicy
from tests.unit.workload_plane.picker.test_picker import NOW, PLAIN, a_picker, ends, pick
from workload_plane.picker.authz import read_facts
from workload_plane.picker.facts import Choice, Entry
from workload_plane.picker.http_server import Exchange
from workload_plane.picker.picker import Picker
from workload_plane.picker.quarantine import (
    ANSWERED_MAX,
    GOOD_SECONDS,
    ONE_LOSS_SECONDS,
    REFUSED_AGAIN_SECONDS,
    REFUSED_SECONDS,
    REMEMBERED_SECONDS,
    SUSPECTS_MAX,
    Quarantine,
    fingerprint_of,
)
from workload_plane.picker.wire import BODY_BYTES_HEADER, SEEN_BYTES_MAX

POISON, OTHER = b"poison", b"other"


def dies(picker: Picker, choice: Choice, now: float = NOW) -> None:
    """Tell that the connection of the first attempt ended under the request."""
    entry = Entry(choice.ticket, choice.addresses[0], 0, "UC", None, 1, 9, 0, 1, ended=False)
    picker.note(entry._replace(is_attempt=True), now)


def test_a_request_lost_with_two_engines_is_refused_for_a_while() -> None:
    quarantine = Quarantine()
    assert not quarantine.lost(POISON, ("a:1",), NOW)
    assert not quarantine.refuses(POISON, NOW)
    assert quarantine.lost(POISON, ("b:1",), NOW + 5)
    assert quarantine.refuses(POISON, NOW + 5 + REFUSED_SECONDS - 1)
    assert not quarantine.refuses(POISON, NOW + 5 + REFUSED_SECONDS)
    assert not quarantine.refuses(OTHER, NOW + 6)


def test_an_attempt_and_its_retry_count_as_two() -> None:
    quarantine = Quarantine()
    assert quarantine.lost(POISON, ("a:1", "b:1"), NOW)


def test_many_copies_lost_with_one_engine_are_one_death() -> None:
    quarantine = Quarantine()
    for _ in range(50):
        assert not quarantine.lost(POISON, ("a:1",), NOW)
    assert quarantine.lost(POISON, ("a:1",), NOW + 5)  # the engine came back and died again


def test_an_answer_clears_a_request() -> None:
    quarantine = Quarantine()
    quarantine.lost(POISON, ("a:1",), NOW)
    quarantine.answered(POISON, NOW + 1)
    assert not quarantine.lost(POISON, ("b:1",), NOW + 2)


def test_what_everybody_asks_is_not_refused_when_all_engines_die_at_once() -> None:
    quarantine = Quarantine()
    quarantine.answered(POISON, NOW)  # a moment ago, as many times before
    for address in ("a:1", "b:1", "c:1"):  # a host loses its power under copies of it
        assert not quarantine.lost(POISON, (address, "d:1"), NOW + 1)
    assert not quarantine.refuses(POISON, NOW + 1)


def test_what_was_answered_is_refused_once_engines_die_of_it_at_two_moments() -> None:
    quarantine = Quarantine()
    quarantine.answered(POISON, NOW)  # by the revision before, which bears it
    assert not quarantine.lost(POISON, ("a:1", "b:1"), NOW + 1)
    assert quarantine.lost(POISON, ("c:1",), NOW + 1 + ONE_LOSS_SECONDS)


def test_an_answer_of_long_ago_excuses_nothing() -> None:
    quarantine = Quarantine()
    quarantine.answered(POISON, NOW)
    assert quarantine.lost(POISON, ("a:1", "b:1"), NOW + GOOD_SECONDS)


def test_an_answer_to_an_earlier_copy_lets_a_refused_request_through() -> None:
    quarantine = Quarantine()
    assert quarantine.lost(POISON, ("a:1", "b:1"), NOW)
    quarantine.answered(POISON, NOW + 1)
    assert not quarantine.refuses(POISON, NOW + 1)


def test_the_answers_that_are_remembered_are_bounded() -> None:
    quarantine = Quarantine()
    for number in range(ANSWERED_MAX + 1):
        quarantine.answered(b"%d" % number, NOW)
    assert quarantine.lost(b"0", ("a:1", "b:1"), NOW)  # forgotten, so not excused
    assert not quarantine.lost(b"1", ("a:1", "b:1"), NOW)


def test_what_is_lost_again_after_its_time_is_refused_for_longer_at_once() -> None:
    quarantine = Quarantine()
    quarantine.lost(POISON, ("a:1", "b:1"), NOW)
    later = NOW + REFUSED_SECONDS + 1
    assert quarantine.lost(POISON, ("c:1",), later)
    assert quarantine.refuses(POISON, later + REFUSED_AGAIN_SECONDS - 1)


def test_what_is_remembered_is_bounded_and_forgotten() -> None:
    quarantine = Quarantine()
    for number in range(SUSPECTS_MAX + 10):
        quarantine.lost(b"%d" % number, ("a:1",), NOW)
    assert len(quarantine) == SUSPECTS_MAX
    quarantine.expire(NOW + REMEMBERED_SECONDS)
    assert len(quarantine) == 0


def test_a_body_that_was_not_seen_whole_is_nobodys() -> None:
    assert fingerprint_of("d", b"beginning", 10_000) == b""
    assert fingerprint_of("d", b"", 0) == b""
    assert fingerprint_of("d", b"{}", 2) != fingerprint_of("e", b"{}", 2)
    quarantine = Quarantine()
    assert not quarantine.lost(b"", ("a:1", "b:1"), NOW)
    assert not quarantine.refuses(b"", NOW)


class Asker:
    """A connection that asks, and keeps what it is told."""

    def send(self, exchange: object, response: bytes) -> None:
        raise AssertionError("nothing is answered here")


@pytest.mark.parametrize(
    ("told", "size", "is_known"),
    [
        (b"-", 1_000, True),
        (b"-", SEEN_BYTES_MAX, False),  # the rest of it may be another request's
        (b"%d" % SEEN_BYTES_MAX, SEEN_BYTES_MAX, True),
        (b"%d" % (SEEN_BYTES_MAX + 1), SEEN_BYTES_MAX, False),
    ],
)
def test_a_body_in_chunks_that_may_go_on_is_nobodys(told: bytes, size: int, is_known: bool) -> None:
    headers = {BODY_BYTES_HEADER.encode(): told}
    path = b"/pick/v1/chat/completions"
    exchange = Exchange(Asker(), path, headers, b"x" * size)  # type: ignore[arg-type]
    facts = read_facts(exchange, "d", RoutingPolicy.PREFIX_TOKENS, forwarded=False)
    assert bool(facts.fingerprint) is is_known
    assert facts.tokens >= size / 4


def test_the_picker_learns_it_from_the_access_log() -> None:
    picker = a_picker("a", "b")
    poison = PLAIN._replace(fingerprint=POISON)
    choice = pick(picker, poison)
    dies(picker, choice)
    ends(picker, choice, address=choice.addresses[-1], flags="URX,UC", status=503, attempts=2)
    assert picker.quarantine.refuses(POISON, NOW)
    assert picker.totals.quarantined == 1


def test_a_replica_that_the_request_never_reached_did_not_die_of_it() -> None:
    picker = a_picker("a", "b")
    choice = pick(picker, PLAIN._replace(fingerprint=POISON))
    # Refused at the first, so of that attempt nothing is told.
    ends(picker, choice, address=choice.addresses[-1], flags="URX,UC", status=503, attempts=2)
    assert not picker.quarantine.refuses(POISON, NOW)
    assert picker.totals.quarantined == 0
    later = NOW + 9
    again = pick(picker, PLAIN._replace(fingerprint=POISON), later)
    ends(picker, again, later, flags="UF", status=503, attempts=1)
    assert not picker.quarantine.refuses(POISON, later)
    last = pick(picker, PLAIN._replace(fingerprint=POISON), later)
    ends(picker, last, later, flags="UC", status=503)
    assert picker.quarantine.refuses(POISON, later)


def test_a_death_counts_also_where_the_retry_was_refused() -> None:
    picker = a_picker("a", "b")
    for number in range(2):
        now = NOW + 9 * number
        choice = pick(picker, PLAIN._replace(fingerprint=POISON), now)
        dies(picker, choice, now)
        ends(picker, choice, now, address=choice.addresses[-1], flags="URX,UF", attempts=2)
        assert picker.quarantine.refuses(POISON, now) == (number == 1)


def test_what_is_told_of_an_attempt_twice_is_one_death() -> None:
    picker = a_picker("a")
    choice = pick(picker, PLAIN._replace(fingerprint=POISON))
    dies(picker, choice)
    ends(picker, choice, flags="UC", status=503)
    assert not picker.quarantine.refuses(POISON, NOW)


def test_a_peers_gateway_that_went_is_no_death_of_an_engine() -> None:
    picker = a_picker(peers=1)
    for number in range(3):
        choice = pick(picker, PLAIN._replace(fingerprint=POISON), NOW + 9 * number)
        dies(picker, choice, NOW + 9 * number)
        ends(picker, choice, NOW + 9 * number, flags="UC", status=503)
    assert not picker.quarantine.refuses(POISON, NOW + 18)


def test_the_picker_counts_what_a_peer_lost() -> None:
    picker = a_picker("a", peers=1)
    choice = pick(picker, PLAIN._replace(fingerprint=POISON))
    dies(picker, choice)
    ends(picker, choice, address="p1:9", status=503, attempts=2, lost=True)
    assert picker.quarantine.refuses(POISON, NOW)


def test_what_a_peer_refuses_does_not_hide_that_an_engine_died_here() -> None:
    picker = a_picker("a", peers=1)
    for number in range(2):
        now = NOW + 9 * number
        choice = pick(picker, PLAIN._replace(fingerprint=POISON), now)
        dies(picker, choice, now)
        ends(picker, choice, now, address="p1:9", status=422, attempts=2)
        assert picker.quarantine.refuses(POISON, now) == (number == 1)


def test_a_refusal_of_the_waiting_room_is_no_answer_of_an_engine() -> None:
    picker = a_picker("a", "b", "c")
    choice = pick(picker, PLAIN._replace(fingerprint=POISON))
    dies(picker, choice)
    ends(picker, choice, address=choice.addresses[-1], flags="URX,UC", status=503, attempts=2)
    late = pick(picker, PLAIN._replace(fingerprint=POISON))
    ends(picker, late, status=429)
    assert picker.quarantine.refuses(POISON, NOW)


def test_a_request_that_another_replica_answers_is_no_poison() -> None:
    picker = a_picker("a", "b")
    for _ in range(5):
        choice = pick(picker, PLAIN._replace(fingerprint=POISON))
        dies(picker, choice)
        ends(picker, choice, address=choice.addresses[-1], attempts=2)
    assert not picker.quarantine.refuses(POISON, NOW)
    assert len(picker.quarantine) == 0
