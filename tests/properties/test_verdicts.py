"""No path leads to `lost` without the lease and the witnesses; absence moves nothing.

Judging is a pure function of what is known, so partitions are tried by the thousand.
"""

import random
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.reconcile.classify import Evidence, classify
from control_plane.reconcile.failover import judge
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.snapshot import Demand, LinkView, PlaneView, Snapshot
from control_plane.reconcile.testimony import SIGHT_SECONDS, together_seconds
from scheduler.check import violations
from scheduler.solve import solve
from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneCondition, PlaneState
from skerry.fleet.placement import Placement
from tests.builders import (
    T0,
    a_deployment,
    a_plane_view,
    a_replica,
    a_report,
    a_snapshot,
    a_view,
)
from tests.properties.examples import examples

NAMES = tuple("abcdef")
PARTITIONS = 1_000
GONE = (PeerVerdict.UNREACHABLE, PeerVerdict.REACHABLE)

VIEWS = st.builds(
    PeerView,
    plane=st.sampled_from(NAMES),
    verdict=st.sampled_from(PeerVerdict),
    served_until=st.sampled_from([None, T0]),
    discounted=st.sampled_from(["", "cut off itself"]),
)
EVIDENCE = st.builds(
    Evidence,
    connected=st.booleans(),
    silent_seconds=st.floats(0, 100),
    heartbeat_timeout_seconds=st.just(3.0),
    lease_seconds=st.just(8.0),
    before=st.sampled_from([None, *PlaneState]),
    synced=st.booleans(),
    in_grace=st.booleans(),
    frozen=st.booleans(),
    witnesses=st.lists(VIEWS, max_size=5).map(tuple),
    witnesses_needed=st.integers(0, 2),
    peer_reachable=st.booleans(),
)


@given(EVIDENCE)
@settings(max_examples=examples(500), deadline=None)
def test_nothing_becomes_lost_without_lease_and_witnesses(evidence: Evidence) -> None:
    rule = classify(evidence)
    if rule.state is not PlaneState.LOST:
        return
    assert not evidence.heard
    assert evidence.silent_seconds > evidence.lease_seconds
    assert not evidence.in_grace
    assert not evidence.frozen
    assert evidence.peer_reachable
    assert evidence.witnesses_needed > 0
    against = [view for view in evidence.witnesses if view.is_against]
    assert len(against) >= evidence.witnesses_needed
    assert all(view.served_until and not view.discounted for view in against)
    assert not any(view.verdict is PeerVerdict.SERVING for view in evidence.witnesses)


@given(EVIDENCE)
@settings(max_examples=examples(300), deadline=None)
def test_knowing_less_never_makes_a_plane_lost(evidence: Evidence) -> None:
    if classify(evidence).state is PlaneState.LOST:
        return
    blank = tuple(replace(view, verdict=PeerVerdict.UNKNOWN) for view in evidence.witnesses)
    assert classify(replace(evidence, witnesses=blank)).state is not PlaneState.LOST
    assert classify(replace(evidence, witnesses=())).state is not PlaneState.LOST or not (
        evidence.witnesses_needed
    )


def partitioned(chance: random.Random) -> Snapshot:
    """Return a fleet where every plane lives and any link may be cut, at any moment of that.

    What a gateway sees of a living plane that it reaches is SERVING; of one that it does not reach
    it says UNREACHABLE. At least one other gateway reaches each plane: nobody else could know.
    """
    names = NAMES[: chance.randint(2, len(NAMES))]
    cut = {(a, b) for a in names for b in names if a != b and chance.random() < 0.4}
    for name in names:
        others = [other for other in names if other != name]
        reached = chance.choice(others)
        cut.discard((reached, name))
    views: list[PlaneView] = []
    for name in names:
        peers = tuple(
            a_view(
                other,
                chance.choice(GONE) if (name, other) in cut else PeerVerdict.SERVING,
                chance.uniform(0, 300),
            )
            for other in names
            if other != name
        )
        lost_link = chance.random() < 0.5
        silence = chance.uniform(0, 300) if lost_link else chance.uniform(0, 3)
        views.append(
            replace(
                a_plane_view(name, report=a_report(name, peers=peers)),
                link=LinkView(
                    connected=not lost_link or chance.random() < 0.5,
                    silent_seconds=silence,
                    report=a_report(name, peers=peers),
                    report_age_seconds=chance.uniform(0, 300),
                ),
            )
        )
    return a_snapshot(*views, age=chance.choice([1.0, 3600.0]))


def needless(snapshot: Snapshot) -> list[str]:
    """Return the planes judged lost though a gateway that we hear sees them serve."""
    heard = [
        plane
        for plane in snapshot.planes
        if plane.link.connected and plane.link.silent_seconds <= 3.0
    ]
    seen = {
        view.plane
        for plane in heard
        if plane.link.report
        for view in plane.link.report.peers
        if view.verdict is PeerVerdict.SERVING
    }
    judged = judge(snapshot)
    return [name for name in seen if judged[name].state is PlaneState.LOST]


def test_a_thousand_partitions_lose_no_plane_that_a_heard_witness_sees_serve() -> None:
    chance = random.Random(20_261_126)
    assert [found for _ in range(PARTITIONS) if (found := needless(partitioned(chance)))] == []


def test_a_thousand_cuts_of_our_own_uplink_lose_nothing() -> None:
    """The control plane hears few or none, whatever those few say of the others."""
    chance = random.Random(20_261_127)
    for _ in range(PARTITIONS):
        names = NAMES[: chance.randint(3, len(NAMES))]
        heard = set(chance.sample(names, chance.randint(0, (len(names) - 1) // 2)))
        fell = chance.uniform(9, 100)
        snapshot = a_snapshot(
            *(
                a_plane_view(
                    name,
                    connected=name in heard,
                    silent_seconds=0.5 if name in heard else fell + chance.uniform(0, 3),
                    sees={
                        other: chance.choice(list(PeerVerdict)) for other in names if other != name
                    },
                )
                for name in names
            )
        )
        assert PlaneState.LOST not in {c.state for c in judge(snapshot).values()}


@st.composite
def cut_long_before(draw: st.DrawFn) -> Snapshot:
    """Return a fleet in which one plane only loses its link to us, and then is silent for a while.

    It told of a READY replica to the end, as far as it was heard in this run at all. No witness has
    seen it serve since long before that. Who tells how long ago tells it by a monotonic clock of
    its own, whose wall clock may show anything; a report may be old. We may have begun after the
    plane was heard last, and have stored when that was.
    """
    silent_seconds = draw(st.floats(8.1, 300.0))
    policy = ReconcilePolicy()
    views = []
    for name in NAMES[1 : draw(st.integers(2, len(NAMES)))]:
        reported = draw(st.floats(0.0, 100.0))
        before = draw(st.floats(together_seconds(policy) + 0.01, 1e6))
        age = silent_seconds + before - reported
        seen = a_view(NAMES[0], draw(st.sampled_from(GONE)), age)
        off = timedelta(seconds=draw(st.floats(-1e7, 1e7)))
        told = replace(
            seen,
            served_until=draw(st.sampled_from([None, T0 + off])),
            served_until_seconds=draw(st.sampled_from([None, seen.served_until_seconds])),
        )
        others = tuple(a_view(one, PeerVerdict.SERVING) for one in NAMES[1:] if one != name)
        report = a_report(name, peers=(told, *others))
        view = a_plane_view(name, report=report)
        views.append(replace(view, link=replace(view.link, report_age_seconds=reported)))
    serves = a_report(NAMES[0], replicas=(a_replica("demo", f"{NAMES[0]}--cpu"),))
    silent = a_plane_view(NAMES[0], connected=False, silent_seconds=silent_seconds, report=serves)
    if draw(st.booleans()):
        heard = draw(st.one_of(st.none(), st.floats(-1e6, silent_seconds)))
        silent = replace(
            silent,
            link=LinkView(connected=False, silent_seconds=silent_seconds),
            heard_at=None if heard is None else T0 - timedelta(seconds=heard),
        )
    return a_snapshot(silent, *views, policy=policy)


@given(cut_long_before())
@settings(max_examples=examples(500), deadline=None)
def test_a_view_that_ended_long_before_the_silence_never_makes_a_plane_lost(
    snapshot: Snapshot,
) -> None:
    assert judge(snapshot)[NAMES[0]].state is PlaneState.SUSPECT


@given(
    silent_seconds=st.floats(8.1, 300.0),
    delays=st.lists(st.floats(-SIGHT_SECONDS, 8.0), min_size=1, max_size=5),
)
@settings(max_examples=examples(300), deadline=None)
def test_a_plane_that_ends_is_lost_by_those_that_saw_it_end(
    silent_seconds: float, delays: list[float]
) -> None:
    """However many there are: each saw it serve last within a lease of when we heard it last."""
    views = [
        a_plane_view(
            name,
            report=a_report(name, peers=(a_view("a", GONE[0], silent_seconds + delay),)),
        )
        for name, delay in zip(NAMES[1:], delays, strict=False)
    ]
    silent = a_plane_view("a", connected=False, silent_seconds=silent_seconds)
    assert judge(a_snapshot(silent, *views))["a"].state is PlaneState.LOST


@given(lost=st.sampled_from("abc"), zone=st.sampled_from(["de", "us"]), replicas=st.integers(1, 4))
@settings(max_examples=examples(25), deadline=None)
def test_residency_and_anti_affinity_hold_in_an_emergency(
    lost: str, zone: str, replicas: int
) -> None:
    zones = {"a": ("de",), "b": ("de", "us"), "c": ("us",)}
    gone = PlaneCondition(state=PlaneState.LOST, since=T0 - timedelta(seconds=1))
    views = []
    for name, held in zones.items():
        view = a_plane_view(name)
        view = replace(view, identity=replace(view.identity, residency_zones=held))
        views.append(replace(view, condition=gone) if name == lost else view)
    snapshot = a_snapshot(*views)
    pools = [p for p in snapshot.pools if zone in p.plane.residency_zones]
    kept = a_deployment("kept", replicas=replicas, policy=PlacementPolicy(residency_zones=(zone,)))
    apart = a_deployment("apart", replicas=1, policy=PlacementPolicy(anti_affinity=("kept",)))
    placed = (Placement(deployment="kept", pool=pools[0].name, count=replicas),)
    snapshot = replace(
        snapshot,
        demands=(Demand(deployment=kept), Demand(deployment=apart)),
        placements=placed,
        policy=ReconcilePolicy(),
    )
    conditions = {
        name: replace(condition, state=PlaneState.LOST) if name == lost else condition
        for name, condition in judge(snapshot).items()
    }
    problem = placement_problem(snapshot, conditions)
    plan = solve(problem)
    assert violations(plan, problem) == ()
    zones_of = {pool.name: pool.plane for pool in snapshot.pools}
    of: dict[str, set[str]] = {"kept": set(), "apart": set()}
    for one in plan.placements:
        if one.count:
            of[one.deployment].add(zones_of[one.pool].name)
    assert lost not in of["kept"] | of["apart"]
    assert all(zone in zones[name] for name in of["kept"])
    assert not of["kept"] & of["apart"]
