"""What tells a turn that nothing is new, and what must not be overlooked."""

from dataclasses import replace

from control_plane.reconcile.failover import judge
from control_plane.reconcile.memory import SILENT_SECONDS, inputs_of, is_at_rest, told_of
from control_plane.reconcile.pace import LARGE_PLANES
from control_plane.reconcile.snapshot import LinkView, PlaneView, Snapshot
from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneState
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.rollout import Rollout, Stage
from tests.builders import T0, a_demand, a_deployment, a_plane_view, a_report, a_snapshot

MOVING = Rollout(deployment="demo", revision=2, stable=1, stage=Stage.ROLLING, since=T0)
KEY = ApiKey(name="team-a", digest=bytes(32), terms=KeyTerms(deployments=("demo",)))
VIEWS = tuple(a_plane_view(name) for name in ("aws", "fra"))
USUAL = a_snapshot(*VIEWS, demands=(a_demand(),))


def inputs(snapshot: Snapshot) -> object:
    return inputs_of(snapshot, judge(snapshot))


def test_time_alone_and_heartbeats_are_nothing_new() -> None:
    later = replace(USUAL, planes=tuple(replace(v) for v in VIEWS), since_start_seconds=9_999.0)
    assert inputs(USUAL) == inputs(later)


def test_whatever_a_turn_goes_by_is_new() -> None:
    silent = replace(VIEWS[0].link, connected=False, silent_seconds=60.0)
    report = a_report("aws", held=Version(epoch=1, generation=9))
    placed = Placement(deployment="demo", pool="fra--cpu", count=1)
    others = (
        replace(USUAL, planes=(replace(VIEWS[0], link=silent), VIEWS[1])),
        replace(USUAL, planes=(replace(VIEWS[0], link=replace(silent, report=report)), VIEWS[1])),
        replace(USUAL, planes=VIEWS[:1]),
        replace(USUAL, demands=(a_demand(a_deployment(replicas=4)),)),
        replace(USUAL, placements=(placed,)),
        replace(USUAL, pools=USUAL.pools[:1]),
        replace(USUAL, policy=replace(USUAL.policy, moves_max=0)),
        replace(USUAL, api_keys=(KEY,)),
        replace(USUAL, revoked_planes=("aws",)),
    )
    for other in others:
        assert inputs(other) != inputs(USUAL)


def test_while_a_plane_settles_after_a_loss_time_alone_decides() -> None:
    condition = VIEWS[0].condition
    assert condition is not None
    back = replace(VIEWS[0], condition=replace(condition, returned_at=T0))
    assert inputs(replace(USUAL, planes=(back, VIEWS[1]))) is None


def test_what_planes_are_told_by_is_no_matter_of_time_nor_of_what_is_placed() -> None:
    """While a rollout waits, thousands of planes are told nothing anew."""
    condition = VIEWS[0].condition
    assert condition is not None
    back = replace(VIEWS[0], condition=replace(condition, returned_at=T0))
    placed = Placement(deployment="demo", pool="fra--cpu", count=1)
    later = replace(USUAL, planes=(back, VIEWS[1]), placements=(placed,), since_start_seconds=9e3)
    assert told_of(later, judge(later)) == told_of(USUAL, judge(USUAL))


def test_whatever_a_plane_is_told_by_is_new() -> None:
    lost = replace(VIEWS[0].link, connected=False, silent_seconds=60.0)
    report = a_report("aws", held=Version(epoch=1, generation=9))
    heard = replace(VIEWS[0].link, report=report)
    envelope = Envelope(deployment="demo", pool="fra--cpu", floor=0, target=1, ceiling=1)
    others = (
        replace(USUAL, planes=(replace(VIEWS[0], link=lost), VIEWS[1])),
        replace(USUAL, planes=(replace(VIEWS[0], link=heard), VIEWS[1])),
        replace(USUAL, envelopes=(envelope,)),
        replace(USUAL, demands=(a_demand(a_deployment(replicas=4)),)),
        replace(USUAL, desired=(DesiredState(plane="fra", version=report.held),)),
        replace(USUAL, rollouts=(MOVING,)),
        replace(USUAL, pools=USUAL.pools[:1]),
        replace(USUAL, api_keys=(KEY,)),
        replace(USUAL, revoked_planes=("aws",)),
    )
    for other in others:
        assert told_of(other, judge(other)) != told_of(USUAL, judge(USUAL))


LARGE = a_snapshot(*(a_plane_view(f"p{number:03d}") for number in range(LARGE_PLANES)))


def with_one(view: PlaneView) -> Snapshot:
    """The large fleet with one plane that is not as the others are."""
    return replace(LARGE, planes=(view, *LARGE.planes[1:]))


def away(seconds: float, *, connected: bool = False) -> LinkView:
    """A link of which nothing was heard for so long."""
    return LinkView(connected=connected, silent_seconds=seconds)


def test_a_large_fleet_of_which_all_is_heard_is_at_rest_and_a_small_one_never() -> None:
    assert is_at_rest(LARGE)
    assert not is_at_rest(USUAL)


def test_nothing_rests_while_seconds_decide_how_a_plane_is_judged() -> None:
    first = LARGE.planes[0]
    lease_seconds = LARGE.policy.lease_seconds
    for link in (
        away(0.5),
        away(lease_seconds + 1.0),
        away(lease_seconds - 1.0, connected=True),
        away(SILENT_SECONDS - 1.0),
    ):
        assert not is_at_rest(with_one(replace(first, link=link)))
    assert not is_at_rest(with_one(replace(first, missing=(("cpu", lease_seconds - 1.0),))))
    assert not is_at_rest(replace(LARGE, since_start_seconds=1.0))
    assert not is_at_rest(replace(LARGE, since_database_back_seconds=1.0))


def test_who_is_lost_or_long_gone_keeps_nobody_from_resting() -> None:
    lost = a_plane_view("p000", state=PlaneState.LOST)
    assert is_at_rest(with_one(replace(lost, link=away(20.0))))
    suspect = a_plane_view("p000", state=PlaneState.SUSPECT)
    assert is_at_rest(with_one(replace(suspect, link=away(SILENT_SECONDS + 1.0))))
    gone = replace(LARGE.planes[0], missing=(("cpu", LARGE.policy.lease_seconds),))
    assert is_at_rest(with_one(gone))
