"""Random faults, virtual time, real decisions: nothing unsafe happens and order returns.

A failing seed prints itself; `SKERRY_SEEDS=500 make sim` runs more of them.
"""

import os
from collections.abc import Callable, Iterable

import pytest

from control_plane.reconcile import classify, envelopes
from control_plane.reconcile.classify import Evidence
from skerry.fleet.observation import PlaneState
from tests.simulation.checkers import Broken, Checkers
from tests.simulation.faults import Faults
from tests.simulation.world import CALM_SECONDS, FAULTS_SECONDS, World
from workload_plane.desired_state import accept

SEEDS = int(os.environ.get("SKERRY_SEEDS", "20"))
BUG_SEEDS_MAX = 60  # a planted bug must show within so many


def run(seed: int) -> World:
    """Run a world to its end; raises Broken."""
    world = World(seed)
    faults, checkers = Faults(world), Checkers(world)
    while world.now < FAULTS_SECONDS + CALM_SECONDS:
        faults.step()
        checkers.before()
        world.step()
        checkers.after()
    return world


def run_all(seeds: Iterable[int]) -> None:
    """Run every seed; raises Broken at the first that breaks a promise."""
    for seed in seeds:
        run(seed)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_order_returns_after_the_faults_and_nothing_unsafe_happened(seed: int) -> None:
    world = run(seed)
    for demand in world.demands:
        name = demand.deployment.name
        serving = sum(len(plane.serving(name)) for plane in world.planes.values())
        assert serving == demand.deployment.scaling.min_replicas, f"seed {seed}: {name}"
    states = {condition.state for condition in world.control.conditions.values()}
    assert states == {PlaneState.CONNECTED}, f"seed {seed}"
    for _ in range(10):
        world.step()
        assert world.acted == [], f"seed {seed}: still acting {world.acted} (flapping)"


def test_the_same_seed_does_the_same() -> None:
    assert run(7).trace == run(7).trace


def lost_by_lease_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant: witnesses are not asked."""
    monkeypatch.setattr(Evidence, "seen_serving", property(lambda e: False))
    monkeypatch.setattr(Evidence, "against", property(lambda e: 99))


def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant: silence counts at once after a start, and unheard witnesses count as against."""
    rules = tuple(r for r in classify.PLANE_RULES if r.name not in ("grace", "frozen"))
    monkeypatch.setattr(classify, "PLANE_RULES", rules)
    monkeypatch.setattr(Evidence, "against", property(lambda e: len(e.witnesses)))


def dropped_before_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant: the old replica goes when the new one is only wanted."""
    monkeypatch.setattr(envelopes, "_is_replaced", lambda *_: True)


def older_states_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant: the plane takes whatever arrives."""
    monkeypatch.setattr(accept, "may_replace", lambda offered, held: True)


@pytest.mark.parametrize(
    "plant",
    [lost_by_lease_alone, no_grace, dropped_before_ready, older_states_accepted],
)
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(Broken):
        run_all(range(BUG_SEEDS_MAX))
