"""Nodes, cordons of any part, declared losses and moves, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.store import cordons
from control_plane.store.changes import list_changes
from control_plane.store.cordons import find_cordon, list_cordons, set_cordon
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.moves import put_moved
from control_plane.store.nodes import get_node, list_nodes
from control_plane.store.placements import Decision, list_placements
from control_plane.store.planes import declare_lost, list_planes, record_report, set_condition
from control_plane.store.plans import Proposal
from control_plane.store.requests import Asked, answered, digest_of, keep_answer
from control_plane.store.values import Answer
from skerry.fleet.cordon import LOOKS, CordonState, Part, Scope
from skerry.fleet.node import Node, digest_of_nodes
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Placement
from skerry.plumbing.errors import (
    Exhausted,
    Infeasible,
    InvalidInput,
    NotFound,
    StaleGeneration,
)
from tests.builders import T0, a_report

NODES = tuple(Node(name=f"rack-{n}", pool="cpu", accelerators=4) for n in (1, 2, 3))
DECISION = Decision(cost_per_hour=0.0, solver="keep", optimal=False, solve_seconds=0.0)
NOBODY = Asked(request_id="", kind="failover", body="")
FRA = Part(scope=Scope.PLANE, name="onprem-fra")
NODE = Part(scope=Scope.NODE, name="onprem-fra--rack-1")


def summaries(database: Database, kind: str) -> list[str]:
    with database.read() as session:
        return [c.summary for c in list_changes(session, 0, 100) if c.kind == kind]


def test_nodes_are_kept_as_their_plane_reports_them(
    database: Database, write: WriteContext
) -> None:
    ill = replace(NODES[1], ready=False, message="ECC errors")
    new = Node(name="rack-9", pool="cpu", accelerators=4)
    later = replace(write, now=write.now + timedelta(minutes=1))
    with database.write() as session:
        assert record_report(session, write, a_report(nodes=NODES))
        assert not record_report(session, write, a_report(nodes=tuple(reversed(NODES))))
        assert record_report(session, later, a_report(nodes=(NODES[0], ill, new)))
        found = list_nodes(session, "onprem-fra")
        assert list_planes(session)[0].nodes_digest == digest_of_nodes((NODES[0], ill, new))
    assert [stored.node for stored in found] == [NODES[0], ill, new]
    assert [stored.updated_at for stored in found] == [write.now, later.now, later.now]
    assert found[0].name == "onprem-fra--rack-1"
    assert (
        "node rack-3 gone; node rack-9 of pool cpu; node rack-2 not fit for work: ECC errors"
        in (summaries(database, "plane.reported")[-1])
    )


def test_a_report_that_names_no_node_leaves_all_as_they_were(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        record_report(session, write, a_report(nodes=NODES))
        assert not record_report(session, write, a_report())
        assert len(list_nodes(session)) == 3
        assert get_node(session, "onprem-fra--rack-2").node == NODES[1]
        with pytest.raises(NotFound, match="skerry get nodes"):
            get_node(session, "onprem-fra--rack-7")


def test_of_many_new_nodes_a_change_names_the_first(
    database: Database, write: WriteContext
) -> None:
    many = tuple(Node(name=f"n-{n}", pool="cpu", accelerators=1) for n in range(500))
    with database.write() as session:
        record_report(session, write, a_report(nodes=many))
    told = summaries(database, "plane.reported")[0]
    assert "and 495 more nodes" in told
    assert len(told) < 300


def test_a_cordon_becomes_a_drain_and_back(database: Database, write: WriteContext) -> None:
    later = replace(write, now=write.now + timedelta(hours=1), reason="new racks")
    with database.write() as session:
        assert set_cordon(session, write, FRA, CordonState.CORDONED, "")
        assert set_cordon(session, later, FRA, CordonState.DRAINING, "")
        assert not set_cordon(session, later, FRA, CordonState.DRAINING, "")
        drained = find_cordon(session, FRA)
        assert drained is not None
        assert drained.draining
        assert (drained.since, drained.reason) == (later.now, "new racks")
        assert set_cordon(session, later, FRA, CordonState.CORDONED, "")
        assert [cordon.draining for cordon in list_cordons(session)] == [False]
        assert set_cordon(session, later, FRA, CordonState.OPEN, "")
        assert list_cordons(session) == ()
    with database.read() as session:
        kinds = [c.kind for c in list_changes(session, 0, 100) if c.kind.startswith("domain.")]
    assert kinds == [
        "domain.cordoned",
        "domain.draining",
        "domain.cordoned",
        "domain.uncordoned",
    ]


@pytest.mark.parametrize("scope", list(Scope))
def test_a_part_of_any_scope_is_cordoned_drained_and_opened(
    database: Database, write: WriteContext, scope: Scope
) -> None:
    part = Part(scope=scope, name=LOOKS[scope].lower())
    with database.write() as session:
        assert set_cordon(session, write, part, CordonState.CORDONED, "")
        assert set_cordon(session, write, part, CordonState.DRAINING, "")
        assert [(c.part, c.draining) for c in list_cordons(session)] == [(part, True)]
        assert set_cordon(session, write, part, CordonState.OPEN, "")
        assert list_cordons(session) == ()


def test_cordons_of_all_scopes_together_are_limited(
    database: Database, write: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cordons, "CORDONS_MAX", 2)
    with database.write() as session:
        set_cordon(session, write, FRA, CordonState.CORDONED, "")
        set_cordon(session, write, NODE, CordonState.CORDONED, "")
        for scope in Scope:
            more = Part(scope=scope, name=LOOKS[scope].lower())
            with pytest.raises(Exhausted, match="2 parts of the fleet"):
                set_cordon(session, write, more, CordonState.CORDONED, "")
        assert set_cordon(session, write, NODE, CordonState.DRAINING, "")


@pytest.mark.parametrize(
    ("state", "text"), [(CordonState.OPEN, "False"), (CordonState.CORDONED, "True")]
)
def test_a_cordon_is_answered_that_the_release_before_was_asked_for(
    database: Database, write: WriteContext, state: CordonState, text: str
) -> None:
    digest = digest_of("cordon", "plane", FRA.name, text)  # as that release made it
    with database.write() as session:
        keep_answer(session, write, "across", digest, Answer(changed=True))
        assert set_cordon(session, write, FRA, state, "across")
        assert list_changes(session, 1, 10) == ()


def test_a_repeated_cordon_has_the_answer_of_the_first(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        assert set_cordon(session, write, FRA, CordonState.DRAINING, "again")
        assert set_cordon(session, write, FRA, CordonState.DRAINING, "again")
        with pytest.raises(InvalidInput, match="different call"):
            set_cordon(session, write, FRA, CordonState.OPEN, "again")


def test_silent_planes_are_declared_lost_together_or_not_at_all(
    database: Database, write: WriteContext
) -> None:
    names = ("aws", "fra", "gcp")
    with database.write() as session:
        for name in names:
            record_report(session, write, a_report(name))
        for name, state in (("aws", PlaneState.SUSPECT), ("fra", PlaneState.CONNECTED)):
            set_condition(session, write, name, PlaneCondition(state=state, since=T0), None)
    with pytest.raises(Infeasible, match="is connected"), database.write() as session:
        declare_lost(session, write, names, NOBODY)
    once = Asked(request_id="once", kind="failover", body="clouds/x")
    with database.write() as session:
        assert declare_lost(session, replace(write, reason="fire"), ("gcp", "aws"), once)
        assert not declare_lost(session, write, ("gcp", "aws"), once)
        with pytest.raises(InvalidInput, match="different call"):
            declare_lost(session, write, ("gcp",), replace(once, body="planes/gcp"))
        assert declare_lost(session, write, ("gcp", "aws"), NOBODY)
        states = {p.identity.name: p.condition for p in list_planes(session)}
    assert states["aws"] == PlaneCondition(
        state=PlaneState.LOST,
        since=write.now,
        reason=f"declared lost by {write.actor}: fire",
        declared=True,
    )
    assert len(summaries(database, "plane.lost")) == 2


def test_a_move_is_made_once_and_answers_the_same_again(
    database: Database, write: WriteContext
) -> None:
    placed = (Placement(deployment="demo", pool="b", count=1),)
    told = Proposal(decision=DECISION, placements=placed, summary="demo moves")
    asked = Asked(request_id="m-1", kind="move", body="demo a b 1", answer=b"\x00plan")
    with database.write() as session:
        assert answered(session, write, asked) is None
        assert put_moved(session, write, told, (), "inputs", asked)
        assert not put_moved(session, write, told, (), "inputs", asked)
        assert answered(session, write, asked) == b"\x00plan"
        assert list_placements(session) == placed
        with pytest.raises(InvalidInput, match="different call"):
            answered(session, write, replace(asked, body="demo a c 1"))
    with pytest.raises(StaleGeneration), database.write() as session:
        put_moved(session, write, told, (), "inputs", replace(asked, request_id="m-2"))
