"""Profiles in a decision: the problem has their figures, and it is decided anew when they move."""

from dataclasses import replace
from typing import Any

from control_plane.reconcile.failover import judge
from control_plane.reconcile.memory import fingerprint
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.snapshot import Snapshot
from scheduler.solve import solve
from skerry.fleet.deployment import Deployment, ResourceShape
from skerry.fleet.profile import Profile
from tests.builders import a_demand, a_deployment, a_plane_view, a_pool, a_profile, a_snapshot

DEMO = a_deployment()


def seen(deployment: Deployment, *profiles: Profile) -> Snapshot:
    known = {profile.key: profile for profile in profiles}
    return a_snapshot(a_plane_view(), demands=(a_demand(deployment),), profiles=known)


def speed_in(snapshot: Snapshot) -> Any:
    (demand,) = placement_problem(snapshot, judge(snapshot)).demands
    return demand.deployment.revision.shapes[0].throughput_tokens_per_second


def fingerprint_of(snapshot: Snapshot) -> Any:
    return fingerprint(snapshot, judge(snapshot))


def test_the_problem_has_what_was_measured() -> None:
    assert speed_in(seen(DEMO)) is None
    assert speed_in(seen(DEMO, a_profile({1: 100.0, 4: 250.0}))) == 250.0


def test_what_planes_are_told_does_not_change_by_it() -> None:
    (demand,) = seen(DEMO, a_profile({1: 100.0})).demands
    assert demand.deployment == DEMO


def test_a_profile_that_moves_is_decided_anew() -> None:
    before = seen(DEMO, a_profile({1: 100.0}))
    assert fingerprint_of(before) != fingerprint_of(seen(DEMO))
    assert fingerprint_of(before) != fingerprint_of(seen(DEMO, a_profile({1: 101.0})))


def test_a_profile_that_nothing_takes_decides_nothing() -> None:
    other = a_profile({1: 100.0}, base_model="hf://other/model")
    assert fingerprint_of(seen(DEMO, other)) == fingerprint_of(seen(DEMO))
    again = replace(a_profile({1: 100.0}), load_seconds=1.0, software="later")
    assert fingerprint_of(seen(DEMO, again)) == fingerprint_of(seen(DEMO, a_profile({1: 100.0})))


def test_a_faster_accelerator_needs_fewer_replicas_once_it_was_measured() -> None:
    kinds = tuple(ResourceShape(accelerator=kind) for kind in ("cpu", "h100"))
    demo = a_deployment(replicas=4)
    demo = replace(demo, revision=replace(demo.revision, shapes=kinds))
    dear, cheap = a_pool("a", price=9.0), a_pool("b", accelerator="h100")

    def placed(*profiles: Profile) -> list[tuple[str, int]]:
        known = {profile.key: profile for profile in profiles}
        views = tuple(a_plane_view(plane) for plane in ("a", "b"))
        demands = (a_demand(demo),)
        snapshot = a_snapshot(*views, demands=demands, pools=(dear, cheap), profiles=known)
        plan = solve(placement_problem(snapshot, judge(snapshot)))
        return [(one.pool, one.count) for one in plan.placements]

    slow = a_profile({4: 100.0}, demo)
    fast = a_profile({4: 400.0}, demo, accelerator="h100")
    assert placed() == placed(slow) == placed(fast) == [(cheap.name, 4)]
    assert placed(slow, fast) == [(cheap.name, 1)]
