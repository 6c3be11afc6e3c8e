"""Actions stored many at a time: all of them or none, and one by one when one cannot be."""

import pytest

from control_plane.link.convert import encode_desired
from control_plane.reconcile.actions import Action, PushDesired, RecordReport
from control_plane.reconcile.storing import FEW, TOGETHER_MAX, batches, store_together
from control_plane.store import planes
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.plumbing.errors import StaleGeneration
from tests.builders import a_report

NEW = Version(epoch=0, generation=0)


def test_few_actions_are_stored_one_by_one_and_many_in_pieces() -> None:
    actions = [RecordReport(report=a_report(f"p{number}")) for number in range(130)]
    assert [len(piece) for piece in batches(actions[:FEW])] == [1] * FEW
    assert [len(piece) for piece in batches(actions)] == [TOGETHER_MAX, TOGETHER_MAX, 30]
    assert [one for piece in batches(actions) for one in piece] == actions


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
