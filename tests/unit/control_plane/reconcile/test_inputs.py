"""What tells a turn that nothing is new, and what must not be overlooked."""

from dataclasses import replace

from control_plane.reconcile.failover import judge
from control_plane.reconcile.memory import inputs_of
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.generation import Version
from skerry.fleet.placement import Placement
from tests.builders import T0, a_demand, a_deployment, a_plane_view, a_report, a_snapshot

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
    )
    for other in others:
        assert inputs(other) != inputs(USUAL)


def test_while_a_plane_settles_after_a_loss_time_alone_decides() -> None:
    condition = VIEWS[0].condition
    assert condition is not None
    back = replace(VIEWS[0], condition=replace(condition, returned_at=T0))
    assert inputs(replace(USUAL, planes=(back, VIEWS[1]))) is None
