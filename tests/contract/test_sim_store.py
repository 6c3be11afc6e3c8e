"""The capacity database: the simulated one keeps the rules that the real one has.

Every promise is of both, for what the simulation's control planes and operators ask of a store. As
the simulation does, a test names the product's function; which store does it, the fixture says.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from control_plane.link.convert import encode_desired
from control_plane.reconcile.actions import PushDesired, RecordReport
from control_plane.reconcile.storing import store_action
from control_plane.store.deployments import remove_deployment
from control_plane.store.desired import put_desired, raise_generation
from control_plane.store.engine import open_database, parse_url
from control_plane.store.fencing import WriteContext
from control_plane.store.leases import flush_leases, list_leases
from control_plane.store.planes import record_report, set_condition
from control_plane.store.plans import Basis, Proposal, list_applied, put_decided, put_in_force
from control_plane.store.recovery import end_recovery, restored_because
from control_plane.store.requests import Asked
from control_plane.store.rollouts import put_rollouts
from control_plane.store.scalings import ScalingStep, put_scalings
from control_plane.store.snapshot import StoreSnapshot, renew
from control_plane.store.values import (
    AdoptedDeployment,
    AdoptedPlane,
    Adoption,
    Decision,
    StoredLease,
    Told,
)
from control_plane.store.verdicts import record_freeze
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.node import Node
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Envelope, Placement, counts_of
from skerry.fleet.rollout import Halt, Rollout, Stage
from skerry.plumbing.errors import Infeasible, InvalidInput, NotFound, StaleGeneration
from tests.builders import T0, a_deployment, a_report, a_shape
from tests.simulation.door import StoreDoor
from tests.simulation.fleets import START, revised
from tests.simulation.run import run
from tests.simulation.stores import Real, Simulated, Store, Write
from tests.store.conftest import _one_of, migrated_file, migrated_url, postgres_url

__all__ = ["migrated_file", "migrated_url", "postgres_url"]  # fixtures
DECISION = Decision(cost_per_hour=1.5, solver="greedy", optimal=False, solve_seconds=0.5)


@pytest.fixture(
    params=["simulated", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store without a leader: the simulated one, or the product's on each database."""
    if request.param == "simulated":
        yield Simulated()
        return
    with _empty(request) as url:
        database = open_database(url)
        yield Real(database)
        database.close()


@contextmanager
def _empty(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        path = request.getfixturevalue("tmp_path") / "skerry.db"
        shutil.copyfile(request.getfixturevalue("migrated_file"), path)
        yield f"sqlite:///{path}"
        return
    template = parse_url(request.getfixturevalue("migrated_url")).database
    yield from _one_of(request.getfixturevalue("postgres_url"), f"template {template}")


@pytest.fixture
def write(store: Store) -> WriteContext:
    """The first leader's right to write."""
    epoch = store.hold("cp-1")
    assert epoch == 1
    return WriteContext(epoch=epoch, actor="cp-1", now=T0)


def seen(store: Store) -> StoreSnapshot:
    found: StoreSnapshot = store.run(renew, None)
    return found


def judged(state: PlaneState, reason: str = "") -> PlaneCondition:
    return PlaneCondition(state=state, since=T0, reason=reason)


def an_envelope(count: int) -> Envelope:
    return Envelope(deployment="demo", pool="fra--cpu", floor=count, target=count, ceiling=count)


def told(content: bytes, *envelopes: Envelope) -> Told:
    return Told(payload=content, digest=b"of " + content, envelopes=envelopes)


def a_plan(count: int) -> Proposal:
    placed = (Placement(deployment="demo", pool="fra--cpu", count=count),) if count else ()
    return Proposal(decision=DECISION, placements=placed, summary=f"{count} replicas")


def a_rollout(name: str = "demo", **fields: Any) -> Rollout:
    begun = Rollout(deployment=name, revision=1, stage=Stage.FIRST, since=T0)
    return replace(begun, **fields)


def basis_of(store: Store) -> Basis:
    now = seen(store)
    return Basis(placements=now.placements, cordons=now.cordons)


def decide(store: Store, write: WriteContext, count: int) -> bool:
    """Put a plan of so many replicas in force; say whether that changed anything."""
    basis = basis_of(store)
    changed, waits = store.run(put_decided, write, a_plan(count), basis, "inputs", None)
    assert waits is None
    return bool(changed)


def test_one_leads_at_a_time_and_who_renews_takes_nothing(store: Store) -> None:
    assert store.hold("cp-1") == 1
    assert store.hold("cp-2") is None
    assert store.hold("cp-1", 1) == 1
    store.lapse()
    assert store.hold("cp-2") == 2
    assert store.hold("cp-1", 1) is None
    store.lapse()
    assert store.hold("cp-1", 1) is None
    assert store.hold("cp-1") == 3


LEASE = StoredLease(plane="fra", heard_at=T0, held=NEVER, replicas_ready=1)
ADOPTION = Adoption(placements=a_plan(3).placements, summary="as planes hold it")
SCALED = ScalingStep(scaled=Scaled(deployment="demo", demand=2, floor=1), before=None, record=None)
WRITES: dict[str, tuple[Write, tuple[Any, ...]]] = {
    "report": (record_report, (a_report("aws"),)),
    "condition": (set_condition, ("fra", judged(PlaneState.SUSPECT), PlaneState.CONNECTED)),
    "plan": (put_in_force, (a_plan(2), a_plan(1).placements, "inputs", None)),
    "rollouts": (put_rollouts, ([(a_rollout(stage=Stage.COMPLETE), a_rollout())],)),
    "scalings": (put_scalings, ([SCALED],)),
    "freeze": (record_freeze, (True, "half of them are silent")),
    "desired": (put_desired, ("fra", told(b"two"), 1)),
    "generation": (raise_generation, ("fra", 7)),
    "removal": (remove_deployment, ("demo",)),
    "leases": (flush_leases, ([LEASE],)),
    "recovery": (end_recovery, (ADOPTION,)),
    "action": (store_action, (RecordReport(report=a_report("aws")), encode_desired)),
}


def a_busy_store(store: Store, write: WriteContext) -> None:
    """`demo` is to go, and everything else is there that WRITES write."""
    store.apply(write, a_deployment("demo"))
    store.run(record_report, write, a_report("fra"))
    store.run(set_condition, write, "fra", judged(PlaneState.CONNECTED), None)
    store.run(put_desired, write, "fra", told(b"one", an_envelope(1)), 0)
    store.run(put_rollouts, write, [(a_rollout(), None)])
    assert decide(store, write, 1)
    store.delete(write, "demo")


@pytest.mark.parametrize("what", WRITES)
def test_a_deposed_leaders_write_has_no_effect(
    store: Store, write: WriteContext, what: str
) -> None:
    function, args = WRITES[what]
    a_busy_store(store, write)
    store.lapse()
    assert store.hold("cp-2") == 2
    before, kinds = seen(store), store.kinds()
    with pytest.raises(StaleGeneration):
        store.run(function, write, *args)
    assert (seen(store), store.kinds()) == (before, kinds)
    assert not store.run(list_leases, T0)


@pytest.mark.parametrize("what", WRITES)
def test_the_leaders_own_has(store: Store, write: WriteContext, what: str) -> None:
    function, args = WRITES[what]
    a_busy_store(store, write)
    before = store.kinds()
    store.run(function, write, *args)
    assert (store.kinds() != before) == (what != "leases")
    assert bool(store.run(list_leases, T0)) == (what == "leases")


def test_a_look_is_the_same_value_while_nothing_moved(store: Store, write: WriteContext) -> None:
    a_busy_store(store, write)
    before = seen(store)
    store.run(flush_leases, write, [LEASE])
    assert store.run(renew, before) is before
    store.run(record_report, write, a_report("aws"))
    after = store.run(renew, before)
    assert [one.identity.name for one in after.planes] == ["aws", "fra"]
    assert after.rollouts == before.rollouts


def test_a_report_is_kept_as_far_as_it_says_anything_new(store: Store, write: WriteContext) -> None:
    node = Node(name="n1", pool="cpu", accelerators=4)
    report = a_report("fra", pools=(a_shape("cpu"), a_shape("spare")), nodes=(node,))
    assert store.run(record_report, write, report)
    assert not store.run(record_report, write, report)
    assert store.kinds() == ["plane.reported"]
    (first,) = seen(store).planes
    larger = a_shape("cpu", nodes=2)
    assert store.run(record_report, write, a_report("fra", pools=(larger,)))
    (plane,) = seen(store).planes
    # What a report leaves out is as it was.
    assert plane == replace(first, pools=(larger, a_shape("spare")))
    assert plane.nodes_digest
    assert [one.pool.name for one in seen(store).pools] == ["fra--cpu", "fra--spare"]


def test_a_judgement_is_kept_where_nobody_judged_meanwhile(
    store: Store, write: WriteContext
) -> None:
    connected, again = judged(PlaneState.CONNECTED), judged(PlaneState.CONNECTED, "heard")
    with pytest.raises(NotFound):
        store.run(set_condition, write, "fra", connected, None)
    store.run(record_report, write, a_report("fra"))
    assert store.run(set_condition, write, "fra", connected, None)
    assert not store.run(set_condition, write, "fra", connected, PlaneState.SUSPECT)
    with pytest.raises(StaleGeneration):
        store.run(set_condition, write, "fra", judged(PlaneState.LOST), PlaneState.SUSPECT)
    assert store.run(set_condition, write, "fra", again, PlaneState.CONNECTED)
    (plane,) = seen(store).planes
    assert plane.condition == again
    assert store.kinds() == ["plane.reported", "plane.connected"]  # only a new state is a change


def test_what_a_plane_is_told_is_the_generation_after_the_expected_one(
    store: Store, write: WriteContext
) -> None:
    one, two = told(b"one", an_envelope(1)), told(b"two", an_envelope(2))
    assert store.run(put_desired, write, "fra", one, 0) == Version(epoch=1, generation=1)
    with pytest.raises(StaleGeneration):
        store.run(put_desired, write, "fra", two, 0)
    assert store.run(put_desired, write, "fra", two, 1) == Version(epoch=1, generation=2)
    stored = seen(store).desired["fra"]
    assert (stored.payload, stored.digest, stored.envelopes) == (
        two.payload,
        two.digest,
        two.envelopes,
    )
    assert store.kinds() == ["desired.stored"] * 2


def test_an_action_is_pushed_as_it_is_stored(store: Store, write: WriteContext) -> None:
    state = DesiredState(plane="fra", version=NEVER)
    action = PushDesired(desired=state, expected_generation=0)
    version = Version(epoch=1, generation=1)
    pushed = store.run(store_action, write, action, encode_desired)
    assert pushed == ("fra", version, seen(store).desired["fra"].payload)
    assert (
        store.run(store_action, write, RecordReport(report=a_report("fra")), encode_desired) is None
    )


def test_a_generation_is_raised_and_never_lowered(store: Store, write: WriteContext) -> None:
    store.run(put_desired, write, "fra", told(b"one", an_envelope(1)), 0)
    raised = Version(epoch=1, generation=7)
    assert store.run(raise_generation, write, "fra", 7) == raised
    assert store.run(raise_generation, write, "fra", 3) == raised
    stored = seen(store).desired["fra"]
    assert (stored.version, stored.payload, stored.envelopes) == (raised, b"one", (an_envelope(1),))
    assert store.run(raise_generation, write, "aws", 2) == Version(epoch=1, generation=2)
    assert seen(store).desired["aws"].payload == b""
    assert store.kinds() == ["desired.stored", *["desired.generation-raised"] * 2]


def test_a_plan_is_in_force_where_it_was_made_from_what_is(
    store: Store, write: WriteContext
) -> None:
    assert decide(store, write, 2)
    assert not decide(store, write, 2)
    basis = basis_of(store)
    assert decide(store, write, 1)
    with pytest.raises(StaleGeneration):
        store.run(put_decided, write, a_plan(3), basis, "inputs", None)
    assert counts_of(seen(store).placements) == {("demo", "fra--cpu"): 1}
    assert seen(store).decision == DECISION
    basis = basis_of(store)
    store.drain(write, "fra")
    with pytest.raises(StaleGeneration):
        store.run(put_decided, write, a_plan(3), basis, "inputs", None)
    assert store.kinds() == ["placements.decided"] * 2
    applied = store.run(list_applied, T0 - timedelta(seconds=1))
    assert [plan.summary for plan in applied] == ["2 replicas", "1 replicas"]
    assert store.run(list_applied, T0) == ()


def test_rollouts_are_stored_all_or_none(store: Store, write: WriteContext) -> None:
    demo, side = a_rollout("demo"), a_rollout("side")
    store.run(put_rollouts, write, [(side, None)])
    with pytest.raises(StaleGeneration):
        store.run(put_rollouts, write, [(demo, None), (side, None)])
    assert seen(store).rollouts == (side,)
    back = replace(side, stage=Stage.ROLLED_BACK)
    store.run(put_rollouts, write, [(demo, None), (back, side)])
    assert seen(store).rollouts == (demo, back)
    assert store.kinds() == ["rollout.first", "rollout.first", "rollout.rolled-back"]


def test_a_resumed_rollout_goes_on(store: Store, write: WriteContext) -> None:
    store.apply(write, a_deployment("demo"))
    halted = a_rollout(stage=Stage.SOAKING, halt=Halt.OPERATOR, reason="paused")
    store.run(put_rollouts, write, [(halted, None)])
    store.resume(replace(write, now=T0 + timedelta(seconds=9)), "demo")
    (rollout,) = seen(store).rollouts
    assert (rollout.stage, rollout.halt, rollout.reason) == (Stage.CANARY, Halt.NONE, "")
    assert rollout.since == T0 + timedelta(seconds=9)
    assert store.kinds()[-1] == "rollout.canary"


def test_a_removed_deployment_is_known_to_be_gone_and_its_numbers_go_on(
    store: Store, write: WriteContext
) -> None:
    demo = a_deployment("demo")
    assert store.apply(write, demo) == 1
    assert store.apply(write, revised(demo, 1, START)) == 2
    assert seen(store).rolled.wanted == {("demo", 1), ("demo", 2)}  # no rollout tells of it yet
    store.run(put_rollouts, write, [(a_rollout(), None)])
    decide(store, write, 1)
    with pytest.raises(Infeasible):
        store.run(remove_deployment, write, "demo")
    store.delete(write, "demo")
    assert [one.deleting for one in seen(store).deployments] == [True]
    assert store.run(remove_deployment, write, "demo")
    assert not store.run(remove_deployment, write, "demo")
    after = seen(store)
    assert (after.deployments, after.rollouts, after.placements) == ((), (), ())
    (removal,) = after.removals
    assert (removal.deployment.name, removal.last_revision) == ("demo", 2)
    assert store.kinds()[-1] == "deployment.removed"
    assert store.apply(write, demo) == 3


def test_a_call_that_is_repeated_is_one_effect(store: Store, write: WriteContext) -> None:
    demo = a_deployment("demo")
    assert store.apply(write, demo, "once") == store.apply(write, demo, "once")
    with pytest.raises(InvalidInput):
        store.apply(write, replace(demo, name="other"), "once")
    for plane in ("aws", "fra"):
        store.run(record_report, write, a_report(plane))
    store.run(set_condition, write, "fra", judged(PlaneState.SUSPECT), None)
    store.run(set_condition, write, "aws", judged(PlaneState.CONNECTED), None)
    assert store.fail_over(write, "fra", "twice")
    assert not store.fail_over(write, "fra", "twice")
    with pytest.raises(Infeasible):
        store.fail_over(write, "aws", "heard")
    with pytest.raises(NotFound):
        store.fail_over(write, "gcp", "never seen")
    condition = seen(store).planes[1].condition
    assert condition is not None
    assert (condition.state, condition.declared) == (PlaneState.LOST, True)
    assert store.kinds().count("plane.lost") == 1


def test_when_planes_were_heard_is_kept(store: Store, write: WriteContext) -> None:
    store.run(flush_leases, write, [LEASE])
    newer = replace(LEASE, heard_at=T0 + timedelta(hours=1), replicas_ready=2)
    store.run(flush_leases, write, [newer])
    found = store.run(list_leases, T0)["fra"]
    # By the database's clock, which goes on between the two.
    assert abs(found.heard_at - newer.heard_at) < timedelta(minutes=1)
    assert replace(found, heard_at=newer.heard_at) == newer
    assert store.kinds() == []


def test_a_recovery_takes_in_what_planes_hold_and_the_next_epoch_is_above_it(
    store: Store, write: WriteContext
) -> None:
    store.run(put_desired, write, "fra", told(b"one"), 0)
    store.mark_restored("from a backup")
    assert store.run(restored_because) == "from a backup"
    version = Version(epoch=5, generation=9)
    demo = a_deployment("demo")
    adoption = replace(
        ADOPTION,
        deployments=(AdoptedDeployment(deployment=demo, revisions=(demo.revision,)),),
        planes=(
            AdoptedPlane(
                plane="fra",
                version=version,
                payload=b"held",
                digest=b"of it",
                envelopes=(an_envelope(3),),
            ),
            AdoptedPlane(plane="aws", version=version),
        ),
        rollouts=(a_rollout(),),
        epoch_floor=5,
    )
    asked = Asked(request_id="approve", kind="approve", body="")
    assert store.run(end_recovery, write, adoption, asked)
    after = seen(store)
    assert [one.deployment for one in after.deployments] == [demo]
    assert counts_of(after.placements) == {("demo", "fra--cpu"): 3}
    assert after.rollouts == (a_rollout(),)
    assert (after.desired["fra"].version, after.desired["fra"].payload) == (version, b"held")
    assert after.desired["fra"].envelopes == (an_envelope(3),)
    # What that one holds is not known, so that it must not look like ours.
    assert after.desired["aws"].version == Version(epoch=1, generation=10)
    assert store.run(restored_because) == ""
    assert "recovery.ended" in store.kinds()
    with pytest.raises(StaleGeneration):
        store.run(record_freeze, write, True, "too late")
    assert store.hold("cp-1", 1) is None
    assert store.hold("cp-1") == 6


def test_a_recovery_is_approved_once_also_where_there_is_none(
    store: Store, write: WriteContext
) -> None:
    asked = Asked(request_id="approve", kind="approve", body="")
    assert store.run(end_recovery, write, None, asked)
    assert not store.run(end_recovery, write, None, asked)
    assert store.kinds() == ["recovery.approved"]


def test_the_simulation_asks_a_store_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that its control planes call has a promise here, which both stores keep."""
    asked: set[str] = set()
    for name in ("run", "run_read"):
        monkeypatch.setattr(StoreDoor, name, _noted(getattr(StoreDoor, name), asked))
    for seed in (3, 7):
        run(seed, ("older-backup", "majority", "control-pause"))
    assert len(asked) > 5
    assert asked - {"leading_epoch"} <= globals().keys()


def _noted(whole: Write, asked: set[str]) -> Write:
    async def noted(door: StoreDoor, function: Write, /, *args: Any) -> Any:
        asked.add(function.__name__)
        return await whole(door, function, *args)

    return noted
