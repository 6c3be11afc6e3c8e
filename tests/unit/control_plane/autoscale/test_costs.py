"""A profile holds until somebody measured; what was measured stays, within the profile's bounds."""

from dataclasses import replace

from control_plane.autoscale.costs import PROFILE_FACTOR_MAX, LearnedCosts, bounded
from skerry.fleet.coefficients import Coefficients
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
    assert costs.of(DEMO, "cpu", own=None, profile=COSTS) == iteration(0.014), "their mean"
    assert costs.of(DEMO, "gpu", own=None, profile=COSTS) == COSTS, "another kind"
    costs.turn()
    assert costs.of(DEMO, "cpu", own=None, profile=COSTS) == iteration(0.014), "it stays"


def test_a_kind_without_a_profile_is_what_its_plane_says_and_nothing_is_said_for_others() -> None:
    costs = LearnedCosts()
    assert costs.of(DEMO, "cpu", own=iteration(0.3), profile=None) == iteration(0.3)
    costs.turn()
    assert costs.of(DEMO, "cpu", own=None, profile=None) is None


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
