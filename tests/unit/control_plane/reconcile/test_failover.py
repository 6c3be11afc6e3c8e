"""A plane is lost by its lease and by its peers' view, never by silence alone."""

from dataclasses import replace

import pytest

from control_plane.reconcile.failover import is_frozen, judge
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PeerVerdict, PlaneCondition, PlaneState
from tests.builders import T0, a_plane_view, a_report, a_snapshot

GONE = PeerVerdict.UNREACHABLE
SERVING = PeerVerdict.SERVING
UNKNOWN = PeerVerdict.UNKNOWN


def three_planes(
    *verdicts: PeerVerdict, silent_seconds: float = 9.0, age: float = 3600.0
) -> Snapshot:
    """`fra` is silent; `aws` and `gcp` are up and say what they see of it."""
    return a_snapshot(
        a_plane_view("fra", connected=False, silent_seconds=silent_seconds),
        a_plane_view("aws", sees={"fra": verdicts[0]}),
        a_plane_view("gcp", sees={"fra": verdicts[1]}),
        age=age,
    )


@pytest.mark.parametrize(
    ("verdicts", "silent_seconds", "age", "state"),
    [
        ((GONE, GONE), 9.0, 3600.0, PlaneState.LOST),
        ((PeerVerdict.REACHABLE, GONE), 9.0, 3600.0, PlaneState.LOST),
        ((GONE, GONE), 7.9, 3600.0, PlaneState.SUSPECT),  # the lease still runs
        ((GONE, GONE), 9.0, 15.9, PlaneState.SUSPECT),  # we were away ourselves
        ((GONE, UNKNOWN), 9.0, 3600.0, PlaneState.SUSPECT),  # one witness is not two
        ((UNKNOWN, UNKNOWN), 9999.0, 3600.0, PlaneState.SUSPECT),
        ((GONE, SERVING), 9.0, 3600.0, PlaneState.DISCONNECTED),
        ((SERVING, SERVING), 9999.0, 3600.0, PlaneState.DISCONNECTED),
    ],
)
def test_a_silent_plane_is_lost_only_by_lease_and_two_witnesses(
    verdicts: tuple[PeerVerdict, PeerVerdict], silent_seconds: float, age: float, state: PlaneState
) -> None:
    snapshot = three_planes(*verdicts, silent_seconds=silent_seconds, age=age)
    assert judge(snapshot)["fra"].state is state


def test_with_one_other_plane_that_one_witness_is_enough() -> None:
    snapshot = a_snapshot(
        a_plane_view("fra", connected=False, silent_seconds=9.0),
        a_plane_view("aws", sees={"fra": GONE}),
    )
    assert judge(snapshot)["fra"].state is PlaneState.LOST


def test_with_no_other_plane_a_silent_plane_is_never_lost() -> None:
    snapshot = a_snapshot(a_plane_view("fra", connected=False, silent_seconds=1e6))
    assert judge(snapshot)["fra"].state is PlaneState.SUSPECT


def test_a_witness_that_is_itself_silent_cannot_testify() -> None:
    snapshot = a_snapshot(
        a_plane_view("fra", connected=False, silent_seconds=9.0),
        a_plane_view("aws", sees={"fra": GONE}),
        a_plane_view("gcp", sees={"fra": GONE}, silent_seconds=4.0),
        a_plane_view("oci"),
        a_plane_view("az"),
    )
    assert judge(snapshot)["fra"].state is PlaneState.SUSPECT


def test_when_most_planes_are_silent_nothing_is_lost() -> None:
    snapshot = a_snapshot(
        a_plane_view("fra", connected=False, silent_seconds=9.0),
        a_plane_view("gcp", connected=False, silent_seconds=9.0),
        a_plane_view("aws", sees={"fra": GONE, "gcp": GONE}),
    )
    assert is_frozen(snapshot)
    assert {c.state for n, c in judge(snapshot).items() if n != "aws"} == {PlaneState.SUSPECT}


def test_a_lost_plane_stays_lost_until_it_connects() -> None:
    snapshot = a_snapshot(
        a_plane_view("fra", state=PlaneState.LOST, connected=False, silent_seconds=99.0),
        a_plane_view("aws", sees={"fra": UNKNOWN}),
        a_plane_view("gcp", sees={"fra": UNKNOWN}),
    )
    condition = judge(snapshot)["fra"]
    assert condition.state is PlaneState.LOST
    assert condition.since == snapshot.planes[0].condition.since  # type: ignore[union-attr]


def test_a_plane_that_returns_is_recovering_until_it_holds_the_newest_state() -> None:
    back = a_snapshot(a_plane_view("fra", state=PlaneState.LOST, report=a_report("fra")))
    assert judge(back)["fra"].state is PlaneState.RECOVERING


def test_a_healthy_plane_is_connected_and_its_since_does_not_move() -> None:
    snapshot = a_snapshot(a_plane_view("fra"))
    condition = judge(snapshot)["fra"]
    assert condition.state is PlaneState.CONNECTED
    assert condition.since == snapshot.planes[0].condition.since  # type: ignore[union-attr]


def test_a_state_pushed_under_an_earlier_epoch_counts_as_held() -> None:
    stored = DesiredState(plane="fra", version=Version(epoch=2, generation=6))
    report = a_report("fra", held=Version(epoch=3, generation=6))
    view = a_plane_view("fra", state=PlaneState.RECOVERING, report=report)
    snapshot = a_snapshot(view, desired=(stored,))
    assert judge(snapshot)["fra"].state is PlaneState.CONNECTED


def test_a_declared_loss_is_lost_and_the_others_that_are_silent_are_not() -> None:
    silent = [
        a_plane_view(name, connected=False, silent_seconds=9.0) for name in ("az", "fra", "gcp")
    ]
    gone = PlaneCondition(state=PlaneState.LOST, since=T0, reason="by an operator", declared=True)
    lost = replace(a_plane_view("oci", connected=False, silent_seconds=9.0), condition=gone)
    snapshot = a_snapshot(a_plane_view("aws", sees={"az": GONE, "fra": GONE}), lost, *silent)
    assert is_frozen(snapshot)
    judged = judge(snapshot)
    assert replace(judged["oci"], witnesses=()) == gone
    assert {judged[name].state for name in ("az", "fra", "gcp")} == {PlaneState.SUSPECT}


def test_a_declared_loss_is_over_once_the_plane_is_heard() -> None:
    gone = PlaneCondition(state=PlaneState.LOST, since=T0, declared=True)
    back = replace(a_plane_view("fra"), condition=gone)
    judged = judge(a_snapshot(back, a_plane_view("aws")))["fra"]
    assert judged.state is PlaneState.RECOVERING
    assert not judged.declared
