"""What planes told of tokens: summed by day or month, bounded, and not taken back by silence."""

from control_plane.link.key_spending import KeySpending
from skerry.api.plane.v1.plane_service_pb2 import KeySpent
from skerry.fleet.token_budget import KEYS_TOLD_MAX

MONTH, NEXT = "2026-11", "2026-12"


def spent(tokens: int, key: str = "team", period: str = MONTH) -> KeySpent:
    return KeySpent(key=key, period=period, tokens=tokens)


def test_planes_are_summed_and_the_newest_word_of_each_counts() -> None:
    told = KeySpending()
    told.take("fra", [spent(10), spent(1, "other")])
    told.take("ams", [spent(5)])
    told.take("fra", [spent(12)])
    assert told.of("team", MONTH) == 17
    assert told.of("other", MONTH) == 1
    told.take("fra", [])
    assert told.of("team", MONTH) == 17, "silence takes nothing back"


def test_a_new_month_begins_at_nothing_as_planes_tell_it() -> None:
    told = KeySpending()
    told.take("fra", [spent(10)])
    told.take("ams", [spent(5)])
    told.take("fra", [spent(3, period=NEXT)])
    assert (told.of("team", MONTH), told.of("team", NEXT)) == (5, 3)


def test_a_plane_may_tell_of_as_many_keys_as_there_may_be() -> None:
    told = KeySpending()
    told.take("fra", [spent(1, f"k-{n}") for n in range(KEYS_TOLD_MAX + 5)])
    told.take("fra", [spent(1, "x" * 64), spent(1, period="2026-11-27-"), spent(-7)])
    assert told.of(f"k-{KEYS_TOLD_MAX - 1}", MONTH) == 1
    assert told.of(f"k-{KEYS_TOLD_MAX}", MONTH) == 0
    assert told.of("team", MONTH) == 0


def test_keys_of_past_months_make_room_for_those_of_today() -> None:
    told = KeySpending()
    told.take("fra", [spent(1, f"old-{n}") for n in range(KEYS_TOLD_MAX)])
    told.take("fra", [spent(7, period=NEXT)])
    assert told.of("team", NEXT) == 7
    assert told.of("old-0", MONTH) == 0
