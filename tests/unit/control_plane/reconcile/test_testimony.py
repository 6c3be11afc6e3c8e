"""What witnesses are worth, when all is frozen, and what a verdict tells people."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.reconcile.failover import freeze_of, is_frozen, judge, weigh
from control_plane.reconcile.prognosis import until_lost
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneCondition, PlaneState
from skerry.fleet.pool import GatewayAddresses
from tests.builders import T0, a_plane_view, a_report, a_snapshot

GONE, SERVING, UNKNOWN = PeerVerdict.UNREACHABLE, PeerVerdict.SERVING, PeerVerdict.UNKNOWN
REACHABLE = PeerVerdict.REACHABLE


def silent(name: str, seconds: float = 9.0) -> PlaneView:
    return a_plane_view(name, connected=False, silent_seconds=seconds)


def a_loss(**fields: object) -> Snapshot:
    """`fra` is silent past its lease, and both peers see it gone and one another serving."""
    return a_snapshot(
        silent("fra"),
        a_plane_view("aws", sees={"fra": GONE, "gcp": SERVING}),
        a_plane_view("gcp", sees={"fra": GONE, "aws": SERVING}),
        **fields,
    )


def state_of(snapshot: Snapshot, plane: str = "fra") -> PlaneState:
    return judge(snapshot)[plane].state


def test_a_database_outage_has_the_grace_of_a_new_leader() -> None:
    assert state_of(a_loss()) is PlaneState.LOST
    assert state_of(a_loss(since_database_back_seconds=0.0)) is PlaneState.SUSPECT
    assert state_of(a_loss(since_database_back_seconds=15.9)) is PlaneState.SUSPECT
    assert state_of(a_loss(since_database_back_seconds=16.1)) is PlaneState.LOST


def test_a_witness_that_sees_none_of_the_planes_we_hear_is_cut_off_itself() -> None:
    snapshot = a_snapshot(
        silent("fra"),
        a_plane_view("aws", sees={"fra": GONE, "gcp": GONE}),
        a_plane_view("gcp", sees={"fra": GONE, "aws": SERVING}),
    )
    assert state_of(snapshot) is PlaneState.SUSPECT


def test_a_gateway_that_never_had_a_replica_behind_it_has_none_to_lose() -> None:
    idle = PeerView(plane="fra", verdict=REACHABLE)
    report = a_report("aws", peers=(idle,))
    snapshot = a_snapshot(silent("fra"), a_plane_view("aws", report=report))
    assert state_of(snapshot) is PlaneState.SUSPECT
    served = a_report("aws", peers=(replace(idle, served_until=T0),))
    snapshot = a_snapshot(silent("fra"), a_plane_view("aws", report=served))
    assert state_of(snapshot) is PlaneState.LOST


def test_a_plane_that_no_peer_reaches_by_design_is_never_lost_by_itself() -> None:
    hidden = replace(silent("fra", 1e6), gateway=GatewayAddresses(http="a:1", grpc="a:1", peer=""))
    snapshot = a_loss()
    snapshot = replace(snapshot, planes=(hidden, *snapshot.planes[1:]))
    condition, verdict = weigh(snapshot)["fra"]
    assert condition.state is PlaneState.SUSPECT
    (why,) = until_lost("fra", verdict, snapshot)
    assert "skerry failover plane/fra" in why


@pytest.mark.parametrize(
    ("silences", "frozen"),
    [
        ((9.0, 9.0, 9.0, 0.5, 0.5), True),
        ((9.0, 9.0, 0.5, 0.5, 0.5), False),
        ((4.0, 8.0, 11.9, 0.5, 0.5), True),  # within one lease of each other
        ((4.0, 40.0, 400.0, 0.5, 0.5), False),  # one after the other, as planes come and go
        ((5e5, 6e5, 9.0, 0.5, 0.5), False),
        ((5e5, 9.0, 9.0, 9.0, 0.5), True),  # of those that could have been heard
    ],
)
def test_moves_are_frozen_by_planes_that_fell_silent_together(
    silences: tuple[float, ...], frozen: bool
) -> None:
    views = (
        a_plane_view(f"p{n}", connected=seconds < 3, silent_seconds=seconds)
        for n, seconds in enumerate(silences)
    )
    assert is_frozen(a_snapshot(*views)) is frozen


def test_planes_that_were_silent_before_our_start_do_not_freeze_us() -> None:
    since = T0 - timedelta(days=2)
    old = PlaneCondition(state=PlaneState.DISCONNECTED, since=since)
    views = [replace(silent(f"old{n}", 20.0), condition=old) for n in range(3)]
    views = [
        replace(view, condition=replace(old, since=since + timedelta(hours=n)))
        for n, view in enumerate(views)
    ]
    assert not is_frozen(a_snapshot(*views, a_plane_view("aws"), a_plane_view("gcp")))


def test_a_freeze_says_who_fell_silent_and_what_overrides_it() -> None:
    snapshot = a_snapshot(silent("fra"), silent("gcp"), a_plane_view("aws"))
    told = freeze_of(snapshot).describe()
    assert told.startswith("2 of 3 planes fell silent at once (fra, gcp)")
    assert "skerry failover" in told
    assert freeze_of(a_loss()).describe() == ""


def test_a_verdict_carries_all_that_it_rests_on() -> None:
    since = T0 - timedelta(seconds=7)
    view = PeerView(plane="fra", verdict=GONE, since=since, served_until=since)
    witness = a_plane_view("aws", report=a_report("aws", peers=(view,)))
    snapshot = a_snapshot(silent("fra"), witness)
    condition, verdict = weigh(snapshot)["fra"]
    assert verdict.state is condition.state is PlaneState.LOST
    assert verdict.before is PlaneState.CONNECTED
    assert verdict.witnesses == (replace(view, plane="aws"),)
    assert (verdict.witnesses_needed, verdict.against, verdict.silent_seconds) == (1, 1, 9.0)
    assert (verdict.planes_counted, verdict.planes_silent, verdict.frozen) == (2, 1, False)
    assert until_lost("fra", verdict, snapshot) == ()


@pytest.mark.parametrize(
    ("snapshot", "told"),
    [
        (a_snapshot(a_plane_view("fra"), a_plane_view("aws")), "fall silent for its lease of 8 s"),
        (a_snapshot(silent("fra", 5.0), a_plane_view("aws")), "run out, in 3 s"),
        (a_loss(age=6.0), "the grace after"),
        (a_snapshot(silent("fra"), silent("gcp"), a_plane_view("aws")), "frozen no more"),
        (a_snapshot(silent("fra")), "skerry failover plane/fra"),
        (
            a_snapshot(silent("fra"), a_plane_view("aws", sees={"fra": SERVING})),
            "aws would have to see nothing serving",
        ),
        (
            a_snapshot(silent("fra"), a_plane_view("aws", sees={"fra": UNKNOWN})),
            "1 more of 1 witnesses",
        ),
    ],
)
def test_what_would_have_to_happen_is_said(snapshot: Snapshot, told: str) -> None:
    _, verdict = weigh(snapshot)["fra"]
    assert told in "; ".join(until_lost("fra", verdict, snapshot))


def test_large_fleets_are_judged_alike() -> None:
    planes = [a_plane_view(f"p{n}", sees={"fra": GONE, "p1": SERVING}) for n in range(150)]
    assert state_of(a_snapshot(silent("fra"), *planes)) is PlaneState.LOST
    assert state_of(a_snapshot(a_plane_view("fra"), *planes)) is PlaneState.CONNECTED
