"""A load that stays takes no replica away, whichever replicas tell of it and whichever do not."""

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.autoscaling.decision import Bounds, ReplicaCounts
from skerry.fleet.autoscaling.factors import ScalingFactors
from skerry.fleet.autoscaling.fleetwide import FleetScaler, PlaneShare
from skerry.fleet.autoscaling.local import LocalScaler
from tests.properties.examples import examples
from tests.properties.test_autoscaling import WHEN
from tests.unit.workload_plane.autoscale.test_signals import ENGINE, GOAL, Loads, an_engine, asked
from workload_plane.autoscale.signals import DeploymentSignals
from workload_plane.replica_host.load import UNKNOWN_LOAD

TICK, COLD_START = 5.0, 60.0
ENGINES = 4
SETTLED = 80  # ticks in which all tell
tells = st.sampled_from(["tells", "has no page", "is silent"])


@settings(max_examples=examples(40))
@given(
    spells=st.lists(
        st.tuples(st.integers(1, 60), st.lists(tells, min_size=ENGINES, max_size=ENGINES)),
        max_size=8,
    ),
    rate=st.integers(1, 20),
)
def test_replicas_that_do_not_tell_take_nothing_away(
    spells: list[tuple[int, list[str]]], rate: int
) -> None:
    looks = [["tells"] * ENGINES] * SETTLED
    for many, of_each in spells:
        looks += [of_each] * many
    looks += [["tells"] * ENGINES] * SETTLED
    signals, bounds = DeploymentSignals(), Bounds(floor=1, ceiling=200)
    factors = ScalingFactors(min_replicas=1, max_replicas=200)
    local, fleet = LocalScaler(factors), FleetScaler(factors)
    wanted = wanted_by_fleet = 1
    for tick, of_each in enumerate(looks):
        now, requests = tick * TICK, tick * rate * 4
        whole = an_engine(requests * 250, 0, requests * 25)  # a quarter of 1,000 tokens and 100
        loads: Loads = {
            f"r{n}": {"tells": whole, "has no page": UNKNOWN_LOAD}.get(told)
            for n, told in enumerate(of_each)
        }
        counted = asked(requests, requests * 1_000.0, finished=requests, here=rate)
        readings = signals.take(now, counted, loads, GOAL)
        if readings is not None:
            local.observe(readings.local, whole=readings.whole)
            if readings.fleet is not None:
                fleet.observe("here", readings.fleet)
        decision = local.decide(now, ReplicaCounts(ready=wanted), bounds, ENGINE, COLD_START)
        share = PlaneShare(
            plane="here", running=wanted_by_fleet, floor=1, ceiling=200, engine=ENGINE
        )
        target = fleet.decide(now, WHEN, [share], COLD_START).targets["here"]
        if tick > SETTLED:
            assert decision.target >= wanted
            assert target >= wanted_by_fleet
        wanted, wanted_by_fleet = decision.target, target
