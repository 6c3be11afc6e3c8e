"""Plans by number: pages of them, and the answer to an approval, on both databases."""

import concurrent.futures
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from control_plane.store import plans
from control_plane.store.cordons import list_cordons, set_cordon
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.placements import Decision, list_placements
from control_plane.store.plans import (
    Basis,
    Proposal,
    get_plan,
    list_plans,
    put_decided,
    put_in_force,
    settle_plan,
)
from control_plane.store.values import PlanState, StoredPlan
from skerry.fleet.cordon import CordonState, Part, Scope
from skerry.fleet.placement import Placement
from skerry.plumbing.errors import InvalidInput, StaleGeneration

DECISION = Decision(
    cost_per_hour=1.5,
    solver="exact",
    optimal=True,
    solve_seconds=0.5,
    unplaced=(("demo", 2, "no room"),),
    rejections=(("demo", "gcp-x--cpu", "another cloud"),),
)
NOTHING = Proposal(decision=DECISION, placements=(), summary="nothing moves")


def moving(replicas: int) -> Proposal:
    placed = (Placement(deployment="demo", pool="p", count=replicas, reason="near"),)
    return Proposal(decision=DECISION, placements=placed, summary=f"{replicas} replicas")


Hold = Callable[[int], None]


@pytest.fixture
def hold(database: Database, write: WriteContext) -> Hold:
    """Keep a plan of so many replicas for approval, in the place of the one that waits."""

    def keep(replicas: int) -> None:
        with database.write() as session:
            seen = list_placements(session)
            in_force = replace(NOTHING, placements=seen)
            put_in_force(session, write, in_force, seen, f"inputs-{replicas}", moving(replicas))

    return keep


def settled(
    database: Database, write: WriteContext, number: int, approved: bool, request_id: str
) -> StoredPlan:
    with database.write() as session:
        return settle_plan(session, write, number, approved, request_id)


@pytest.mark.parametrize("approved", [True, False])
def test_a_repeated_approval_is_answered_as_the_first_when_the_plan_is_forgotten(
    approved: bool,
    database: Database,
    write: WriteContext,
    hold: Hold,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold(1)
    first = settled(database, write, 1, approved, "once")
    with database.read() as session:
        assert get_plan(session, 1) == first
    monkeypatch.setattr(plans, "PLANS_KEPT", 1)
    hold(2)
    assert settled(database, write, 1, approved, "once") == first
    with pytest.raises(InvalidInput, match="different call"):
        settled(database, write, 1, not approved, "once")


def test_an_approval_that_the_release_before_answered_is_answered_with_the_plan(
    database: Database, write: WriteContext, hold: Hold
) -> None:
    hold(1)
    first = settled(database, write, 1, True, "once")
    with database.write() as session:
        # It remembered that it had answered, and not what.
        session.execute(text("update requests set answer = '{\"applied\": null}'"))
    assert settled(database, write, 1, True, "once") == first


def test_pages_of_plans_are_the_newest_first_and_leave_none_out(
    database: Database, write: WriteContext, hold: Hold
) -> None:
    for replicas in range(1, 6):
        hold(replicas)
    settled(database, write, 5, True, "")
    with database.read() as session:
        every = list_plans(session)
        pages = [list_plans(session, below, 2) for below in (None, 4, 2)]
        whole = get_plan(session, 3)
    assert [plan.number for plan in every] == [5, 4, 3, 2, 1]
    assert [plan.state for plan in every] == [PlanState.APPROVED, *[PlanState.SUPERSEDED] * 4]
    assert pages == [every[:2], every[2:4], every[4:]]
    assert every[2] == whole


def test_a_page_reads_no_other_plan_and_not_what_plans_place(
    database: Database, hold: Hold
) -> None:
    hold(1)
    hold(2)
    with database.write() as session:
        session.execute(text("update plans set decision = '[]' where number = 1"))
        session.execute(text("update plans set placements = '[1]' where number = 2"))
    with database.read() as session:
        (newest,) = list_plans(session, None, 1)
    assert (newest.number, newest.placements) == (2, ())


def test_a_plan_is_held_however_the_one_before_was_written(
    database: Database, write: WriteContext, hold: Hold
) -> None:
    hold(1)
    with database.write() as session:
        session.execute(text("update plans set decision = '[]'"))
    hold(2)
    with database.read() as session:
        assert get_plan(session, 2).state is PlanState.HELD


def test_a_plan_for_a_drain_that_was_lifted_meanwhile_is_refused(
    database: Database, write: WriteContext
) -> None:
    """It would move what serves, and count as no move."""
    part = Part(scope=Scope.PLANE, name="fra")
    with database.write() as session:
        set_cordon(session, write, part, CordonState.DRAINING, "")
        basis = Basis(placements=(), cordons=list_cordons(session))
        set_cordon(session, write, part, CordonState.OPEN, "")
    with database.write() as session, pytest.raises(StaleGeneration, match="look again"):
        put_decided(session, write, moving(2), basis, "inputs", None)
    with database.write() as session:
        basis = Basis(placements=(), cordons=list_cordons(session))
        assert put_decided(session, write, moving(2), basis, "inputs", None)[0]


# A statement takes milliseconds: who has not answered by then waits for a lock.
WAITS_SECONDS = 0.5


def test_a_cordon_that_is_being_set_is_waited_for_by_a_plan_that_does_not_know_it(
    database: Database, write: WriteContext
) -> None:
    part = Part(scope=Scope.PLANE, name="fra")
    basis = Basis(placements=(), cordons=())

    def decide() -> None:
        with database.write() as session:
            put_decided(session, write, moving(2), basis, "inputs", None)

    with ThreadPoolExecutor() as threads:
        with database.write() as session:
            set_cordon(session, write, part, CordonState.CORDONED, "")
            deciding = threads.submit(decide)
            concurrent.futures.wait([deciding], timeout=WAITS_SECONDS)
        with pytest.raises(StaleGeneration, match="look again"):
            deciding.result()
    with database.read() as session:
        assert list_placements(session) == ()


def test_no_cordon_is_set_between_a_plan_s_look_at_them_and_its_end(
    database: Database, write: WriteContext
) -> None:
    part = Part(scope=Scope.POOL, name="fra--cpu")

    def cordon() -> None:
        with database.write() as session:
            set_cordon(session, write, part, CordonState.CORDONED, "")

    with ThreadPoolExecutor() as threads:
        with database.write() as session:
            basis = Basis(placements=(), cordons=())
            assert put_decided(session, write, moving(2), basis, "inputs", None)[0]
            cordoning = threads.submit(cordon)
            done, _ = concurrent.futures.wait([cordoning], timeout=WAITS_SECONDS)
            assert not done
        cordoning.result()
