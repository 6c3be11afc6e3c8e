"""Actions stored many at a time: all of them or none, and one by one when one cannot be."""

import pytest

from control_plane.link.convert import encode_desired
from control_plane.reconcile.actions import Action, PushDesired, RecordReport, SetCondition
from control_plane.reconcile.storing import (
    FEW,
    JUDGED_TOGETHER_MAX,
    TOGETHER_MAX,
    batches,
    store_together,
)
from control_plane.store import desired, planes
from control_plane.store.audit import verify_changes
from control_plane.store.changes import last_sequence, list_changes
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.verdicts import VERDICTS_KEPT, keep_verdicts, list_verdicts
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Envelope
from skerry.fleet.verdict import Verdict
from skerry.plumbing.errors import NotFound, StaleGeneration
from tests.builders import T0, a_deployment, a_report

NEW = Version(epoch=0, generation=0)


def test_few_actions_are_stored_one_by_one_and_many_in_pieces() -> None:
    actions = [RecordReport(report=a_report(f"p{number}")) for number in range(130)]
    assert [len(piece) for piece in batches(actions[:FEW])] == [1] * FEW
    assert [len(piece) for piece in batches(actions)] == [TOGETHER_MAX, TOGETHER_MAX, 30]
    assert [one for piece in batches(actions) for one in piece] == actions


def test_judgements_are_stored_in_larger_pieces_in_the_order_they_come() -> None:
    many: list[Action] = [judged(f"p{number}") for number in range(JUDGED_TOGETHER_MAX + 1)]
    actions = [*many, RecordReport(report=a_report("fra")), *map(judged, ("fra", "aws"))]
    pieces = list(batches(actions))
    assert [len(piece) for piece in pieces] == [JUDGED_TOGETHER_MAX, 4]
    assert [one for piece in pieces for one in piece] == actions


def test_what_is_stored_together_is_told_with_its_versions(
    database: Database, write: WriteContext
) -> None:
    actions: list[Action] = [
        *(RecordReport(report=a_report(name)) for name in ("fra", "aws")),
        *(
            PushDesired(desired=DesiredState(plane=name, version=NEW), expected_generation=0)
            for name in ("fra", "aws")
        ),
    ]
    with database.write() as session:
        pushed = store_together(session, write, actions, encode_desired)
    version = Version(epoch=write.epoch, generation=1)
    assert [(plane, at) for plane, at, _ in pushed] == [("fra", version), ("aws", version)]
    with database.read() as session:
        assert [p.identity.name for p in planes.list_planes(session)] == ["aws", "fra"]


def test_when_one_cannot_be_stored_none_is(database: Database, write: WriteContext) -> None:
    stale = PushDesired(desired=DesiredState(plane="fra", version=NEW), expected_generation=7)
    actions: list[Action] = [RecordReport(report=a_report("fra")), stale]
    with pytest.raises(StaleGeneration), database.write() as session:
        store_together(session, write, actions, encode_desired)
    with database.read() as session:
        assert planes.list_planes(session) == ()


def judged(plane: str, state: PlaneState = PlaneState.SUSPECT, **told: PlaneState) -> SetCondition:
    """Return that a plane is judged to be in that state, from none before unless told."""
    return SetCondition(
        plane=plane,
        condition=PlaneCondition(state=state, since=T0, reason=f"{plane} is {state}"),
        before=told.get("before"),
        verdict=Verdict(judged_at=T0, state=state),
    )


def test_many_judgements_are_what_as_many_single_ones_are(
    database: Database, write: WriteContext
) -> None:
    names = tuple(f"p{number:02d}" for number in range(FEW + 5))
    with database.write() as session:
        for name in names:
            planes.record_report(session, write, a_report(name))
        before = last_sequence(session)
        store_together(session, write, [judged(name) for name in names], encode_desired)
        known = {one.identity.name: one.condition for one in planes.list_planes(session)}
        assert known == {name: judged(name).condition for name in names}
        told = list_changes(session, before, 100)
        assert [one.kind for one in told] == ["plane.suspect"] * len(names)
        assert [one.summary for one in told] == [f"{name} is suspect" for name in names]
        assert verify_changes(session).fault == ""
        assert {len(list_verdicts(session, name)) for name in names} == {1}
        # Again, with new evidence for the same states: no change of the log.
        again = planes.Judged(
            plane="p00",
            condition=PlaneCondition(state=PlaneState.SUSPECT, since=T0, reason="still"),
            before=PlaneState.SUSPECT,
        )
        assert planes.set_conditions(session, write, (again,)) == 1
        assert planes.set_conditions(session, write, (again,)) == 0
        assert last_sequence(session) == before + len(names)


def test_one_judgement_of_many_that_is_stale_stores_none(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        for name in ("aws", "fra"):
            planes.record_report(session, write, a_report(name))
    stale = [judged("aws"), judged("fra", before=PlaneState.CONNECTED)]
    with pytest.raises(StaleGeneration), database.write() as session:
        store_together(session, write, stale, encode_desired)
    with pytest.raises(NotFound), database.write() as session:
        store_together(session, write, [judged("aws"), judged("gcp")], encode_desired)
    with database.read() as session:
        assert [one.condition for one in planes.list_planes(session)] == [None, None]


def test_of_each_planes_verdicts_the_newest_are_kept(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        for name in ("aws", "fra"):
            planes.record_report(session, write, a_report(name))
        for number in range(VERDICTS_KEPT + 3):
            told = Verdict(judged_at=T0, state=PlaneState.SUSPECT, reason=str(number))
            of = ("aws", "fra") if number % 2 else ("aws",)
            keep_verdicts(session, write, dict.fromkeys(of, told))
        kept = [verdict.reason for verdict in list_verdicts(session, "aws")]
        assert kept == [str(number) for number in range(VERDICTS_KEPT + 2, 2, -1)]
        assert len(list_verdicts(session, "fra")) == (VERDICTS_KEPT + 3) // 2


def test_many_planes_are_told_in_one_go_and_one_that_is_stale_stores_none(
    database: Database, write: WriteContext
) -> None:
    names = ("aws", "fra", "gcp")
    first = [PushDesired(desired=telling(name, 1), expected_generation=0) for name in names]
    with database.write() as session:
        store_together(session, write, first[:2], encode_desired)
        before = last_sequence(session)
        again = [
            PushDesired(desired=telling("aws", 2), expected_generation=1),
            PushDesired(desired=telling("fra", 3), expected_generation=1),
            first[2],
        ]
        pushed = store_together(session, write, again, encode_desired)
        held = desired.list_desired(session)
        told = list_changes(session, before, 100)
    assert {plane: (one.version, one.payload) for plane, one in held.items()} == {
        plane: (version, payload) for plane, version, payload in pushed
    }
    assert [version.generation for _, version, _ in pushed] == [2, 2, 1]
    assert {plane: one.envelopes for plane, one in held.items()} == {
        "aws": telling("aws", 2).envelopes,
        "fra": telling("fra", 3).envelopes,
        "gcp": telling("gcp", 1).envelopes,
    }
    assert [(one.kind, one.summary) for one in told] == [
        ("desired.stored", f"version {version}") for _, version, _ in pushed
    ]
    stale = [
        PushDesired(desired=telling("aws", 5), expected_generation=2),
        PushDesired(desired=telling("fra", 5), expected_generation=1),
    ]
    with pytest.raises(StaleGeneration, match="'fra' is at generation 2, not 1"):
        with database.write() as session:
            store_together(session, write, stale, encode_desired)
    with database.read() as session:
        assert desired.list_desired(session) == held


def telling(plane: str, target: int) -> DesiredState:
    """Return a desired state that grants so many replicas of `demo`."""
    granted = Envelope(
        deployment="demo", pool=f"{plane}--cpu", floor=0, target=target, ceiling=target
    )
    assigned = Assignment(deployment=a_deployment(), envelopes=(granted,))
    return DesiredState(plane=plane, version=NEW, assignments=(assigned,))
