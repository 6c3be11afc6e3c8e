"""Ids sort by age, never repeat, and survive a clock that goes back."""

from concurrent.futures import ThreadPoolExecutor

from skerry.plumbing.ids import SystemIds
from tests.fakes.clock import FakeClock


def test_ids_are_26_lowercase_characters() -> None:
    identifier = SystemIds(FakeClock()).new_id()
    assert len(identifier) == 26
    assert identifier == identifier.lower()
    assert identifier.isalnum()


def test_ids_sort_by_the_time_they_were_made() -> None:
    clock = FakeClock()
    ids = SystemIds(clock)
    made = []
    for _ in range(50):
        made += [ids.new_id(), ids.new_id()]
        clock.advance(0.0015)
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_keep_their_order_when_the_wall_clock_steps_back() -> None:
    clock = FakeClock()
    ids = SystemIds(clock)
    before = ids.new_id()
    clock.step_wall(-3600)
    assert ids.new_id() > before


def test_two_sources_do_not_collide_in_one_millisecond() -> None:
    clock = FakeClock()
    first, second = SystemIds(clock), SystemIds(clock)
    assert len({source.new_id() for source in (first, second) for _ in range(1000)}) == 2000


def test_threads_share_a_source() -> None:
    ids = SystemIds(FakeClock())
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ids.new_id(), range(2000)))
    assert len(set(made)) == 2000


def test_tokens_have_the_asked_entropy_and_differ() -> None:
    ids = SystemIds(FakeClock())
    assert len(ids.token(32)) == 43  # 32 bytes in base 64 without padding
    assert ids.token() != ids.token()


def test_random_lies_in_the_unit_interval() -> None:
    ids = SystemIds(FakeClock())
    drawn = [ids.random() for _ in range(1000)]
    assert all(0 <= number < 1 for number in drawn)
    assert len(set(drawn)) > 990
