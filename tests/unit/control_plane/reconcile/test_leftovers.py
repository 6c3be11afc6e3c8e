"""What a plane runs of a removed deployment is ended; what the database merely lacks never is."""

from dataclasses import replace
from typing import Any

import pytest

from control_plane.reconcile.actions import PushDesired, RaiseGeneration
from control_plane.reconcile.failover import judge
from control_plane.reconcile.leftovers import leftovers
from control_plane.reconcile.plan import plan_desired
from control_plane.reconcile.snapshot import Removed, Snapshot
from control_plane.recovery.assess import quarantined_in
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import PlaneReport, ReplicaState
from skerry.fleet.placement import Envelope
from tests.builders import (
    T0,
    a_demand,
    a_deployment,
    a_plane_view,
    a_replica,
    a_report,
    a_shape,
    a_snapshot,
)

GUEST = a_deployment("guest")
REMOVED = Removed(deployment=GUEST, last_revision=2, removed_at=T0)


def a_guest(**fields: Any) -> PlaneReport:
    """A plane at generation 5 of 7 that runs `guest`."""
    replica = replace(a_replica("guest", "fra--cpu", revision=2), **fields)
    return a_report("fra", held=Version(epoch=1, generation=5), replicas=(replica,))


def a_fleet(report: PlaneReport) -> Snapshot:
    """`fra`, which was last told generation 7, with `demo` in it; `guest` is removed."""
    before = a_snapshot(a_plane_view("fra", report=a_report("fra")), demands=(a_demand(),))
    [told] = pushed(before)
    told = replace(told, version=Version(epoch=1, generation=7))
    view = a_plane_view("fra", report=report)
    return replace(before, planes=(view,), desired=(told,), removed=(REMOVED,))


def pushed(snapshot: Snapshot) -> tuple[DesiredState, ...]:
    actions = plan_desired(snapshot, judge(snapshot))
    return tuple(action.desired for action in actions if isinstance(action, PushDesired))


def test_what_runs_of_a_removed_deployment_is_told_to_go_until_it_runs_no_more() -> None:
    snapshot = a_fleet(a_guest())
    [state] = pushed(snapshot)
    assert state.assignments[-1] == Assignment(deployment=GUEST, tombstone=True)
    told = replace(state, version=Version(epoch=1, generation=8))
    snapshot = replace(snapshot, desired=(told,))
    assert pushed(snapshot) == (), "it was told"
    draining = a_guest(state=ReplicaState.DRAINING)
    assert pushed(replace(snapshot, planes=(a_plane_view("fra", report=draining),))) == ()
    over = a_report("fra", held=told.version)
    [after] = pushed(replace(snapshot, planes=(a_plane_view("fra", report=over),)))
    assert [one.deployment.name for one in after.assignments] == ["demo"]


@pytest.mark.parametrize(
    ("why", "report"),
    [
        ("it failed, and nothing of it is left", a_guest(state=ReplicaState.FAILED)),
        ("a later life of the name", a_guest(revision=3)),
        ("the database never knew of it", a_guest(deployment="stray")),
        ("it is wanted", a_guest(deployment="demo")),
    ],
)
def test_nothing_else_is_told_to_go(why: str, report: PlaneReport) -> None:
    assert leftovers(a_fleet(report)) == {}, why


def test_a_name_that_is_wanted_again_is_none_that_was_removed() -> None:
    snapshot = a_fleet(a_guest())
    demands = (*snapshot.demands, a_demand(replace(GUEST, revision=GUEST.revision)))
    assert leftovers(replace(snapshot, demands=demands)) == {}


def test_one_replica_of_a_later_life_keeps_all_of_the_name() -> None:
    report = a_guest()
    later = replace(report.replicas[0], name="guest-later", revision=3)
    report = replace(report, replicas=(*report.replicas, later))
    snapshot = a_fleet(report)
    assert leftovers(snapshot) == {}
    assert sum(one.replicas for one in quarantined_in(snapshot)) == 2


def test_a_plane_that_holds_more_than_the_database_knows_is_told_nothing() -> None:
    ahead = replace(a_guest(), held=Version(epoch=1, generation=8))
    snapshot = a_fleet(ahead)
    assert leftovers(snapshot) == {}
    actions = plan_desired(snapshot, judge(snapshot))
    assert actions == (RaiseGeneration(plane="fra", at_least=8),)


def test_a_plane_that_was_never_told_anything_is_told_of_no_removal() -> None:
    assert leftovers(replace(a_fleet(a_guest()), desired=())) == {}


def test_who_is_not_heard_keeps_the_word_until_it_is() -> None:
    snapshot = a_fleet(a_guest())
    [state] = pushed(snapshot)
    told = replace(state, version=Version(epoch=1, generation=8))
    view = a_plane_view("fra")
    view = replace(view, link=replace(view.link, report=None))
    assert pushed(replace(snapshot, desired=(told,), planes=(view,))) == ()


def test_what_is_ended_is_not_shown_as_what_nobody_can_explain() -> None:
    assert quarantined_in(a_fleet(a_guest())) == ()
    assert len(quarantined_in(replace(a_fleet(a_guest()), removed=()))) == 1


def test_its_served_name_is_left_to_who_has_it_by_now() -> None:
    revision = a_deployment("demo").revision
    model = replace(revision.base_model, served_name="guest")
    taker = replace(a_deployment("demo"), revision=replace(revision, base_model=model))
    [state] = pushed(replace(a_fleet(a_guest()), demands=(a_demand(taker),)))
    served = [one.deployment.revision.base_model.served_name for one in state.assignments]
    assert served == ["guest", " guest"]


def zeroed(snapshot: Snapshot) -> list[tuple[str, str]]:
    """The grants of nothing that `fra` is told of."""
    return [
        (envelope.deployment, envelope.pool)
        for state in pushed(snapshot)
        for envelope in state.envelopes
        if envelope.ceiling == 0
    ]


def test_a_pool_that_a_wanted_deployment_was_moved_from_before_is_named_again() -> None:
    """Used again elsewhere, a name says nothing of the pool that an older state has it on."""
    idle = (a_demand(a_deployment(replicas=0)),)
    stray = a_guest(deployment="demo", revision=1)
    assert zeroed(replace(a_fleet(stray), demands=idle)) == [("demo", "fra--cpu")]
    later = a_guest(deployment="demo", revision=2)
    later_fleet = replace(a_fleet(later), demands=idle)
    assert zeroed(later_fleet) == [], "no revision of which anything is known"
    ahead = replace(stray, held=Version(epoch=1, generation=8))
    assert zeroed(replace(a_fleet(ahead), demands=idle)) == []


def granted(snapshot: Snapshot) -> dict[tuple[str, str], int]:
    """How many replicas `fra` is told to run, by deployment and pool."""
    [state] = [one for one in pushed(snapshot) if one.plane == "fra"]
    return {(e.deployment, e.pool): e.target for e in state.envelopes}


def wanted_at(pool: str, count: int = 1, deployment: str = "demo") -> Envelope:
    return Envelope(deployment=deployment, pool=pool, floor=count, target=count, ceiling=count)


def test_what_serves_there_stays_while_it_does_not_serve_where_it_is_wanted() -> None:
    stray = a_guest(deployment="demo", revision=1)
    snapshot = a_fleet(stray)
    other = a_plane_view("aws", report=a_report("aws"))
    both = a_snapshot(*snapshot.planes, other)
    snapshot = replace(
        snapshot, planes=both.planes, pools=both.pools, envelopes=(wanted_at("aws--cpu"),)
    )
    assert granted(snapshot)["demo", "fra--cpu"] == 1


def test_a_plane_of_which_a_recovery_learnt_nothing_is_told_to_keep_what_runs_there() -> None:
    """Else it refuses whatever it is told, for not naming what runs, and nothing is told anew."""
    running = a_guest(deployment="demo", revision=1)
    snapshot = a_fleet(running)
    raised = DesiredState(plane="fra", version=Version(epoch=1, generation=6))
    assert granted(replace(snapshot, desired=(raised,)))["demo", "fra--cpu"] == 1


def two_pools(*replicas: tuple[str, ReplicaState]) -> Snapshot:
    """`demo` is wanted on the second pool of `fra`; these are on (pool, state)."""
    shapes = tuple(a_shape(name, nodes=2, accelerators_per_node=1) for name in ("cpu", "big"))
    running = tuple(
        replace(a_replica("demo", f"fra--{pool}", name=f"demo-{n}"), state=state)
        for n, (pool, state) in enumerate(replicas)
    )
    report = a_report("fra", held=Version(epoch=1, generation=5), replicas=running, pools=shapes)
    before = a_snapshot(
        a_plane_view("fra", report=replace(report, replicas=(), held=NEVER)),
        demands=(a_demand(a_deployment(replicas=1)),),
        envelopes=(wanted_at("fra--big"),),
    )
    [told] = pushed(before)
    told = replace(told, version=Version(epoch=1, generation=7))
    return replace(before, planes=(a_plane_view("fra", report=report),), desired=(told,))


def test_a_plane_keeps_what_it_runs_on_another_pool_until_the_wanted_one_serves() -> None:
    snapshot = two_pools(("cpu", ReplicaState.READY))
    assert granted(snapshot) == {("demo", "fra--cpu"): 1, ("demo", "fra--big"): 1}
    [state] = pushed(snapshot)
    told = replace(state, version=Version(epoch=1, generation=8))
    both = two_pools(("cpu", ReplicaState.READY), ("big", ReplicaState.READY))
    [view] = both.planes
    assert view.link.report is not None
    report = replace(view.link.report, held=told.version)
    view = replace(view, link=replace(view.link, report=report))
    serves = replace(both, planes=(view,), desired=(told,))
    assert granted(serves) == {("demo", "fra--cpu"): 0, ("demo", "fra--big"): 1}


def test_what_is_left_keeps_its_place_before_what_was_granted_there_and_does_not_run() -> None:
    snapshot = two_pools(*[("cpu", ReplicaState.READY)] * 2)
    side = a_deployment("side", replicas=2)
    snapshot = replace(
        snapshot,
        demands=(*snapshot.demands, a_demand(side)),
        envelopes=(*snapshot.envelopes, wanted_at("fra--cpu", 2, "side")),
        desired=tuple(
            replace(
                one,
                assignments=(
                    *one.assignments,
                    Assignment(deployment=side, envelopes=(wanted_at("fra--cpu", 2, "side"),)),
                ),
            )
            for one in snapshot.desired
        ),
    )
    found = granted(snapshot)
    assert (found["demo", "fra--cpu"], found["side", "fra--cpu"]) == (2, 0)


def test_what_is_left_stays_while_its_deployment_is_short_of_replicas() -> None:
    snapshot = two_pools(("cpu", ReplicaState.READY))
    assert granted(replace(snapshot, envelopes=()))["demo", "fra--cpu"] == 1


def test_what_is_left_of_a_deployment_that_goes_is_told_to_go() -> None:
    snapshot = two_pools(("cpu", ReplicaState.READY))
    [demand] = snapshot.demands
    going = replace(snapshot, demands=(replace(demand, deleting=True),))
    assert granted(going)["demo", "fra--cpu"] == 0
