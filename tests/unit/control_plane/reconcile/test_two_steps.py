"""A loss in two steps, replicas first and the machine later, and witnesses that tell no ages."""

import math
from dataclasses import replace

import pytest

from control_plane.reconcile import testimony
from control_plane.reconcile.failover import judge, weigh
from control_plane.reconcile.snapshot import PlaneView, Snapshot, Told
from skerry.fleet.observation import PeerVerdict, PlaneState, ReplicaState
from tests.builders import a_plane_view, a_replica, a_report, a_snapshot, a_view

GONE, SERVING, REACHABLE = PeerVerdict.UNREACHABLE, PeerVerdict.SERVING, PeerVerdict.REACHABLE


def silent(seconds: float, unready_seconds: float | None) -> PlaneView:
    """`fra`, silent; None: it told of a READY replica to the end."""
    state = ReplicaState.READY if unready_seconds is None else ReplicaState.FAILED
    report = a_report("fra", replicas=(a_replica("demo", "fra--cpu", state=state),))
    view = a_plane_view("fra", connected=False, silent_seconds=seconds, report=report)
    return replace(view, link=replace(view.link, unready_seconds=unready_seconds))


def a_witness(
    name: str,
    age: float,
    unreachable_seconds: float | None,
    verdict: PeerVerdict = GONE,
) -> PlaneView:
    """One that saw `fra` serve so long ago, and was heard to call it unreachable for so long."""
    others = [a_view(one, SERVING) for one in ("aws", "gcp") if one != name]
    view = a_plane_view(name, report=a_report(name, peers=(a_view("fra", verdict, age), *others)))
    told = {"fra": Told(unreachable_seconds=unreachable_seconds)}
    return replace(view, link=replace(view.link, told=told))


def in_two_steps(
    *, silence: float, unready: float | None, age: float, unreachable: float | None
) -> Snapshot:
    """Both witnesses saw the same."""
    witnesses = (a_witness(name, age, unreachable) for name in ("aws", "gcp"))
    return a_snapshot(silent(silence, unready), *witnesses)


def state_of(snapshot: Snapshot) -> PlaneState:
    return judge(snapshot)["fra"].state


def why_not(snapshot: Snapshot) -> set[str]:
    return {view.discounted for view in weigh(snapshot)["fra"][1].witnesses}


def test_a_plane_whose_replicas_ended_long_before_its_machine_is_lost() -> None:
    """Both witnesses saw its replicas end when it told of that itself, and it end when we did."""
    snapshot = in_two_steps(silence=9.0, unready=300.0, age=301.0, unreachable=8.0)
    assert state_of(snapshot) is PlaneState.LOST


def test_so_it_is_where_its_gateway_ended_with_its_replicas() -> None:
    snapshot = in_two_steps(silence=9.0, unready=300.0, age=301.0, unreachable=299.0)
    assert state_of(snapshot) is PlaneState.LOST


@pytest.mark.parametrize(
    ("silence", "unready", "age", "unreachable", "why"),
    [
        # READY by its own word until it fell silent: a link that was lost, or two.
        (9.0, None, 300.0, 8.0, testimony.LONG_BEFORE),
        # Cut off from both witnesses while it served: it told of READY replicas long after that.
        (9.0, 20.0, 300.0, 299.0, testimony.LONG_BEFORE_END),
        (9.0, 9.0, 300.0, 299.0, testimony.LONG_BEFORE_END),
        # Cut off from both while it had none: they may be back by now, and nobody there to see.
        (9.0, 300.0, 301.0, 150.0, testimony.SIGHT_LOST),
        (9.0, 300.0, 301.0, None, testimony.SIGHT_LOST),
    ],
)
def test_a_cut_path_is_no_second_step(
    silence: float, unready: float | None, age: float, unreachable: float | None, why: str
) -> None:
    snapshot = in_two_steps(silence=silence, unready=unready, age=age, unreachable=unreachable)
    assert state_of(snapshot) is PlaneState.SUSPECT
    assert why_not(snapshot) == {why}


def test_a_plane_whose_gateway_answers_has_time_to_start_its_replicas_again() -> None:
    def after(silence: float) -> Snapshot:
        unready = silence + 60.0
        witnesses = (a_witness(name, unready, None, REACHABLE) for name in ("aws", "gcp"))
        return a_snapshot(silent(silence, unready), *witnesses)

    assert state_of(after(testimony.RETURN_SECONDS)) is PlaneState.SUSPECT
    assert why_not(after(testimony.RETURN_SECONDS)) == {testimony.MAY_RETURN}
    assert state_of(after(testimony.RETURN_SECONDS + 1.0)) is PlaneState.LOST


def test_whoever_sees_it_serve_again_ends_all_that() -> None:
    snapshot = in_two_steps(silence=9.0, unready=300.0, age=301.0, unreachable=8.0)
    sees = a_plane_view("oci", sees={"fra": SERVING, "aws": SERVING})
    assert state_of(replace(snapshot, planes=(*snapshot.planes, sees))) is PlaneState.DISCONNECTED


def an_older_witness(name: str, told: Told, verdict: PeerVerdict = GONE) -> PlaneView:
    """One of a release that told a verdict and nothing else."""
    views = [replace(a_view("fra", verdict), served_until=None, served_until_seconds=None)]
    views += [a_view(one, SERVING) for one in ("aws", "gcp") if one != name]
    report = a_report(name, peers=tuple(views), told_at_seconds=None)
    view = a_plane_view(name, report=report)
    return replace(view, link=replace(view.link, told={"fra": told}))


def older(told: Told, silence: float = 9.0) -> Snapshot:
    witnesses = (an_older_witness(name, told) for name in ("aws", "gcp"))
    return a_snapshot(silent(silence, None), *witnesses)


def test_witnesses_that_tell_no_ages_count_by_when_they_were_heard_to_see_it_serve() -> None:
    seen = Told(served_seconds=9.5, denied_seconds=8.5, unreachable_seconds=8.5)
    assert state_of(older(seen)) is PlaneState.LOST
    (first, second) = weigh(older(seen))["fra"][1].witnesses
    assert first.served_until == second.served_until is not None


@pytest.mark.parametrize(
    ("told", "why"),
    [
        # Its path may have been cut before our start.
        (Told(unreachable_seconds=8.0), testimony.NO_AGE),
        (
            Told(served_seconds=300.0, denied_seconds=299.0, unreachable_seconds=299.0),
            testimony.LONG_BEFORE,
        ),
        # It was silent itself for an hour: it may have lost sight of it at any time of that.
        (
            Told(served_seconds=3600.0, denied_seconds=7.0, unreachable_seconds=7.0),
            testimony.LONG_BEFORE,
        ),
        # Envoy calls everybody unhealthy when it starts.
        (
            Told(served_seconds=5.0, denied_seconds=4.0, unreachable_seconds=4.0),
            testimony.JUST_DENIED,
        ),
    ],
)
def test_what_they_may_have_seen_long_before_does_not_count(told: Told, why: str) -> None:
    assert state_of(older(told)) is PlaneState.SUSPECT
    assert why_not(older(told)) == {why}


def test_one_that_tells_no_ages_shows_that_others_lost_sight_before() -> None:
    """If it was heard to see it serve after them; what it may have seen unheard is no evidence."""
    cut = [a_witness(name, 3000.0, 3000.0) for name in ("aws", "gcp")]
    seen = Told(served_seconds=10.5, denied_seconds=10.0, unreachable_seconds=10.0)
    unheard = Told(served_seconds=3600.0, denied_seconds=10.0, unreachable_seconds=math.inf)
    assert state_of(a_snapshot(silent(3600.0, None), *cut)) is PlaneState.LOST
    for told, state in ((seen, PlaneState.SUSPECT), (unheard, PlaneState.LOST)):
        witness = an_older_witness("oci", told)
        assert state_of(a_snapshot(silent(3600.0, None), *cut, witness)) is state
