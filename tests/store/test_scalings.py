"""What autoscaling decided, as it is stored: whole rounds, bounded records, nobody's afterwards."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.store import scalings
from control_plane.store.changes import get_change, last_sequence, list_changes
from control_plane.store.deployments import apply_deployment, mark_deleting, remove_deployment
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.scalings import (
    RECORDS_OF_DEPLOYMENT_MAX,
    TOGETHER_MAX,
    ScalingStep,
    in_batches,
    list_scaling_records,
    list_scalings,
    put_scalings,
)
from control_plane.store.snapshot import load, renew
from skerry.fleet.autoscaling.need import Need
from skerry.fleet.autoscaling.scaled import FleetRecord, Scaled, ShareRecord
from skerry.plumbing.errors import StaleGeneration
from tests.builders import a_deployment
from tests.fakes.clock import START

SCALED = Scaled(deployment="demo", demand=2, floor=1, targets=(("fra", 2),), wanted=2)
RECORD = FleetRecord(
    deployment="demo",
    decided_at=START,
    sentence="2 replicas (fra 2) in place of 1: need.",
    because="need",
    running=1,
    total=2,
    wanted=2,
    unmet=1,
    demand=2,
    floor=1,
    unmet_dollars_per_hour=3.5,
    dollars_per_hour=0.2,
    need=Need(
        replicas=2,
        exact=1.5,
        work=1.0,
        reserve=0.05,
        queue=0.0,
        saturation=0.5,
        utilization=0.7,
        spares=1,
    ),
    highest=2,
    unheard=("gcp",),
    shares=(
        ShareRecord(plane="fra", running=1, floor=1, ceiling=4, target=2, price_per_hour=0.1),
        ShareRecord(
            plane="gcp", running=0, floor=0, ceiling=1, target=None, price_per_hour=0.3, heard=False
        ),
    ),
)
FIRST = ScalingStep(scaled=SCALED, before=None, record=RECORD)


@pytest.fixture
def demo(database: Database, write: WriteContext) -> WriteContext:
    """The write context of a store that knows `demo`."""
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
    return write


def test_a_decision_comes_back_whole_and_moves_the_snapshot_and_the_log(
    database: Database, demo: WriteContext
) -> None:
    with database.read() as session:
        before = load(session)
    with database.write() as session:
        put_scalings(session, demo, [FIRST])
    with database.read() as session:
        after = renew(session, before)
        assert (before.scalings, after.scalings) == ((), (SCALED,))
        assert list_scaling_records(session, "demo") == (RECORD,)
        moved = [one for one in list_changes(session, 0, 100) if one.kind == "scaling.moved"]
    assert [one.summary for one in moved] == [RECORD.sentence]


def test_a_round_that_moves_nothing_is_recorded_and_is_no_change(
    database: Database, demo: WriteContext
) -> None:
    with database.write() as session:
        put_scalings(session, demo, [FIRST])
    with database.read() as session:
        before = load(session)
    again = replace(RECORD, decided_at=START + timedelta(seconds=30))
    with database.write() as session:
        put_scalings(session, demo, [ScalingStep(scaled=SCALED, before=SCALED, record=again)])
    with database.read() as session:
        assert renew(session, before) is before
        assert list_scaling_records(session, "demo") == (again, RECORD)
        assert list_scaling_records(session, "demo", 1) == (again,)


def test_a_change_tells_the_targets_that_moved_and_no_others(
    database: Database, demo: WriteContext
) -> None:
    first = replace(SCALED, targets=(("fra", 1), ("gcp", 1)))
    moved = replace(SCALED, targets=(("fra", 1), ("gcp", 4)))
    with database.write() as session:
        put_scalings(session, demo, [ScalingStep(scaled=first, before=None, record=RECORD)])
    with database.write() as session:
        put_scalings(session, demo, [ScalingStep(scaled=moved, before=first, record=RECORD)])
    with database.read() as session:
        assert list_scalings(session) == (moved,)
        newest = get_change(session, last_sequence(session))
    assert newest.before["targets"] == [["gcp", 1]]
    assert newest.after["targets"] == [["gcp", 4]]


def test_what_was_decided_from_something_else_is_refused_whole(
    database: Database, demo: WriteContext
) -> None:
    with database.write() as session:
        put_scalings(session, demo, [FIRST])
    with pytest.raises(StaleGeneration, match="decided meanwhile"), database.write() as session:
        put_scalings(session, demo, [FIRST])
    with database.read() as session:
        assert list_scaling_records(session, "demo") == (RECORD,)


def test_records_are_bounded_the_newest_stay(
    database: Database, demo: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RECORDS_OF_DEPLOYMENT_MAX >= 1_440
    monkeypatch.setattr(scalings, "RECORDS_OF_DEPLOYMENT_MAX", 3)
    with database.write() as session:
        put_scalings(session, demo, [FIRST])
    for number in range(1, 6):
        record = replace(RECORD, running=number)
        with database.write() as session:
            put_scalings(session, demo, [ScalingStep(scaled=SCALED, before=SCALED, record=record)])
    with database.read() as session:
        kept = list_scaling_records(session, "demo")
    assert [one.running for one in kept] == [5, 4, 3]


def test_a_deployment_that_is_gone_leaves_nothing_and_takes_nothing(
    database: Database, demo: WriteContext
) -> None:
    with database.write() as session:
        put_scalings(session, demo, [FIRST])
        mark_deleting(session, demo, "demo", "", "")
        remove_deployment(session, demo, "demo")
    with database.write() as session:
        put_scalings(session, demo, [FIRST])
    with database.read() as session:
        assert list_scalings(session) == ()
        assert list_scaling_records(session, "demo") == ()


def test_batches_are_bounded_whole_and_in_order() -> None:
    steps = [
        replace(FIRST, scaled=replace(SCALED, deployment=f"d{n:05d}"))
        for n in range(2 * TOGETHER_MAX + 1)
    ]
    batches = list(in_batches(steps))
    assert max(map(len, batches)) == TOGETHER_MAX
    assert [step for batch in batches for step in batch] == steps
