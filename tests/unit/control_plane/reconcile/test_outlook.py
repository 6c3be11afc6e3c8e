"""What a plan means for each deployment, and when the last of what it starts is ready."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from control_plane.reconcile.outlook import DeploymentOutlook, outlook
from control_plane.reconcile.readiness import Prospect
from scheduler.plan import Move, PlacementPlan, Unplaced
from skerry.fleet.cold_start import StartKind, StartSource
from skerry.fleet.deployment import Deployment
from skerry.fleet.engine import EngineName
from skerry.fleet.figures import FigureSource
from skerry.fleet.observation import Observation, ReplicaState
from skerry.fleet.placement import Placement
from skerry.fleet.profile import configuration_digest
from tests.builders import a_deployment, a_pool, a_profile, a_replica, a_report
from tests.fakes.clock import START

HERE, THERE = "onprem-fra--cpu", "gcp-x--cpu"
TINY = StartKind(
    base_model="builtin://skerry-tiny",
    engine=EngineName.SIMULATED,
    configuration=configuration_digest(a_deployment().revision.engine),
    accelerator="cpu",
)
MEASURED = {TINY: (41.0,)}
BASIS = "p90 of 1 start of builtin://skerry-tiny with simulated on cpu: 41 s"

Counts = Mapping[tuple[str, str], int]


def placed(counts: Counts) -> tuple[Placement, ...]:
    return tuple(Placement(deployment=d, pool=p, count=n) for (d, p), n in counts.items())


def a_prospect(before: Counts, after: Counts, *reports: Observation, **fields: Any) -> Prospect:
    """A plan over two pools of four accelerators; where nothing is told, nothing is heard."""
    unplaced = fields.pop("unplaced", ())
    plan = PlacementPlan(
        placements=placed(after),
        envelopes=(),
        unplaced=unplaced,
        rejections=(),
        levels=(),
        cost_per_hour=0.0,
        solver="exact",
        optimal=True,
    )
    names = {name for name, _ in (*before, *after)} | {u.deployment for u in unplaced}
    deployments = {name: a_deployment(name) for name in names}
    prospect = Prospect(
        plan=plan,
        before=placed(before),
        running=deployments,
        wanted=deployments,
        pools={HERE: a_pool("onprem-fra", price=0.5), THERE: a_pool("gcp-x", price=2.0)},
        observations={r.report.identity.name: r for r in reports},
        starts=MEASURED,
    )
    return replace(prospect, **fields)


def heard(pool: str, *, ready: int = 0, deployment: str = "demo", **more: int) -> Observation:
    """The report of a pool's plane with so many replicas in each state."""
    states = {ReplicaState.READY: ready, **{ReplicaState(s): n for s, n in more.items()}}
    replicas = tuple(
        a_replica(deployment, pool, name=f"{deployment}-r1-{state}{n}", state=state)
        for state, count in states.items()
        for n in range(count)
    )
    report = a_report(pool.removesuffix("--cpu"), replicas=replicas)
    return Observation(report=report, received_at=START)


def with_both(one: Observation, other: Observation) -> Observation:
    replicas = (*one.report.replicas, *other.report.replicas)
    return replace(one, report=replace(one.report, replicas=replicas))


def only(prospect: Prospect, name: str = "demo") -> DeploymentOutlook:
    return next(one for one in outlook(prospect) if one.deployment == name)


def ready(prospect: Prospect, name: str = "demo") -> tuple[float | None, str]:
    found = only(prospect, name)
    return found.ready_in_seconds, found.ready_basis


def test_counts_costs_moves_and_what_is_unmet_are_told_for_each_deployment() -> None:
    prospect = a_prospect(
        {("demo", HERE): 3, ("gone", HERE): 1},
        {("demo", HERE): 1, ("demo", THERE): 2},
        unplaced=(
            Unplaced(deployment="demo", replicas=1, reason="no room"),
            Unplaced(deployment="new", replicas=2, reason="no pool"),
        ),
    )
    demo, gone, new = outlook(prospect)
    assert (demo.replicas_before, demo.replicas_after, demo.replicas_unmet) == (3, 3, 1)
    assert (demo.cost_per_hour_before, demo.cost_per_hour_after) == (1.5, 4.5)
    assert demo.moves == (Move(deployment="demo", from_pool=HERE, to_pool=THERE, count=2),)
    assert (demo.ready_in_seconds, demo.ready_basis) == (41.0, BASIS)
    assert (gone.replicas_before, gone.replicas_after, gone.moves) == (1, 0, ())
    assert (gone.ready_in_seconds, gone.ready_basis) == (None, "")
    assert (new.replicas_unmet, new.unmet_reason, new.cost_per_hour_after) == (2, "no pool", 0.0)


def test_the_slowest_pool_decides() -> None:
    fast = replace(TINY, accelerator="l4")
    pools = {HERE: a_pool("onprem-fra"), THERE: a_pool("gcp-x", accelerator="l4")}
    prospect = a_prospect(
        {}, {("demo", HERE): 1, ("demo", THERE): 1}, pools=pools, starts=MEASURED | {fast: (5.0,)}
    )
    assert ready(prospect) == (41.0, BASIS)


def test_a_pool_of_which_nothing_is_known_leaves_the_whole_unknown() -> None:
    prospect = a_prospect({}, {("demo", HERE): 1}, starts={})
    seconds, basis = ready(prospect)
    assert seconds is None
    assert basis.startswith("no start like it was measured")


def test_without_measured_starts_the_profile_tells_when_it_is_ready() -> None:
    profile = a_profile({1: 100.0})
    prospect = a_prospect({}, {("demo", HERE): 1}, starts={}, profiles={profile.key: profile})
    told = only(prospect)
    assert (told.ready_in_seconds, told.ready_source) == (12.5, StartSource.PROFILE)
    assert told.ready_basis.startswith(f"load time of profile {profile.name}, measured ")
    told = only(replace(prospect, starts=MEASURED))
    assert (told.ready_in_seconds, told.ready_source) == (41.0, StartSource.STARTS)
    told = only(replace(prospect, profiles={}))
    assert (told.ready_in_seconds, told.ready_source) == (None, StartSource.NONE)


def test_the_figures_that_a_deployment_is_planned_with_are_told_with_their_source() -> None:
    profile = a_profile({1: 100.0, 4: 250.0})
    prospect = a_prospect({("gone", HERE): 1}, {("demo", HERE): 1})
    measured = only(replace(prospect, profiles={profile.key: profile})).figures
    assert measured is not None
    assert measured.source is FigureSource.PROFILE
    assert [(one.tokens_per_second, one.profile) for one in measured.shapes] == [(250.0, profile)]
    nothing = only(prospect).figures
    assert nothing is not None
    assert (nothing.source, nothing.shapes[0].tokens_per_second) == (FigureSource.NONE, None)


def test_what_is_placed_and_not_ready_yet_is_still_to_start() -> None:
    counts = {("demo", HERE): 3}
    assert ready(a_prospect(counts, counts, heard(HERE, ready=3))) == (None, "")
    under_way = a_prospect(counts, counts, heard(HERE, ready=1, starting=1, failed=1))
    assert ready(under_way) == (
        41.0,
        f"{BASIS}; 1 of 2 on {HERE} start already; 1 failed on {HERE} and will be started again",
    )


def test_a_plane_that_is_not_heard_is_taken_to_run_what_is_placed() -> None:
    counts = {("demo", HERE): 3}
    assert ready(a_prospect(counts, counts)) == (None, "")
    assert ready(a_prospect(counts, {("demo", HERE): 4}))[0] == 41.0


def test_a_new_revision_comes_one_replica_after_another_on_every_pool() -> None:
    counts = {("demo", HERE): 3}
    changed = a_deployment("demo")
    changed = replace(changed, revision=replace(changed.revision, objective=SLOWER))
    for reports in ((), (heard(HERE, ready=3),)):
        prospect = a_prospect(counts, counts, *reports, wanted={"demo": changed})
        assert ready(prospect) == (123.0, f"{BASIS}; 3 one after another on {HERE}: 123 s")


SLOWER = replace(a_deployment().revision.objective, ttft_seconds=9.0)


def test_a_pool_that_has_first_to_be_freed_adds_the_time_of_those_who_leave() -> None:
    before = {("batch", HERE): 4}
    after = {("batch", THERE): 4, ("demo", HERE): 2}
    prospect = a_prospect(before, after, heard(HERE, deployment="batch", ready=4), heard(THERE))
    assert ready(prospect, "batch") == (41.0, BASIS)
    freed = f"{HERE} has first to be freed by batch, once ready elsewhere in 41 s"
    assert ready(prospect) == (82.0, f"{BASIS}; {freed}")


def test_who_is_given_up_goes_at_once() -> None:
    prospect = a_prospect(
        {("batch", HERE): 4}, {("demo", HERE): 2}, heard(HERE, deployment="batch", ready=4)
    )
    assert ready(prospect) == (41.0, f"{BASIS}; {HERE} has first to be freed by batch")


def test_room_that_is_free_already_is_waited_for_by_nobody() -> None:
    prospect = a_prospect(
        {("batch", HERE): 2},
        {("batch", THERE): 2, ("demo", HERE): 2},
        heard(HERE, deployment="batch", ready=2),
        heard(THERE),
    )
    assert ready(prospect) == (41.0, BASIS)


def test_replicas_that_start_already_hold_their_room() -> None:
    both = with_both(heard(HERE, deployment="batch", ready=2), heard(HERE, starting=2))
    counts = {("batch", THERE): 2, ("demo", HERE): 2}
    assert ready(a_prospect(counts, counts, both)) == (
        41.0,
        f"{BASIS}; 2 of 2 on {HERE} start already",
    )


def test_of_those_who_wait_for_one_another_nobody_can_tell() -> None:
    prospect = a_prospect(
        {("a", HERE): 4, ("b", THERE): 4},
        {("a", THERE): 4, ("b", HERE): 4},
        heard(HERE, deployment="a", ready=4),
        heard(THERE, deployment="b", ready=4),
    )
    for name, pool, other in (("a", THERE, "b"), ("b", HERE, "a")):
        seconds, basis = ready(prospect, name)
        assert seconds is None
        assert basis.endswith(f"{pool} has first to be freed by {other}, and nobody can tell when")


def test_replicas_of_another_revision_are_not_what_is_wanted() -> None:
    old = a_replica(revision=1)
    report = Observation(report=a_report(replicas=(old,)), received_at=START)
    second = a_deployment("demo")
    second = replace(second, revision=replace(second.revision, number=2))
    deployments: dict[str, Deployment] = {"demo": second}
    counts = {("demo", HERE): 1}
    prospect = a_prospect(counts, counts, report, running=deployments, wanted=deployments)
    assert ready(prospect) == (41.0, BASIS)
