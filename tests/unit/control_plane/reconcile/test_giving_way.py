"""Deployments that change places on full pools: what one has beyond its wants makes room."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.reconcile.envelopes import grant_envelopes
from control_plane.reconcile.failover import judge
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneReport, ReplicaState
from skerry.fleet.placement import Envelope
from tests.builders import a_demand, a_deployment, a_plane_view, a_replica, a_report, a_snapshot
from tests.properties.examples import examples

V1 = Version(epoch=1, generation=1)
ROOM = 4  # accelerators of every pool
PLANES = ("aws", "azr", "oci")
Counts = Mapping[tuple[str, str], int]  # replicas by deployment and plane

# As seed 2650 had it: azr came back with three of demo, which is wanted four times in all.
BEFORE = {
    ("demo", "aws"): 2,
    ("demo", "azr"): 3,
    ("demo", "oci"): 1,
    ("side", "aws"): 2,
    ("side", "oci"): 3,
}
WANTED = {("demo", "aws"): 1, ("demo", "azr"): 1, ("demo", "oci"): 2, ("side", "aws"): 3}


def a_fleet(before: Counts, wanted: Counts, *, not_ready: str = "") -> Snapshot:
    """Planes that run what they were told, but for one that still starts it all."""
    names = sorted({name for name, _ in (*before, *wanted)})
    deployments = {name: a_deployment(name, replicas=_sum(wanted, name) or 1) for name in names}
    told = tuple(
        DesiredState(
            plane=plane,
            version=V1,
            assignments=tuple(
                Assignment(deployment=deployments[name], envelopes=(_envelope(name, plane, n),))
                for name in names
                if (n := before.get((name, plane), 0))
            ),
        )
        for plane in PLANES
    )
    return a_snapshot(
        *(a_plane_view(p, report=_report(before, p, starts=p == not_ready)) for p in PLANES),
        demands=tuple(a_demand(one) for one in deployments.values()),
        desired=told,
        envelopes=tuple(_envelope(*key, count) for key, count in wanted.items() if count),
    )


def _report(counts: Counts, plane: str, *, starts: bool) -> PlaneReport:
    state = ReplicaState.STARTING if starts else ReplicaState.READY
    replicas = (
        a_replica(name, f"{plane}--cpu", name=f"{name}-{plane}-{number}", state=state)
        for (name, where), count in sorted(counts.items())
        for number in range(count)
        if where == plane
    )
    return a_report(plane, replicas=tuple(replicas), held=V1)


def _envelope(name: str, plane: str, count: int) -> Envelope:
    return Envelope(deployment=name, pool=f"{plane}--cpu", floor=count, target=count, ceiling=count)


def _sum(counts: Counts, name: str) -> int:
    return sum(count for (one, _), count in counts.items() if one == name)


def granted(snapshot: Snapshot) -> Counts:
    """Return the targets that are granted now, those of none left out."""
    found = grant_envelopes(snapshot, judge(snapshot))
    targets = {(n, pool.removesuffix("--cpu")): e.target for (n, pool), e in found.items()}
    return {key: target for key, target in targets.items() if target}


def test_two_that_change_places_on_full_pools_do_not_wait_for_each_other_for_ever() -> None:
    counts: Counts = BEFORE
    for _ in range(6):  # every plane does as it is told, and what it starts is READY
        counts = granted(a_fleet(counts, WANTED))
    assert counts == WANTED


def test_only_what_is_beyond_all_that_is_wanted_gives_way() -> None:
    # Of demo so many are wanted as serve; side has two to spare, and one of them is in the way.
    wanted = {("demo", "aws"): 1, ("demo", "azr"): 2, ("demo", "oci"): 3, ("side", "aws"): 3}
    told = granted(a_fleet(BEFORE, wanted))
    assert (told["demo", "aws"], told["demo", "azr"]) == (2, 3)
    assert told["side", "oci"] == 1
    assert _sum(told, "side") == 3


def test_what_does_not_serve_yet_is_none_to_spare() -> None:
    told = granted(a_fleet(BEFORE, WANTED, not_ready="azr"))
    assert told["demo", "aws"] == 2


def test_nothing_gives_way_where_there_is_room_beside_it() -> None:
    before = {("demo", "aws"): 2, ("demo", "azr"): 2}
    wanted = {("demo", "oci"): 2, ("side", "aws"): 2}
    told = granted(a_fleet(before, wanted))
    assert told == before | wanted


def test_the_last_of_a_pool_stays_until_it_is_replaced() -> None:
    before = {("demo", "aws"): 1, ("demo", "azr"): 3, ("side", "aws"): 3, ("side", "oci"): 1}
    wanted = {("demo", "oci"): 2, ("side", "aws"): 4}
    assert granted(a_fleet(before, wanted))["demo", "aws"] == 1


counts = st.dictionaries(
    st.tuples(st.sampled_from(("demo", "home", "side")), st.sampled_from(PLANES)),
    st.integers(0, ROOM),
)


def _fitting(found: Counts) -> Counts:
    """Return as much of it as fits on the pools, in order of names."""
    left = Counter(dict.fromkeys(PLANES, ROOM))
    kept = {}
    for (name, plane), count in sorted(found.items()):
        kept[name, plane] = min(count, left[plane])
        left[plane] -= kept[name, plane]
    return {key: count for key, count in kept.items() if count}


@given(counts.map(_fitting), counts.map(_fitting))
@settings(max_examples=examples(60))
def test_a_deployment_never_serves_with_fewer_than_it_wants_or_had(
    before: Counts, wanted: Counts
) -> None:
    """Step by step; no pool is granted more than it has, and once nothing moves it stays so."""
    for _ in range(8):
        told = granted(a_fleet(before, wanted))
        for name in {name for name, _ in before}:
            serving = sum(min(n, told.get(key, 0)) for key, n in before.items() if key[0] == name)
            assert serving >= min(_sum(before, name), _sum(wanted, name))
        for plane in PLANES:
            assert sum(n for (_, where), n in told.items() if where == plane) <= ROOM
        before = told
    assert granted(a_fleet(before, wanted)) == before


def test_a_plane_that_does_not_hold_what_it_was_told_has_none_to_spare() -> None:
    snapshot = a_fleet(BEFORE, WANTED)
    planes = tuple(
        replace(
            view,
            link=replace(view.link, report=replace(report, held=Version(epoch=1, generation=0))),
        )
        if (report := view.link.report) is not None and view.name == "azr"
        else view
        for view in snapshot.planes
    )
    assert granted(replace(snapshot, planes=planes))["demo", "aws"] == 2
