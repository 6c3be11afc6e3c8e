"""Envelopes move in two phases: new READY before old goes, never over a pool's size."""

from dataclasses import replace
from typing import Any

from control_plane.reconcile.envelopes import grant_envelopes
from control_plane.reconcile.failover import judge
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.deployment import PlacementPolicy, Scaling
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import ObservedReplica, PeerVerdict, PlaneState
from skerry.fleet.placement import Envelope
from tests.builders import a_demand, a_deployment, a_plane_view, a_replica, a_report, a_snapshot

V1 = Version(epoch=1, generation=1)


def an_envelope(pool: str, count: int, deployment: str = "demo") -> Envelope:
    """An envelope with no room to move."""
    return Envelope(deployment=deployment, pool=pool, floor=count, target=count, ceiling=count)


def moving(
    new_replicas: tuple[ObservedReplica, ...], *, granted: int = 1, held: Version = V1
) -> Snapshot:
    """`demo` moves its one replica from fra to aws; aws was granted some and holds `held`."""
    deployment = a_deployment(replicas=1)
    told = tuple(
        DesiredState(
            plane=plane,
            version=V1,
            assignments=(
                Assignment(deployment=deployment, envelopes=(an_envelope(f"{plane}--cpu", n),)),
            ),
        )
        for plane, n in (("fra", 1), ("aws", granted))
    )
    return a_snapshot(
        a_plane_view("fra"),
        a_plane_view("aws", report=a_report("aws", replicas=new_replicas, held=held)),
        demands=(a_demand(deployment),),
        desired=told,
        envelopes=(an_envelope("aws--cpu", 1),),
    )


def test_the_old_replica_stays_until_the_new_one_is_ready() -> None:
    snapshot = moving(())
    granted = grant_envelopes(snapshot, judge(snapshot))
    assert granted["demo", "fra--cpu"].target == 1
    assert granted["demo", "aws--cpu"].target == 1


def test_the_old_replica_goes_once_the_new_one_is_ready() -> None:
    snapshot = moving((a_replica(pool="aws--cpu"),))
    granted = grant_envelopes(snapshot, judge(snapshot))
    assert granted["demo", "fra--cpu"].target == 0
    assert granted["demo", "aws--cpu"].target == 1


def test_a_replica_that_a_push_under_way_will_drain_replaces_nothing() -> None:
    ready = (a_replica(pool="aws--cpu"),)
    taken_back = moving(ready, granted=0)
    assert grant_envelopes(taken_back, judge(taken_back))["demo", "fra--cpu"].target == 1
    not_told_yet = moving(ready, held=Version(epoch=1, generation=0))
    assert grant_envelopes(not_told_yet, judge(not_told_yet))["demo", "fra--cpu"].target == 1


def test_growth_waits_for_what_others_still_hold() -> None:
    first, second = a_deployment("first", replicas=4), a_deployment("second", replicas=4)
    held = DesiredState(
        plane="fra",
        version=V1,
        assignments=(
            Assignment(deployment=first, envelopes=(an_envelope("fra--cpu", 3, "first"),)),
        ),
    )
    snapshot = a_snapshot(
        a_plane_view("fra"),
        demands=(a_demand(first), a_demand(second)),
        desired=(held,),
        envelopes=(an_envelope("fra--cpu", 3, "first"), an_envelope("fra--cpu", 4, "second")),
    )
    granted = grant_envelopes(snapshot, judge(snapshot))
    assert granted["first", "fra--cpu"].ceiling == 3
    assert granted["second", "fra--cpu"].ceiling == 1


def with_room(
    *, fra: PlaneState, holds: Version = V1, wanted: tuple[Envelope, ...] = ()
) -> Snapshot:
    """`demo` may run 1 to 4 replicas; fra was granted room for two more, aws for none."""
    deployment = a_deployment(scaling=Scaling(min_replicas=2, max_replicas=4))
    told = tuple(
        DesiredState(
            plane=plane,
            version=V1,
            assignments=(
                Assignment(
                    deployment=deployment,
                    envelopes=(
                        Envelope(
                            deployment="demo", pool=f"{plane}--cpu", floor=1, target=1, ceiling=most
                        ),
                    ),
                ),
            ),
        )
        for plane, most in (("fra", 3), ("aws", 1))
    )
    connected = fra is PlaneState.CONNECTED
    return a_snapshot(
        a_plane_view(
            "fra",
            state=fra,
            connected=connected,
            silent_seconds=0.1 if connected else 5.0,
            report=a_report("fra", held=holds),
        ),
        a_plane_view("aws", sees={"fra": PeerVerdict.SERVING}, report=a_report("aws", held=V1)),
        demands=(a_demand(deployment),),
        desired=told,
        envelopes=wanted,
    )


def test_a_plane_that_is_not_heard_keeps_its_envelope_whole() -> None:
    wanted = (
        Envelope(deployment="demo", pool="fra--cpu", floor=1, target=1, ceiling=1),
        Envelope(deployment="demo", pool="aws--cpu", floor=1, target=1, ceiling=3),
    )
    snapshot = with_room(fra=PlaneState.DISCONNECTED, wanted=wanted)
    granted = grant_envelopes(snapshot, judge(snapshot))
    assert granted["demo", "fra--cpu"].ceiling == 3
    assert granted["demo", "aws--cpu"].ceiling == 1, "its share stays reserved"


def test_room_is_given_back_before_it_is_taken_elsewhere() -> None:
    wanted = (
        Envelope(deployment="demo", pool="fra--cpu", floor=1, target=1, ceiling=1),
        Envelope(deployment="demo", pool="aws--cpu", floor=1, target=1, ceiling=3),
    )
    snapshot = with_room(fra=PlaneState.CONNECTED, wanted=wanted)
    granted = grant_envelopes(snapshot, judge(snapshot))
    assert granted["demo", "fra--cpu"].ceiling == 1
    assert granted["demo", "aws--cpu"].ceiling == 1, "fra's disk still allows three"
    after = replace(
        snapshot,
        desired=tuple(
            replace(
                state,
                assignments=(
                    replace(
                        state.assignments[0],
                        envelopes=(granted["demo", f"{state.plane}--cpu"],),
                    ),
                ),
            )
            for state in snapshot.desired
        ),
    )
    assert grant_envelopes(after, judge(after))["demo", "aws--cpu"].ceiling == 3


def lost_on_the_way(**fields: Any) -> Snapshot:
    """`demo` left fra for aws, which is lost by now; of two replicas one found a place in gcp."""
    deployment = a_deployment(replicas=2, **fields)
    told = (
        ("fra", 2, tuple(a_replica(pool="fra--cpu", name=n) for n in ("one", "two"))),
        ("gcp", 1, (a_replica(pool="gcp--cpu", name="three"),)),
    )
    return a_snapshot(
        *(a_plane_view(p, report=a_report(p, replicas=r, held=V1)) for p, _, r in told),
        demands=(a_demand(deployment),),
        desired=tuple(
            DesiredState(
                plane=plane,
                version=V1,
                assignments=(
                    Assignment(deployment=deployment, envelopes=(an_envelope(f"{plane}--cpu", n),)),
                ),
            )
            for plane, n, _ in told
        ),
        envelopes=(an_envelope("gcp--cpu", 1),),
    )


def test_what_serves_does_not_end_while_its_deployment_is_short_of_replicas() -> None:
    snapshot = lost_on_the_way()
    granted = grant_envelopes(snapshot, judge(snapshot))
    assert granted["demo", "fra--cpu"].target == 1
    assert granted["demo", "gcp--cpu"].target == 1


def test_what_may_not_be_there_ends_though_its_deployment_is_short_of_replicas() -> None:
    snapshot = lost_on_the_way(policy=PlacementPolicy(residency_zones=("moon",)))
    assert grant_envelopes(snapshot, judge(snapshot))["demo", "fra--cpu"].target == 0


def test_what_others_take_ends_though_its_deployment_is_short_of_replicas() -> None:
    snapshot = lost_on_the_way()
    rival = a_deployment("more", replicas=4)
    snapshot = replace(
        snapshot,
        demands=(*snapshot.demands, a_demand(rival)),
        envelopes=(*snapshot.envelopes, an_envelope("fra--cpu", 4, "more")),
    )
    assert grant_envelopes(snapshot, judge(snapshot))["demo", "fra--cpu"].target == 0


def test_a_deployment_starts_on_no_plane_that_one_which_it_avoids_still_leaves() -> None:
    apart = PlacementPolicy(anti_affinity=("demo",))
    solo = a_deployment("solo", replicas=1, policy=apart)
    snapshot = moving(())
    snapshot = replace(
        snapshot,
        demands=(*snapshot.demands, a_demand(solo)),
        envelopes=(*snapshot.envelopes, an_envelope("fra--cpu", 1, "solo")),
    )
    granted = grant_envelopes(snapshot, judge(snapshot))
    assert granted["demo", "fra--cpu"].target == 1
    assert granted["solo", "fra--cpu"].ceiling == 0
