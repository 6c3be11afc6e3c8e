"""What planes' own loops decided is kept, bounded, once each, and after they are gone."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from control_plane.link.decisions import (
    AGE_SECONDS_MAX,
    DECISION_BYTES_MAX,
    DECISIONS_MAX,
    OF_PAIR_MAX,
    OF_PLANE_MAX,
    PAIRS_MAX,
    SWEEP_SECONDS,
    PlaneDecisions,
)
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.autoscaling.told import LoadReport, ToldDecision
from skerry.wire.scaling import DECISIONS_TOLD_MAX, loads_to_proto
from tests.builders import T0
from tests.unit.control_plane.link.test_loads import DECISION


def decision(number: int) -> ToldDecision:
    """The decision of a minute, whose target is its number."""
    return replace(DECISION, decided_at=T0 + timedelta(minutes=number), target=number)


def told(*numbers: int, deployment: str = "demo") -> Iterable[messages.PlaneDecision]:
    """The messages of these decisions."""
    own = [(deployment, decision(number)) for number in numbers]
    return loads_to_proto(LoadReport(), own).decisions


def targets(kept: PlaneDecisions, plane: str = "fra", now: float = 0.0) -> list[int]:
    """The targets that are shown of a plane, the newest first."""
    return [one.target for one in kept.of("demo", plane, now)]


def test_what_was_told_comes_back_whole_the_newest_first() -> None:
    kept = PlaneDecisions()
    kept.take("fra", told(1, 2), 0.0)
    kept.take("gcp", told(3), 0.0)
    assert kept.of("demo", "fra", 0.0) == (decision(2), decision(1))
    assert kept.of("demo", "fra", 0.0, most=1) == (decision(2),)
    assert kept.planes("demo", 0.0) == ("fra", "gcp")
    assert kept.of("other", "fra", 0.0) == ()


def test_a_plane_that_connects_again_tells_nothing_twice_and_what_it_tells_late_is_older() -> None:
    kept = PlaneDecisions()
    kept.take("fra", told(3, 4), 0.0)
    kept.take("fra", told(1, 2, 3, 4, 5), 1.0)
    assert targets(kept) == [5, 4, 3, 2, 1]


def test_the_last_of_each_are_kept_and_those_of_long_ago_are_not_shown() -> None:
    kept = PlaneDecisions()
    for first in range(0, 2 * OF_PAIR_MAX, 20):
        kept.take("fra", told(*range(first, first + 20)), 0.0)
    assert targets(kept) == list(range(2 * OF_PAIR_MAX - 1, OF_PAIR_MAX - 1, -1))
    assert targets(kept, now=AGE_SECONDS_MAX + 1.0) == []
    assert kept.planes("demo", AGE_SECONDS_MAX + 1.0) == ()
    kept.take("fra", told(999), AGE_SECONDS_MAX + 1.0)
    assert targets(kept, now=AGE_SECONDS_MAX + 1.0) == [999]


def test_thousands_of_planes_keep_fewer_each_and_never_more_than_the_bound_together() -> None:
    kept = PlaneDecisions()
    planes = [f"p{number}" for number in range(4_000)]
    messages_told = list(told(*range(12)))
    for plane in planes:
        kept.take(plane, messages_told, 0.0)
    many = sum(len(kept.of("demo", plane, 0.0)) for plane in planes)
    assert many <= DECISIONS_MAX
    assert targets(kept, planes[0])[0] == targets(kept, planes[-1])[0] == 11, "the newest of each"
    assert len(targets(kept, planes[-1])) == DECISIONS_MAX // len(planes)


def test_what_comes_beyond_all_bounds_is_passed_over_until_others_are_old() -> None:
    kept = PlaneDecisions()
    message = list(told(1))
    for number in range(PAIRS_MAX):
        kept.take(f"p{number}", message, 0.0)
    kept.take("fra", told(2), 1.0)
    assert targets(kept) == []
    kept.take("fra", told(3), AGE_SECONDS_MAX + 1.0)
    assert targets(kept, now=AGE_SECONDS_MAX + 1.0) == [3]
    assert kept.planes("demo", AGE_SECONDS_MAX + 1.0) == ("fra",)


def test_a_thousand_that_find_no_place_make_one_sweep_a_minute() -> None:
    kept = PlaneDecisions()
    message = list(told(1))
    for number in range(PAIRS_MAX):
        kept.take(f"p{number}", message, 0.0)
    before = kept.sweeps
    for number in range(1_000):
        kept.take(f"q{number}", message, SWEEP_SECONDS + number / 1_000.0)
    assert kept.sweeps == before + 1
    assert kept.planes("demo", SWEEP_SECONDS)[0] == "p0"
    assert "q0" not in kept.planes("demo", SWEEP_SECONDS)


def test_one_plane_with_invented_names_keeps_no_other_out() -> None:
    kept = PlaneDecisions()
    names = [f"d{number}" for number in range(OF_PLANE_MAX + 1_000)]
    for name in names:
        kept.take("liar", told(1, deployment=name), 0.0)
    kept.take("fra", told(2), 1.0)
    assert targets(kept) == [2]
    mine = [name for name in names if kept.of(name, "liar", 0.0)]
    assert mine == names[:OF_PLANE_MAX]
    assert OF_PLANE_MAX < PAIRS_MAX / 10
    later = AGE_SECONDS_MAX + 1.0
    kept.take("liar", told(3), later)
    assert kept.planes("demo", later) == ("fra", "liar"), "once its old ones are gone"


def test_what_is_old_goes_though_no_limit_is_near() -> None:
    kept = PlaneDecisions()
    kept.take("gone", told(1, deployment="gone"), 0.0)
    kept.take("fra", told(1), AGE_SECONDS_MAX + 1.0)
    assert kept.of("gone", "gone", 0.0) == (), "it is not there any more, whatever the moment"


def test_what_is_told_late_takes_no_place_of_younger_ones() -> None:
    kept = PlaneDecisions()
    for first in range(1_000, 1_000 + OF_PAIR_MAX, 20):
        kept.take("fra", told(*range(first, first + 20)), 0.0)
    kept.take("fra", told(*range(10)), 1.0)
    assert targets(kept) == list(range(999 + OF_PAIR_MAX, 999, -1))


def test_a_message_that_no_plane_of_ours_writes_is_passed_over() -> None:
    kept = PlaneDecisions()
    wrong = [next(iter(told(1))), next(iter(told(2, deployment="x" * 300)))]
    wrong[0].decision.sentence = "x" * DECISION_BYTES_MAX
    nameless = messages.PlaneDecision(decision=wrong[1].decision)
    kept.take("fra", (*wrong, nameless, *told(*range(DECISIONS_TOLD_MAX))), 0.0)
    # Three are passed over, and a report has so many at most; of them the last are kept.
    assert targets(kept) == list(range(DECISIONS_TOLD_MAX - 4, 0, -1))
    assert kept.planes("x" * 300, 0.0) == ()
