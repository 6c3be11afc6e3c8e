"""What witnesses are worth, when all is frozen, and what a verdict tells people."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.reconcile import testimony
from control_plane.reconcile.failover import freeze_of, is_frozen, judge, weigh
from control_plane.reconcile.prognosis import until_lost
from control_plane.reconcile.snapshot import LinkView, PlaneView, Snapshot
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneCondition, PlaneState
from skerry.fleet.pool import GatewayAddresses
from tests.builders import (
    T0,
    TOLD_AT_SECONDS,
    a_plane_view,
    a_replica,
    a_report,
    a_snapshot,
    a_view,
)

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
    served = a_report("aws", peers=(a_view("fra", REACHABLE),))
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
    unheard = LinkView(connected=False, silent_seconds=20.0)
    views = [replace(silent(f"old{n}"), condition=old, link=unheard) for n in range(3)]
    views = [
        replace(view, condition=replace(old, since=since + timedelta(hours=n)))
        for n, view in enumerate(views)
    ]
    assert not is_frozen(a_snapshot(*views, a_plane_view("aws"), a_plane_view("gcp")))


def test_a_freeze_after_a_start_goes_by_when_planes_were_heard_and_by_no_other_leaders_clock() -> (
    None
):
    """All fell silent together; the leader before, an hour behind, had judged some of them."""
    heard_at = T0 - timedelta(seconds=25.0)
    told = PlaneCondition(state=PlaneState.SUSPECT, since=T0 - timedelta(hours=1))
    unheard = LinkView(connected=False, silent_seconds=20.0)
    views = [replace(silent(f"p{n}"), link=unheard, heard_at=heard_at) for n in range(4)]
    views[:2] = [replace(view, condition=told) for view in views[:2]]
    assert is_frozen(a_snapshot(*views, a_plane_view("aws")))


def test_a_freeze_says_who_fell_silent_and_what_overrides_it() -> None:
    snapshot = a_snapshot(silent("fra"), silent("gcp"), a_plane_view("aws"))
    told = freeze_of(snapshot).describe()
    assert told.startswith("2 of 3 planes fell silent at once (fra, gcp)")
    assert "skerry failover" in told
    assert freeze_of(a_loss()).describe() == ""


def test_a_verdict_carries_all_that_it_rests_on() -> None:
    view = replace(a_view("fra", GONE, 7.0), since=T0 - timedelta(seconds=7))
    witness = a_plane_view("aws", report=a_report("aws", peers=(view,)))
    snapshot = a_snapshot(silent("fra"), witness)
    condition, verdict = weigh(snapshot)["fra"]
    assert verdict.state is condition.state is PlaneState.LOST
    assert verdict.before is PlaneState.CONNECTED
    assert verdict.witnesses == (replace(view, plane="aws", served_until_seconds=None),)
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


def seen_until(*ages: float, silent_seconds: float = 9.0, **fields: object) -> Snapshot:
    """`fra` is silent; each witness saw it serve until so many seconds ago, and sees it gone."""
    names = ("aws", "gcp", "oci", "az")[: len(ages)]
    views = [
        a_plane_view(
            name,
            report=a_report(
                name,
                peers=(
                    a_view("fra", GONE, age),
                    *(a_view(other, SERVING) for other in names if other != name),
                ),
            ),
        )
        for name, age in zip(names, ages, strict=True)
    ]
    return a_snapshot(silent("fra", silent_seconds), *views, **fields)


def why_not(snapshot: Snapshot, plane: str = "fra") -> list[str]:
    return [view.discounted for view in weigh(snapshot)[plane][1].witnesses]


@pytest.mark.parametrize(
    ("ages", "silent_seconds", "state"),
    [
        ((9.0, 9.0), 9.0, PlaneState.LOST),
        ((7.0, 10.0), 9.0, PlaneState.LOST),
        ((20.9, 20.9), 9.0, PlaneState.LOST),  # its gateway ended first, within a lease
        ((21.1, 9.0), 9.0, PlaneState.SUSPECT),
        ((3600.0, 3600.0), 9.0, PlaneState.SUSPECT),  # cut off from both an hour ago
        ((3600.0, 9.0, 9.0), 9.0, PlaneState.LOST),  # two others saw it fail
        ((9.0, 9.0), 3600.0, PlaneState.LOST),  # silent for an hour, and gone only now
        ((3000.0, 9.0), 3600.0, PlaneState.SUSPECT),  # one path after the other is no loss
        ((3000.0, 3000.0, 3000.0, 9.0), 3600.0, PlaneState.SUSPECT),  # it served when they were cut
        ((21.0, 9.0), 3600.0, PlaneState.LOST),
    ],
)
def test_a_witness_counts_only_if_it_saw_the_plane_serve_until_it_fell_silent(
    ages: tuple[float, ...], silent_seconds: float, state: PlaneState
) -> None:
    assert state_of(seen_until(*ages, silent_seconds=silent_seconds)) is state


def test_a_witness_that_does_not_count_says_why() -> None:
    assert why_not(seen_until(3600.0, 9.0)) == [testimony.LONG_BEFORE, ""]
    assert why_not(seen_until(3000.0, 9.0, silent_seconds=3600.0)) == [testimony.OTHERS_LATER, ""]
    told = a_view("fra", GONE)
    for view, why in (
        (replace(told, served_until=None, served_until_seconds=None), testimony.NEVER_SERVED),
        (replace(told, served_until_seconds=None), testimony.NO_AGE),
        (replace(told, served_until_seconds=TOLD_AT_SECONDS + 1.0), testimony.NO_AGE),
    ):
        witness = a_plane_view("aws", report=a_report("aws", peers=(view,)))
        assert why_not(a_snapshot(silent("fra"), witness)) == [why]
    blind = a_snapshot(
        silent("fra"),
        a_plane_view("aws", sees={"fra": GONE, "gcp": GONE}),
        a_plane_view("gcp", sees={"fra": GONE, "aws": SERVING}),
    )
    assert why_not(blind) == [testimony.BLIND, ""]
    verdict = weigh(seen_until(3600.0, 9.0))["fra"][1]
    told_to_people = "; ".join(until_lost("fra", verdict, seen_until(3600.0, 9.0)))
    assert f"aws does not count: {testimony.LONG_BEFORE}" in told_to_people
    assert "skerry failover plane/fra" in told_to_people


def test_whoever_saw_it_serve_later_shows_that_others_saw_no_loss() -> None:
    """Whatever it sees now: one whose gateway just started, or that is cut off itself by now."""
    snapshot = seen_until(3000.0, 3000.0, silent_seconds=3600.0)
    assert state_of(snapshot) is PlaneState.LOST
    restarted = replace(a_view("fra", GONE, 9.0), verdict=UNKNOWN)
    third = a_plane_view("oci", report=a_report("oci", peers=(restarted, a_view("aws", SERVING))))
    later = replace(snapshot, planes=(*snapshot.planes, third))
    assert state_of(later) is PlaneState.SUSPECT
    blind = a_report("oci", peers=(a_view("fra", GONE, 9.0), a_view("aws", GONE, 9.0)))
    third = a_plane_view("oci", report=blind)
    assert state_of(replace(snapshot, planes=(*snapshot.planes, third))) is PlaneState.SUSPECT


def test_ages_grow_while_a_report_lies_here() -> None:
    """The witness told it was seen a second ago; that report is an hour old by now."""
    snapshot = seen_until(1.0, 1.0)
    old = [replace(p, link=replace(p.link, report_age_seconds=3600.0)) for p in snapshot.planes]
    assert state_of(replace(snapshot, planes=tuple(old))) is PlaneState.SUSPECT
    unknown = [replace(p, link=replace(p.link, report_age_seconds=None)) for p in snapshot.planes]
    assert state_of(replace(snapshot, planes=tuple(unknown))) is PlaneState.SUSPECT


def test_the_clocks_of_machines_are_never_compared() -> None:
    """A witness a year ahead of us, another one a year behind: their ages are what counts."""
    snapshot = seen_until(9.0, 9.0)
    planes = [snapshot.planes[0]]
    for plane, off in zip(snapshot.planes[1:], (365, -365), strict=True):
        report = plane.link.report
        assert report is not None
        peers = tuple(
            replace(view, served_until=view.served_until + timedelta(days=off))
            if view.served_until
            else view
            for view in report.peers
        )
        planes.append(replace(plane, link=replace(plane.link, report=replace(report, peers=peers))))
    assert state_of(replace(snapshot, planes=tuple(planes))) is PlaneState.LOST


@pytest.mark.parametrize(
    ("heard_before_seconds", "ages", "state"),
    [
        (300.0, (300.0, 300.0), PlaneState.LOST),  # it died while we were away
        (None, (300.0, 300.0), PlaneState.SUSPECT),  # nobody knows when it was heard last
        (300.0, (3600.0, 3600.0), PlaneState.SUSPECT),  # cut off long before
        (300.0, (9.0, 300.0), PlaneState.SUSPECT),  # whatever is stored, a loss is one event
        (-300.0, (300.0, 300.0), PlaneState.SUSPECT),  # a wall clock that was set back
        (None, (30.0, 30.0), PlaneState.LOST),  # since our start it is silent for sure
    ],
)
def test_after_a_start_of_ours_silence_is_counted_from_when_the_plane_was_heard_last(
    heard_before_seconds: float | None, ages: tuple[float, ...], state: PlaneState
) -> None:
    snapshot = seen_until(*ages, age=40.0)
    heard_at = None
    if heard_before_seconds is not None:
        heard_at = T0 - timedelta(seconds=heard_before_seconds)
    unheard = replace(
        snapshot.planes[0],
        link=LinkView(connected=False, silent_seconds=40.0),
        heard_at=heard_at,
    )
    assert state_of(replace(snapshot, planes=(unheard, *snapshot.planes[1:]))) is state


def test_what_is_stored_says_nothing_of_a_plane_that_was_heard_in_this_run() -> None:
    snapshot = seen_until(300.0, 300.0)
    heard = replace(snapshot.planes[0], heard_at=T0 - timedelta(seconds=300))
    assert state_of(replace(snapshot, planes=(heard, *snapshot.planes[1:]))) is PlaneState.SUSPECT


def test_a_plane_whose_gateway_ended_hours_ago_is_left_to_an_operator_when_its_agent_goes() -> None:
    """Its replicas are READY by its own word: users may have another way to them."""
    heard = a_plane_view("fra", report=a_report("fra", replicas=(a_replica("demo", "fra--cpu"),)))
    snapshot = seen_until(7200.0, 7200.0)
    assert state_of(replace(snapshot, planes=(heard, *snapshot.planes[1:]))) is PlaneState.CONNECTED
    assert state_of(snapshot) is PlaneState.SUSPECT
