"""The global loop's safety, whatever load and silence do: bounds, holding, and monotony."""

import itertools
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from control_plane.autoscale.targets import demand_of, floor_of, scaled_envelopes, wanted_of
from skerry.fleet.deployment import Scaling
from tests.properties.examples import examples
from tests.unit.control_plane.autoscale_world import ROUND_SECONDS, Fleet, scaling_deployment

PLANES = ("aws", "fra", "gcp")
RATES = st.fixed_dictionaries({plane: st.floats(0.0, 12.0) for plane in PLANES})
ROUNDS = st.lists(st.tuples(RATES, st.sets(st.sampled_from(PLANES))), min_size=1, max_size=12)
CEILINGS = st.fixed_dictionaries({plane: st.integers(1, 6) for plane in PLANES})
SCALINGS = st.builds(
    lambda least, more, spares: replace(
        Scaling(min_replicas=least, max_replicas=least + more), warm_spares=min(spares, more)
    ),
    st.integers(0, 1),
    st.integers(1, 12),
    st.integers(0, 2),
)


@settings(max_examples=examples(60))
@given(scaling=SCALINGS, ceilings=CEILINGS, rounds=ROUNDS)
def test_targets_lie_in_the_envelopes_and_demand_in_the_bounds(
    scaling: Scaling, ceilings: dict[str, int], rounds: list[tuple[dict[str, float], set[str]]]
) -> None:
    fleet = Fleet(replace(scaling_deployment(), scaling=scaling), ceilings)
    for rates, silent in rounds:
        fleet.silent = silent
        scaled = fleet.round(rates).scaled
        demand = demand_of(fleet.deployment, scaled)
        assert floor_of(fleet.deployment, scaled) <= demand <= scaling.max_replicas
        assert scaled.wanted <= scaling.max_replicas
        assert wanted_of(fleet.deployment, scaled, 1) <= scaling.max_replicas
        for before, after in zip(
            fleet.envelopes, scaled_envelopes(fleet.envelopes, fleet.snapshot), strict=True
        ):
            assert after.floor <= before.floor
            assert after.floor <= after.target <= after.ceiling == before.ceiling
        fleet.obey()


@settings(max_examples=examples(60))
@given(ceilings=CEILINGS, rates=RATES, rounds=st.integers(1, 30))
def test_silence_takes_nothing_away(
    ceilings: dict[str, int], rates: dict[str, float], rounds: int
) -> None:
    fleet = Fleet(scaling_deployment(most=18), ceilings)
    for _ in range(3):
        before = fleet.round(rates).scaled
        fleet.obey()
    fleet.silent = set(PLANES)
    fleet.running = dict.fromkeys(PLANES, 0)
    for _ in range(rounds):
        after = fleet.round({}).scaled
    assert after.demand >= min(before.demand, len(fleet.placed))
    for plane, count in before.targets:
        assert (after.target(plane) or 0) >= count


@settings(max_examples=examples(60))
@given(
    ceilings=CEILINGS,
    running=st.fixed_dictionaries({plane: st.integers(0, 6) for plane in PLANES}),
    rounds=st.lists(RATES, min_size=1, max_size=24),
    silent=st.sets(st.sampled_from(PLANES), max_size=len(PLANES) - 1),
)
@example(
    ceilings={"aws": 1, "fra": 2, "gcp": 1},
    running={"aws": 1, "fra": 0, "gcp": 0},
    rounds=[{"aws": 0.0, "fra": 0.0, "gcp": 1.0}],
    silent={"aws"},
)
def test_who_tells_no_loads_keeps_its_share_and_others_go_by_theirs(
    ceilings: dict[str, int],
    running: dict[str, int],
    rounds: list[dict[str, float]],
    silent: set[str],
) -> None:
    """They are decided for as in a fleet that has what the silent ones keep, and nothing else."""
    running = {plane: min(many, ceilings[plane]) for plane, many in running.items()}
    heard = sorted(set(PLANES) - silent)
    # The floor of one is at the first plane, in both fleets.
    order = [*heard, *sorted(silent)]
    whole = Fleet(
        scaling_deployment(most=40),
        {plane: ceilings[plane] for plane in order},
        running=dict(running),
        uncounted=set(silent),
    )
    alone = Fleet(
        scaling_deployment(most=40),
        {plane: ceilings[plane] for plane in heard},
        running={plane: running[plane] for plane in heard},
    )
    kept = {plane: running[plane] for plane in silent}
    for rates in rounds:
        found, expected = whole.round(rates).scaled, alone.round(rates).scaled
        for plane in heard:
            assert found.target(plane) == expected.target(plane)
        for plane in silent:
            assert (found.target(plane) or 0) >= kept[plane]
        whole.obey()
        alone.obey()
        assert {plane: whole.running[plane] for plane in silent} == kept


@settings(max_examples=examples(60))
@given(ceilings=CEILINGS, rounds=ROUNDS)
def test_no_target_of_a_silent_plane_falls(
    ceilings: dict[str, int], rounds: list[tuple[dict[str, float], set[str]]]
) -> None:
    fleet = Fleet(scaling_deployment(most=18), ceilings)
    before = fleet.round(dict.fromkeys(PLANES, 3.0)).scaled
    since: dict[str, int] = {}
    for rates, silent in rounds * 4:
        since = {plane: since.get(plane, 0) + 1 for plane in silent}
        fleet.silent = silent
        scaled = fleet.round(rates).scaled
        for plane in (plane for plane, many in since.items() if many * ROUND_SECONDS > 60.0):
            assert (scaled.target(plane) or 0) >= (before.target(plane) or 0)
        before = scaled
        fleet.obey()


@settings(max_examples=examples(60))
@given(ceilings=CEILINGS, rates=RATES, more=st.floats(1.0, 3.0))
def test_more_load_is_never_fewer_replicas(
    ceilings: dict[str, int], rates: dict[str, float], more: float
) -> None:
    totals = []
    for factor in (1.0, more):
        fleet = Fleet(scaling_deployment(most=18), ceilings)
        scaled = fleet.round({plane: rate * factor for plane, rate in rates.items()}).scaled
        totals.append((scaled.wanted, sum(count for _, count in scaled.targets)))
    assert totals[0] <= totals[1]


@settings(max_examples=examples(30))
@given(ceilings=CEILINGS, rates=RATES)
def test_constant_load_turns_no_target_back(
    ceilings: dict[str, int], rates: dict[str, float]
) -> None:
    fleet = Fleet(scaling_deployment(most=18), ceilings)
    totals = []
    for _ in range(20):
        scaled = fleet.round(rates).scaled
        totals.append(sum(count for _, count in scaled.targets))
        fleet.obey()
    steps = [b - a for a, b in itertools.pairwise(totals) if b != a]
    assert all(a * b > 0 for a, b in itertools.pairwise(steps))
