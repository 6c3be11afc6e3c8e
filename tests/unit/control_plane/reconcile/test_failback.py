"""When a plane came back, what had to leave it, and how long both are remembered."""

from dataclasses import replace
from datetime import timedelta

from control_plane.reconcile.budget import Moved, budget_of, moves_between
from control_plane.reconcile.failback import FAIL_BACK_SECONDS_MAX, is_timed, settling
from control_plane.reconcile.failover import judge
from control_plane.reconcile.missing import Missing, look_for
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.snapshot import Snapshot
from scheduler.problem import PoolBar
from skerry.fleet.observation import PeerVerdict, PlaneCondition, PlaneState
from skerry.fleet.placement import Placement
from tests.builders import T0, a_demand, a_plane_view, a_report, a_shape, a_snapshot

PLACED = (Placement(deployment="demo", pool="fra--cpu", count=2),)
SETTLE = ReconcilePolicy().settle_seconds


def at(seconds: float, before: PlaneCondition, *, heard: bool) -> tuple[PlaneCondition, Snapshot]:
    """Return how `fra` is judged so many seconds after T0; unheard it is gone past its lease."""
    view = a_plane_view("fra") if heard else a_plane_view("fra", connected=False, silent_seconds=9)
    snapshot = replace(
        a_snapshot(
            replace(view, condition=before),
            a_plane_view("aws", sees={"fra": PeerVerdict.UNREACHABLE, "gcp": PeerVerdict.SERVING}),
            a_plane_view("gcp", sees={"fra": PeerVerdict.UNREACHABLE, "aws": PeerVerdict.SERVING}),
            demands=(a_demand(),),
            placements=PLACED if before.state is PlaneState.CONNECTED else (),
        ),
        now=T0 + timedelta(seconds=seconds),
    )
    return judge(snapshot)["fra"], snapshot


def came_back() -> PlaneCondition:
    """`fra` was lost with two replicas of demo and is heard again, ten seconds after T0."""
    lost, _ = at(0, PlaneCondition(state=PlaneState.CONNECTED, since=T0), heard=False)
    back, _ = at(10, lost, heard=True)
    return back


def test_what_was_placed_on_a_lost_plane_is_remembered_until_it_is_back() -> None:
    lost, _ = at(0, PlaneCondition(state=PlaneState.CONNECTED, since=T0), heard=False)
    assert lost.state is PlaneState.LOST
    assert lost.displaced == (("demo", "fra--cpu", 2),)
    later, _ = at(5, lost, heard=False)
    assert later.displaced == lost.displaced, "nothing is placed there any more"
    back = came_back()
    assert back.displaced == lost.displaced
    assert back.returned_at == T0 + timedelta(seconds=10)


def test_a_plane_settles_once_it_was_heard_without_a_break() -> None:
    back = replace(came_back(), state=PlaneState.CONNECTED)
    for seconds, expected in ((10 + SETTLE - 1, True), (10 + SETTLE, False)):
        condition, snapshot = at(seconds, back, heard=True)
        assert settling(condition, snapshot) is expected


def test_a_break_before_it_has_settled_begins_anew() -> None:
    silent = replace(came_back(), state=PlaneState.SUSPECT, since=T0 + timedelta(seconds=30))
    again, _ = at(40, silent, heard=True)
    assert again.returned_at == T0 + timedelta(seconds=40)
    late = replace(silent, since=T0 + timedelta(seconds=10 + SETTLE))
    again, _ = at(200, late, heard=True)
    assert again.returned_at == T0 + timedelta(seconds=10), "it had settled before"


def test_after_a_while_nothing_is_remembered_of_the_loss() -> None:
    back = replace(came_back(), state=PlaneState.CONNECTED)
    over, snapshot = at(11 + SETTLE + FAIL_BACK_SECONDS_MAX, back, heard=True)
    assert (over.returned_at, over.displaced) == (None, ())
    assert not is_timed(over, snapshot)


def test_a_second_loss_before_it_settled_adds_to_what_was_there() -> None:
    again, _ = at(20, replace(came_back(), state=PlaneState.SUSPECT), heard=False)
    assert again.state is PlaneState.LOST
    assert again.displaced == (("demo", "fra--cpu", 2),)


def test_moves_within_a_minute_are_counted_and_later_ones_are_free() -> None:
    moved = tuple(Moved(at=T0 + timedelta(seconds=s), replicas=1) for s in (0, 30, 59))
    now = T0 + timedelta(seconds=59)
    budget = budget_of(moved, 3, now)
    assert (budget.left, budget.freed_seconds) == (0, 1.0)
    assert budget_of(moved, 3, now + timedelta(seconds=1)).left == 1
    assert budget_of(moved, 3, now + timedelta(seconds=60)).left == 3
    assert budget_of(moved, 3, T0 - timedelta(days=1)).left == 0, "the clock went back"
    assert budget_of((), 3, now).describe() == ""


def test_only_healthy_replicas_that_go_elsewhere_are_moves() -> None:
    before = (*PLACED, Placement(deployment="demo", pool="aws--cpu", count=1))
    after = (Placement(deployment="demo", pool="gcp--cpu", count=3),)
    assert moves_between(before, after, ()) == 3
    lost = PoolBar(pool="fra--cpu", reason="lost", keeps_current=False)
    assert moves_between(before, after, (lost,)) == 1
    assert moves_between(before, (), ()) == 0, "scaled down"
    assert moves_between((), after, ()) == 0, "scaled up"


def test_a_pool_is_missing_since_the_first_report_without_it() -> None:
    known = {"fra": ("cpu", "gpu")}
    whole, part = a_report("fra", pools=(a_shape("cpu"), a_shape("gpu"))), a_report("fra")
    first = look_for(Missing(), known, {"fra": part}, 10.0)
    assert first.of("fra") == (("gpu", 0.0),)
    later = look_for(first, known, {"fra": part}, 17.0)
    assert later.of("fra") == (("gpu", 7.0),)
    assert look_for(later, known, {"fra": whole}, 18.0).of("fra") == ()
    empty = a_report("fra", pools=())
    assert look_for(later, known, {"fra": empty}, 18.0).of("fra") == ()
    assert look_for(later, known, {}, 18.0).of("fra") == ()
