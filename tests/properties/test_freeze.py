"""While moves are frozen no placement of a silent plane changes, whatever else is applied."""

from collections import Counter
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from control_plane.reconcile.budget import moves_between
from control_plane.reconcile.failover import is_frozen, judge
from control_plane.reconcile.frozen import held_still, without_moves
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.snapshot import Demand, PlaneView, Snapshot
from control_plane.reconcile.supply import supply_of
from scheduler.plan import PlacementPlan
from scheduler.solve import SolveLimits, solve
from skerry.fleet.cordon import Cordon, Part, Scope
from skerry.fleet.deployment import Deployment, FailureDomain, PlacementPolicy, Spread
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Placement, counts_of
from tests.builders import T0, a_deployment, a_plane_view, a_snapshot
from tests.properties.examples import examples

NAMES = ("demo", "side", "batch")
PLANES = tuple("abcde")
ROOM = 4  # accelerators of each plane's pool
QUICK = SolveLimits(searches=False)


@st.composite
def policies(draw: st.DrawFn) -> PlacementPolicy:
    spread = draw(st.sampled_from([None, Spread(domain=FailureDomain.PLANE, domains_min=2)]))
    return PlacementPolicy(
        priority=draw(st.integers(0, 2)),
        spread=spread,
        clouds=draw(st.sampled_from([(), ("a",), ("c", "d")])),
    )


@st.composite
def frozen_fleets(draw: st.DrawFn) -> Snapshot:
    """Return a fleet of which most fell silent, with what was placed and what is wanted by now.

    What is wanted may be another thing than what was: larger, smaller, elsewhere, new, or ended.
    """
    names = PLANES[: draw(st.integers(3, len(PLANES)))]
    silent = draw(st.sets(st.sampled_from(names), min_size=len(names) // 2 + 1))
    placements: list[Placement] = []
    for plane in names:
        room = ROOM
        for name in NAMES:
            count = draw(st.integers(0, min(2, room)))
            room -= count
            if count:
                placements.append(Placement(deployment=name, pool=f"{plane}--cpu", count=count))
    demands = []
    for name in draw(st.lists(st.sampled_from((*NAMES, "new")), unique=True)):
        wanted = a_deployment(name, replicas=draw(st.integers(1, 9)), policy=draw(policies()))
        demands.append(Demand(deployment=wanted, deleting=draw(st.booleans())))
    return a_snapshot(
        *(view_of(draw, name, name in silent) for name in names),
        placements=tuple(placements),
        demands=tuple(demands),
        cordons=draw(st.lists(st.sampled_from(names), max_size=1).map(drains)),
    )


def drains(planes: list[str]) -> tuple[Cordon, ...]:
    return tuple(
        Cordon(
            part=Part(scope=Scope.PLANE, name=plane), actor="", reason="", since=T0, draining=True
        )
        for plane in planes
    )


def view_of(draw: st.DrawFn, name: str, silent: bool) -> PlaneView:
    """Return a plane that is heard, or silent; of the silent one an operator may give up."""
    if not silent:
        return a_plane_view(name)
    view = a_plane_view(name, connected=False, silent_seconds=draw(st.floats(9.0, 12.0)))
    if draw(st.integers(0, 5)):
        return view
    gone = PlaneCondition(state=PlaneState.LOST, since=T0, declared=True)
    return replace(view, condition=gone)


def planned(snapshot: Snapshot) -> PlacementPlan:
    """Return the plan as the loop makes it."""
    conditions = judge(snapshot)
    snapshot = without_moves(snapshot)
    plan = solve(placement_problem(snapshot, conditions), QUICK)
    return held_still(plan, snapshot, conditions)


@given(frozen_fleets())
@settings(max_examples=examples(150), deadline=None)
def test_no_placement_of_a_silent_plane_changes_and_nothing_moves(snapshot: Snapshot) -> None:
    assume(is_frozen(snapshot))
    conditions, plan = judge(snapshot), planned(snapshot)
    wanted = {one.deployment.name for one in snapshot.demands if not one.deleting}
    silent = {
        pool.name
        for pool in snapshot.pools
        if conditions[pool.plane.name].state in (PlaneState.SUSPECT, PlaneState.DISCONNECTED)
    }

    def there(counts: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        return {k: n for k, n in counts.items() if n and k[1] in silent and k[0] in wanted}

    assert there(counts_of(plan.placements)) == there(counts_of(snapshot.placements))
    bars = supply_of(snapshot, conditions).bars
    # What an operator's order bars from where it runs must leave there, unless nobody there could
    # be told: that is no move.
    kept = tuple(
        one
        for one in snapshot.placements
        if may_stay(one, snapshot) or (one.pool in silent and one.deployment in wanted)
    )
    assert moves_between(kept, plan.placements, bars) == 0
    used: Counter[str] = Counter()
    for placed in plan.placements:
        used[placed.pool] += placed.count
    assert max(used.values(), default=0) <= ROOM
    targets = {(one.deployment, one.pool): one.target for one in plan.envelopes if one.target}
    assert targets == {key: n for key, n in counts_of(plan.placements).items() if n}


def may_stay(placed: Placement, snapshot: Snapshot) -> bool:
    clouds = {d.deployment.name: d.deployment.policy.clouds for d in snapshot.demands}
    deleting = {d.deployment.name for d in snapshot.demands if d.deleting}
    allowed = clouds.get(placed.deployment)
    if allowed is None or placed.deployment in deleting:
        return False
    return not allowed or placed.pool.removesuffix("--cpu") in allowed


@given(snapshot=frozen_fleets(), replicas=st.integers(1, ROOM))
@settings(max_examples=examples(100), deadline=None)
def test_a_new_deployment_takes_what_is_free_where_planes_are_heard(
    snapshot: Snapshot, replicas: int
) -> None:
    assume(is_frozen(snapshot))
    new = Demand(deployment=a_deployment("zz", replicas=replicas))
    snapshot = replace(snapshot, demands=(*still(snapshot), new), cordons=())
    conditions = judge(snapshot)
    heard = {p.name for p in snapshot.planes if conditions[p.name].state is PlaneState.CONNECTED}
    before = counts_of(planned(replace(snapshot, demands=snapshot.demands[:-1])).placements)
    free = sum(
        ROOM - sum(n for (_, where), n in before.items() if where == pool.name)
        for pool in snapshot.pools
        if pool.plane.name in heard
    )
    after = counts_of(planned(snapshot).placements)
    placed = {pool: n for (name, pool), n in after.items() if name == "zz" and n}
    assert {pool.removesuffix("--cpu") for pool in placed} <= heard
    assert sum(placed.values()) >= min(replicas, free)


def still(snapshot: Snapshot) -> tuple[Demand, ...]:
    """Return demands that want what is placed and no more."""
    counts: Counter[str] = Counter()
    for placed in snapshot.placements:
        counts[placed.deployment] += placed.count
    return tuple(
        Demand(deployment=of(name, count)) for name, count in sorted(counts.items()) if count
    )


def of(name: str, replicas: int) -> Deployment:
    return a_deployment(name, replicas=replicas, policy=PlacementPolicy(priority=1))
