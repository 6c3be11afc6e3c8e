"""What reading again only what moved promises, on both databases."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from control_plane.store.catalogue import PROFILES, REGIONS, create_entry
from control_plane.store.changes import append_change, forget_changes
from control_plane.store.cordons import set_cordon
from control_plane.store.deployments import (
    apply_deployment,
    mark_deleting,
    remove_deployment,
)
from control_plane.store.desired import put_desired
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.placements import record_decision, replace_placements
from control_plane.store.planes import record_report, set_condition
from control_plane.store.pools import set_terms
from control_plane.store.prices import PriceFrom, set_price
from control_plane.store.snapshot import load, renew
from control_plane.store.values import Decision, Told
from skerry.fleet.catalogue import Region
from skerry.fleet.cordon import CordonState, Part, Scope
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.pool import PoolTerms
from tests.builders import a_deployment, a_profile, a_report

ACME = Part(scope=Scope.CLOUD, name="acme")
POOL = "onprem-fra--cpu"
PLACED = Placement(deployment="demo", pool=POOL, count=2, reason="the cheapest")
TOLD = Told(
    payload=b"2",
    digest=b"d",
    envelopes=(Envelope(deployment="demo", pool=POOL, floor=1, target=2, ceiling=3),),
)
DECISION = Decision(cost_per_hour=1.0, solver="exact", optimal=True, solve_seconds=0.1)


def _judge(
    session: Session, write: WriteContext, reason: str, before: PlaneState | None = None
) -> None:
    condition = PlaneCondition(state=PlaneState.SUSPECT, since=write.now, reason=reason)
    set_condition(session, write, "onprem-fra", condition, before)


def _decide(session: Session, write: WriteContext, reason: str) -> None:
    replace_placements(session, write, (replace(PLACED, reason=reason),), "decided")
    record_decision(session, write, DECISION)


def _remove(session: Session, write: WriteContext) -> None:
    mark_deleting(session, write, "demo", "", "")
    remove_deployment(session, write, "demo")


WRITES: dict[str, Callable[[Session, WriteContext], object]] = {
    "deployments": lambda s, w: apply_deployment(s, w, a_deployment("other"), "", ""),
    "planes": lambda s, w: _judge(s, w, "no evidence"),
    "pools": lambda s, w: set_terms(s, w, POOL, PoolTerms(cordoned=True), "", ""),
    "placements": lambda s, w: _decide(s, w, "has room now"),
    "desired": lambda s, w: put_desired(s, w, "onprem-fra", TOLD, 1),
    "decision": lambda s, w: record_decision(s, w, replace(DECISION, solver="greedy")),
    "prices": lambda s, w: set_price(s, w, PriceFrom(POOL, w.now, 0.25), ""),
    "regions": lambda s, w: create_entry(s, w, REGIONS, Region(name="onprem/fra"), ""),
    "removals": lambda s, w: _remove(s, w),
    "profiles": lambda s, w: create_entry(s, w, PROFILES, a_profile({1: 100.0}), ""),
    "cordons": lambda s, w: set_cordon(s, w, ACME, CordonState.CORDONED, ""),
}


@pytest.fixture
def filled(database: Database, write: WriteContext) -> Database:
    """A store that has something of every part that reads one by one."""
    with database.write() as session:
        record_report(session, write, a_report())
        apply_deployment(session, write, a_deployment(), "", "")
        put_desired(session, write, "onprem-fra", replace(TOLD, payload=b"1"), 0)
        _decide(session, write, PLACED.reason)
    return database


def test_all_is_loaded_again_but_desired_states_that_are_those_held(
    filled: Database, write: WriteContext
) -> None:
    with filled.read() as session:
        held = load(session)
    with filled.write() as session:
        put_desired(session, write, "gcp-x", replace(TOLD, envelopes=()), 0)
        set_terms(session, write, POOL, PoolTerms(cordoned=True), "", "")
    with filled.read() as session:
        again = load(session, held)
        assert again == load(session)
    assert again.desired["onprem-fra"] is held.desired["onprem-fra"]


def test_nothing_moved_is_the_snapshot_held(filled: Database) -> None:
    with filled.read() as session:
        held = load(session)
        assert renew(session, held) is held
        assert renew(session, None) == held


@pytest.mark.parametrize("part", WRITES)
def test_what_was_written_is_read_again(filled: Database, write: WriteContext, part: str) -> None:
    later = replace(write, now=write.now + timedelta(seconds=1))
    with filled.read() as session:
        held = load(session)
    with filled.write() as session:
        WRITES[part](session, later)
    with filled.read() as session:
        renewed = renew(session, held)
        assert renewed == load(session)
    assert getattr(renewed, part) != getattr(held, part)


def test_what_is_not_a_change_in_the_log_is_read_again(
    filled: Database, write: WriteContext
) -> None:
    with filled.write() as session:
        _judge(session, write, "no evidence")
    later = replace(write, now=write.now + timedelta(seconds=1))
    with filled.read() as session:
        held = load(session)
    with filled.write() as session:
        _judge(session, later, "one witness more", PlaneState.SUSPECT)
        _decide(session, later, "another reason")
    with filled.read() as session:
        renewed = renew(session, held)
        assert renewed == load(session)
    assert renewed.sequence == held.sequence
    assert renewed.planes != held.planes
    assert renewed.placements != held.placements


def test_a_deployment_that_did_not_move_stays_the_same_value(
    filled: Database, write: WriteContext
) -> None:
    with filled.read() as session:
        held = load(session)
    with filled.write() as session:
        apply_deployment(session, write, a_deployment("other"), "", "")
    with filled.read() as session:
        renewed = renew(session, held)
    assert renewed.deployments[0] is held.deployments[0]
    assert renewed.placements is held.placements


def test_everything_is_read_again_when_the_log_does_not_say(
    filled: Database, write: WriteContext
) -> None:
    with filled.read() as session:
        held = load(session)
    with filled.write() as session:
        apply_deployment(session, write, a_deployment("other"), "", "")
        append_change(session, write, "no-such.kind", "things/1", "made")
        forget_changes(session, write, held.sequence + 1)
    with filled.read() as session:
        assert renew(session, held) == load(session)
        ahead = replace(held, sequence=held.sequence + 1_000)
        assert renew(session, ahead) == load(session)


def test_of_many_planes_those_are_read_again_that_were_written(
    filled: Database, write: WriteContext
) -> None:
    later = replace(write, now=write.now + timedelta(seconds=1))
    with filled.write() as session:
        for name in ("aws-a", "aws-b"):
            record_report(session, write, a_report(name))
    with filled.read() as session:
        held = load(session)
    with filled.write() as session:
        record_report(session, later, a_report("gcp-new"))
        shapes = a_report("aws-b").pools
        more = tuple(replace(shape, nodes=shape.nodes + 1) for shape in shapes)
        record_report(session, later, a_report("aws-b", pools=more))
    with filled.read() as session:
        renewed = renew(session, held)
        assert renewed == load(session)
    same = {one.identity.name for one in renewed.planes if any(one is old for old in held.planes)}
    assert same == {"onprem-fra", "aws-a"}
    untouched = {p.pool.plane.name for p in renewed.pools if any(p is old for old in held.pools)}
    assert untouched == same


def test_a_plane_written_twice_within_one_moment_is_read_again(
    filled: Database, write: WriteContext
) -> None:
    with filled.write() as session:
        _judge(session, write, "no evidence")
    with filled.read() as session:
        held = load(session)
    with filled.write() as session:
        lost = PlaneCondition(state=PlaneState.LOST, since=write.now, reason="gone")
        set_condition(session, write, "onprem-fra", lost, PlaneState.SUSPECT)
    with filled.read() as session:
        assert renew(session, held) == load(session)
