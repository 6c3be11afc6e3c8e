"""What the store's functions promise, on both databases."""

from dataclasses import replace
from datetime import timedelta
from math import nan

import pytest

from control_plane.store.changes import list_changes
from control_plane.store.deployments import (
    apply_deployment,
    get_deployment,
    list_deployments,
    mark_deleting,
    remove_deployment,
)
from control_plane.store.desired import get_desired, list_desired, put_desired, raise_generation
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext, leading_epoch, take_leadership
from control_plane.store.placements import (
    Decision,
    last_decision,
    list_placements,
    record_decision,
    replace_placements,
)
from control_plane.store.planes import list_planes, record_report, set_condition
from control_plane.store.pools import get_terms, list_pools, set_terms
from control_plane.store.snapshot import load
from control_plane.store.values import ApplyOutcome, Told
from skerry.fleet.deployment import Scaling, ServiceObjective
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneCondition, PlaneReport, PlaneState
from skerry.fleet.placement import Placement
from skerry.fleet.pool import CapacityClass, GatewayAddresses, PoolTerms
from skerry.plumbing.errors import (
    AlreadyExists,
    Conflict,
    Infeasible,
    InvalidInput,
    NotFound,
    StaleGeneration,
)
from tests.builders import a_deployment, a_shape, an_identity

GATEWAY = GatewayAddresses(http="127.0.0.1:1", grpc="127.0.0.1:1", peer="127.0.0.1:2")


def a_report(plane: str = "onprem-fra", **fields: object) -> PlaneReport:
    report = PlaneReport(identity=an_identity(plane), pools=(a_shape(),), gateway=GATEWAY)
    return replace(report, **fields)  # type: ignore[arg-type]


def kinds(database: Database) -> list[str]:
    with database.read() as session:
        return [change.kind for change in list_changes(session, 0, 1_000)]


def test_applying_creates_updates_and_leaves_alone(database: Database, write: WriteContext) -> None:
    demo = a_deployment()
    with database.write() as session:
        created = apply_deployment(session, write, demo, "", "")
        again = apply_deployment(session, write, demo, "", "")
        scaled = apply_deployment(
            session, write, replace(demo, scaling=Scaling(min_replicas=0, max_replicas=9)), "", ""
        )
        renewed = replace(demo.revision, objective=ServiceObjective(ttft_seconds=9.0), number=77)
        revised = apply_deployment(session, write, replace(demo, revision=renewed), "", "")
    assert created.outcome is ApplyOutcome.CREATED
    assert again.outcome is ApplyOutcome.UNCHANGED
    assert again.stored == created.stored
    assert scaled.outcome is revised.outcome is ApplyOutcome.UPDATED
    numbers = [a.stored.deployment.revision.number for a in (created, scaled, revised)]
    assert numbers == [1, 1, 2]
    assert len({a.stored.etag for a in (created, scaled, revised)}) == 3
    assert kinds(database) == ["leadership.taken", *["deployment.applied"] * 3]


def test_a_deployment_made_again_never_reuses_a_revision_number(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
        mark_deleting(session, write, "demo", "", "")
        assert remove_deployment(session, write, "demo")
        assert not remove_deployment(session, write, "demo")
        again = apply_deployment(session, write, a_deployment(), "", "")
    assert again.outcome is ApplyOutcome.CREATED
    assert again.stored.deployment.revision.number == 2


def test_a_stale_etag_changes_nothing(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        first = apply_deployment(session, write, a_deployment(), "", "").stored
        other = replace(a_deployment(), labels=(("a", "b"),))
        second = apply_deployment(session, write, other, first.etag, "").stored
    with database.write() as session:
        with pytest.raises(Conflict, match="read it again"):
            apply_deployment(session, write, a_deployment(), first.etag, "")
        with pytest.raises(Conflict):
            mark_deleting(session, write, "demo", first.etag, "")
        with pytest.raises(Conflict):
            apply_deployment(session, write, a_deployment("new"), "some-etag", "")
    with database.read() as session:
        assert get_deployment(session, "demo") == second


def test_a_repeated_request_is_one_effect_with_the_same_answer(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        first = apply_deployment(session, write, a_deployment(), "", "r-1")
        marked = mark_deleting(session, write, "demo", "", "r-2")
        remove_deployment(session, write, "demo")
        assert apply_deployment(session, write, a_deployment(), "", "r-1") == first
        assert mark_deleting(session, write, "demo", "", "r-2") == marked
        assert list_deployments(session, "", 10) == ()
        with pytest.raises(InvalidInput, match="different call"):
            apply_deployment(session, write, a_deployment("other"), "", "r-1")
        with pytest.raises(InvalidInput, match="different call"):
            mark_deleting(session, write, "demo", "", "r-1")
        somebody = replace(write, actor="user:else")
        apply_deployment(session, somebody, a_deployment("other"), "", "r-1")


def test_answers_are_forgotten_after_a_day(database: Database, write: WriteContext) -> None:
    later = replace(write, now=write.now + timedelta(days=2))
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "r-1")
        apply_deployment(session, later, a_deployment("other"), "", "r-2")
        again = apply_deployment(session, later, a_deployment(), "", "r-1")
    assert again.outcome is ApplyOutcome.UNCHANGED


def test_a_served_name_belongs_to_one_deployment(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
    rival = replace(a_deployment("rival"), revision=a_deployment("demo").revision)
    with database.write() as session, pytest.raises(AlreadyExists, match="'demo' serves as"):
        apply_deployment(session, write, rival, "", "")


def test_a_deployment_being_deleted_is_not_changed(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
        with pytest.raises(Infeasible, match="is wanted"):
            remove_deployment(session, write, "demo")
        marked = mark_deleting(session, write, "demo", "", "")
        assert marked.deleting
        assert mark_deleting(session, write, "demo", "", "") == marked
        with pytest.raises(Infeasible, match="once it is gone"):
            apply_deployment(session, write, a_deployment(replicas=9), "", "")
        with pytest.raises(NotFound):
            mark_deleting(session, write, "nobody", "", "")


def test_deployments_are_listed_in_pages_by_name(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        for name in ("c", "a-b", "ab", "a"):
            apply_deployment(session, write, a_deployment(name), "", "")
        found: list[str] = []
        while page := list_deployments(session, found[-1] if found else "", 2):
            found += [stored.deployment.name for stored in page]
    assert sorted(found) == ["a", "a-b", "ab", "c"]


def test_a_number_that_is_not_finite_never_reaches_a_row(
    database: Database, write: WriteContext
) -> None:
    demo = a_deployment()
    odd = replace(demo, scaling=replace(demo.scaling, window_seconds=nan))
    with pytest.raises(InvalidInput, match="not finite"), database.write() as session:
        apply_deployment(session, write, odd, "", "")
    with database.read() as session:
        assert list_deployments(session) == ()


def test_a_report_is_a_change_only_when_something_is_new(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        assert record_report(session, write, a_report())
        assert not record_report(session, write, a_report())
        bigger = a_report(pools=(a_shape(nodes=2), a_shape("gpu", accelerator="H100-80G")))
        assert record_report(session, write, bigger)
        (plane,) = list_planes(session)
    assert [(shape.name, shape.nodes) for shape in plane.pools] == [("cpu", 2), ("gpu", 1)]
    assert plane.identity == an_identity("onprem-fra")
    assert plane.gateway == GATEWAY
    assert plane.condition is None
    assert kinds(database).count("plane.reported") == 2


def test_a_pool_missing_from_a_report_stays(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        record_report(session, write, a_report())
        assert not record_report(session, write, a_report(pools=()))
        assert [stored.pool.name for stored in list_pools(session)] == ["onprem-fra--cpu"]


def test_only_a_new_state_of_a_plane_is_a_change(database: Database, write: WriteContext) -> None:
    suspect = PlaneCondition(state=PlaneState.SUSPECT, since=write.now, reason="stream lost")
    with database.write() as session:
        record_report(session, write, a_report())
        assert set_condition(session, write, "onprem-fra", suspect, None)
        assert not set_condition(session, write, "onprem-fra", suspect, PlaneState.SUSPECT)
        other = replace(suspect, reason="no witness")
        assert set_condition(session, write, "onprem-fra", other, PlaneState.SUSPECT)
        assert list_planes(session)[0].condition == other
        with pytest.raises(StaleGeneration, match="judged otherwise"):
            set_condition(session, write, "onprem-fra", suspect, PlaneState.CONNECTED)
        with pytest.raises(NotFound, match="has not reported"):
            set_condition(session, write, "nowhere", suspect, None)
    assert kinds(database).count("plane.suspect") == 1


def test_terms_wait_for_their_pool(database: Database, write: WriteContext) -> None:
    terms = PoolTerms(capacity_class=CapacityClass.SPOT, price_per_accelerator_hour=0.5)
    with database.write() as session:
        assert set_terms(session, write, "onprem-fra--cpu", terms, "", "r-1") is None
        record_report(session, write, a_report())
        (stored,) = list_pools(session)
        assert stored.pool.terms == terms
        held = get_terms(session, "onprem-fra--cpu")
        assert held is not None
        assert held.etag == stored.etag
        cordoned = replace(terms, cordoned=True)
        renewed = set_terms(session, write, "onprem-fra--cpu", cordoned, stored.etag, "r-2")
        assert renewed is not None
        assert renewed.pool.terms == cordoned
        assert renewed == set_terms(session, write, "onprem-fra--cpu", terms, "", "r-1")
        with pytest.raises(Conflict):
            set_terms(session, write, "onprem-fra--cpu", terms, stored.etag, "")


def test_placements_are_replaced_whole(database: Database, write: WriteContext) -> None:
    one = Placement(deployment="demo", pool="a--cpu", count=1, reason="cheap")
    two = Placement(deployment="demo", pool="b--cpu", count=2, reason="spread")
    with database.write() as session:
        assert replace_placements(session, write, (two, one), "first")
        assert list_placements(session) == (one, two)
        assert not replace_placements(session, write, (one, two), "same")
        assert not replace_placements(session, write, (replace(one, reason="x"), two), "why")
        assert list_placements(session)[0].reason == "x"
        assert replace_placements(session, write, (two,), "less")
        assert replace_placements(session, write, (), "none")
    assert kinds(database).count("placements.decided") == 3


def test_the_last_decision_is_kept(database: Database, write: WriteContext) -> None:
    decision = Decision(
        cost_per_hour=1.5,
        solver="exact",
        optimal=True,
        solve_seconds=0.1,
        unplaced=(("demo", 2, "no room"),),
        rejections=(("demo", "a--cpu", "wrong region"),),
    )
    with database.write() as session:
        assert last_decision(session) is None
        record_decision(session, write, replace(decision, solver="greedy"))
        record_decision(session, write, decision)
        assert last_decision(session) == decision


def test_a_desired_state_is_compared_and_set(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        assert get_desired(session, "a") is None
        assert put_desired(
            session, write, "a", Told(payload=b"1", digest=b"d", envelopes=()), 0
        ) == Version(epoch=1, generation=1)
        assert put_desired(
            session, write, "a", Told(payload=b"2", digest=b"e", envelopes=()), 1
        ) == Version(epoch=1, generation=2)
        with pytest.raises(StaleGeneration, match="is at generation 2, not 1") as stale:
            put_desired(session, write, "a", Told(payload=b"3", digest=b"f", envelopes=()), 1)
        assert "epoch" not in str(stale.value)  # only a deposed leader must stop
        with pytest.raises(StaleGeneration):
            put_desired(session, write, "b", Told(payload=b"3", digest=b"f", envelopes=()), 1)
        held = get_desired(session, "a")
    assert held is not None
    assert (held.payload, held.digest) == (b"2", b"e")


def test_a_raised_generation_keeps_the_content(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        put_desired(session, write, "a", Told(payload=b"1", digest=b"d", envelopes=()), 0)
        assert raise_generation(session, write, "a", 7) == Version(epoch=1, generation=7)
        assert raise_generation(session, write, "a", 3) == Version(epoch=1, generation=7)
        raise_generation(session, write, "b", 4)
        held = list_desired(session)
        assert (held["a"].payload, held["a"].version.generation) == (b"1", 7)
        assert (held["b"].payload, held["b"].version.generation) == (b"", 4)
        assert (
            put_desired(
                session, write, "b", Told(payload=b"x", digest=b"y", envelopes=()), 4
            ).generation
            == 5
        )


def test_a_snapshot_holds_the_whole_store(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        record_report(session, write, a_report())
        apply_deployment(session, write, a_deployment(), "", "")
        put_desired(session, write, "onprem-fra", Told(payload=b"1", digest=b"d", envelopes=()), 0)
    with database.read() as session:
        snapshot = load(session)
    assert [stored.deployment.name for stored in snapshot.deployments] == ["demo"]
    assert [stored.pool.name for stored in snapshot.pools] == ["onprem-fra--cpu"]
    assert [stored.identity.name for stored in snapshot.planes] == ["onprem-fra"]
    assert snapshot.placements == ()
    assert list(snapshot.desired) == ["onprem-fra"]
    assert snapshot.decision is None
    assert snapshot.sequence == 4


def test_changes_are_read_from_either_end(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        for name in ("a", "b", "c"):
            apply_deployment(session, write, a_deployment(name), "", "")
        oldest = list_changes(session, 1, 2)
        newest = list_changes(session, 0, 2, newest_first=True)
        before = list_changes(session, 0, 2, newest_first=True, before_sequence=3)
    assert [change.sequence for change in oldest] == [2, 3]
    assert [change.sequence for change in newest] == [4, 3]
    assert [change.sequence for change in before] == [2, 1]
    assert oldest[0].subject == "projects/default/deployments/a"
    assert (oldest[0].actor, oldest[0].epoch, oldest[0].time) == ("user:root", 1, write.now)


def test_every_leader_has_a_higher_epoch(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        assert take_leadership(session, "cp-2", write.now) == write.epoch + 1
        assert leading_epoch(session) == write.epoch + 1
