"""A profile holds until somebody measured; what was measured stays, within the profile's bounds."""

from dataclasses import replace

from control_plane.autoscale.costs import PROFILE_FACTOR_MAX, LearnedCosts, bounded
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.profile import SECONDS_MAX
from tests.builders import a_deployment
from tests.unit.control_plane.autoscale_world import COSTS

DEMO = a_deployment()


def iteration(seconds: float) -> Coefficients:
    return replace(COSTS, iteration_seconds=seconds)


def test_a_planes_own_word_then_that_of_others_then_the_profile() -> None:
    costs = LearnedCosts()
    assert costs.of(DEMO, "cpu", own=None, profile=COSTS) == COSTS
    for told in (0.012, 0.016):
        found = costs.of(DEMO, "cpu", own=iteration(told), profile=COSTS)
        assert found == iteration(told)
    costs.turn()
    assert costs.of(DEMO, "cpu", own=None, profile=COSTS) == iteration(0.014), "their median"
    assert costs.of(DEMO, "gpu", own=None, profile=COSTS) == COSTS, "another kind"
    costs.turn()
    assert costs.of(DEMO, "cpu", own=None, profile=COSTS) == iteration(0.014), "it stays"


def test_a_kind_without_a_profile_is_what_its_plane_says_and_nothing_is_said_for_others() -> None:
    costs = LearnedCosts()
    assert costs.of(DEMO, "cpu", own=iteration(0.3), profile=None) == iteration(0.3)
    costs.turn()
    assert costs.of(DEMO, "cpu", own=None, profile=None) is None


def test_one_liar_of_ten_moves_nothing_and_no_liars_move_more_than_the_bound() -> None:
    costs = LearnedCosts()
    for told in (*[0.012] * 9, SECONDS_MAX):
        costs.of(DEMO, "cpu", own=iteration(told), profile=COSTS)
    costs.turn()
    assert costs.of(DEMO, "cpu", own=None, profile=COSTS) == iteration(0.012)
    for told in (0.012, SECONDS_MAX):
        costs.of(DEMO, "cpu", own=iteration(told), profile=COSTS)
    costs.turn()
    found = costs.of(DEMO, "cpu", own=None, profile=COSTS)
    assert found == iteration((0.012 + COSTS.iteration_seconds * PROFILE_FACTOR_MAX) / 2)


def test_what_one_configuration_measured_says_nothing_of_another() -> None:
    revision = DEMO.revision
    quick = replace(revision.engine, options=(("max-num-seqs", "8"),))
    (shape,) = revision.shapes
    others = [
        replace(DEMO, revision=replace(revision, engine=quick)),
        replace(DEMO, revision=replace(revision, engine=replace(revision.engine, version="1.2"))),
        replace(DEMO, revision=replace(revision, shapes=(replace(shape, accelerators=4),))),
    ]
    costs = LearnedCosts()
    costs.of(DEMO, "cpu", own=iteration(0.012), profile=COSTS)
    costs.turn()
    assert [costs.of(other, "cpu", own=None, profile=COSTS) for other in others] == [COSTS] * 3
    renamed = replace(DEMO, name="other")
    assert costs.of(renamed, "cpu", own=None, profile=COSTS) == iteration(0.012), "the same kind"


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    costs = LearnedCosts()
    costs.of(DEMO, "cpu", own=iteration(0.012), profile=COSTS)
    costs.turn()
    costs.turn()
    assert costs.of(DEMO, "cpu", own=None, profile=COSTS) == COSTS


def test_no_cost_is_further_from_the_profile_than_the_bound_and_what_it_lacks_is_learned() -> None:
    far = Coefficients(
        accelerator="cpu",
        prefill_seconds_per_token=1.0,
        decode_seconds_per_token=0.0,
        iteration_seconds=0.012,
    )
    found = bounded(far, COSTS)
    assert found.prefill_seconds_per_token == COSTS.prefill_seconds_per_token * PROFILE_FACTOR_MAX
    assert found.decode_seconds_per_token == COSTS.decode_seconds_per_token / PROFILE_FACTOR_MAX
    assert found.iteration_seconds == 0.012
    bare = replace(COSTS, prefill_seconds_per_token=0.0)
    assert bounded(far, bare).prefill_seconds_per_token == 1.0
