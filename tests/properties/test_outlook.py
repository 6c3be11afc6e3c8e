"""What is told of a plan, whatever the plan, the fleet and the measurements."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.reconcile.outlook import outlook
from control_plane.reconcile.readiness import Prospect
from scheduler.plan import PlacementPlan, Unplaced
from skerry.fleet.cold_start import START_SECONDS_MAX, UNKNOWN_CONFIGURATION, StartKind
from skerry.fleet.engine import EngineName
from skerry.fleet.observation import Observation, ObservedReplica, ReplicaState
from skerry.fleet.placement import Placement
from skerry.fleet.pool import Pool
from skerry.fleet.profile import configuration_digest
from tests.builders import a_deployment, a_pool, a_profile, a_replica, a_report
from tests.fakes.clock import START

NAMES = ("a", "b", "c")
PLANES = ("onprem-fra", "gcp-x", "aws-y")
SECONDS = st.floats(0.1, START_SECONDS_MAX)
MODEL = "builtin://skerry-tiny"
OWN = configuration_digest(a_deployment().revision.engine)
modest = settings(deadline=None)


@st.composite
def placements(draw: st.DrawFn) -> tuple[Placement, ...]:
    keys = st.tuples(st.sampled_from(NAMES), st.sampled_from(PLANES))
    counts = draw(st.dictionaries(keys, st.integers(0, 4)))
    return tuple(
        Placement(deployment=name, pool=f"{plane}--cpu", count=count)
        for (name, plane), count in sorted(counts.items())
    )


@st.composite
def reports(draw: st.DrawFn, plane: str) -> Observation:
    def replica(index: int) -> ObservedReplica:
        return a_replica(
            draw(st.sampled_from((*NAMES, "stranger"))),
            f"{plane}--cpu",
            name=f"replica-{index}",
            state=draw(st.sampled_from(ReplicaState)),
            revision=draw(st.integers(1, 2)),
        )

    replicas = tuple(replica(index) for index in range(draw(st.integers(0, 6))))
    return Observation(report=a_report(plane, replicas=replicas), received_at=START)


@st.composite
def prospects(draw: st.DrawFn) -> Prospect:
    plan = PlacementPlan(
        placements=draw(placements()),
        envelopes=(),
        unplaced=tuple(
            Unplaced(deployment=draw(st.sampled_from(NAMES)), replicas=n, reason="no room")
            for n in draw(st.lists(st.integers(1, 3), max_size=2))
        ),
        rejections=(),
        levels=(),
        cost_per_hour=0.0,
        solver="exact",
        optimal=True,
    )
    running = {name: a_deployment(name) for name in NAMES if draw(st.integers(0, 3))}
    wanted = {name: a_deployment(name) for name in NAMES}
    for name in draw(st.sets(st.sampled_from(NAMES))):  # a revision that was not applied yet
        objective = replace(wanted[name].revision.objective, ttft_seconds=9.0)
        revision = replace(wanted[name].revision, objective=objective)
        wanted[name] = replace(wanted[name], revision=revision)
    kinds = st.builds(
        StartKind,
        base_model=st.sampled_from((MODEL, "hf://other")),
        engine=st.sampled_from((EngineName.SIMULATED, EngineName.VLLM)),
        configuration=st.sampled_from((OWN, UNKNOWN_CONFIGURATION, "another")),
        accelerator=st.sampled_from(("cpu", "h100")),
    )
    profile = replace(a_profile({1: 100.0}), load_seconds=draw(st.just(0.0) | SECONDS))
    pools: dict[str, Pool] = {f"{plane}--cpu": a_pool(plane) for plane in PLANES}
    return Prospect(
        plan=plan,
        before=draw(placements()),
        running=running,
        wanted=wanted,
        pools=pools,
        observations={
            plane: draw(reports(plane)) for plane in draw(st.sets(st.sampled_from(PLANES)))
        },
        starts=draw(st.dictionaries(kinds, st.lists(SECONDS, max_size=5))),
        profiles={profile.key: profile} if draw(st.booleans()) else {},
    )


@modest
@given(prospects())
def test_every_replica_is_counted_once(prospect: Prospect) -> None:
    found = outlook(prospect)
    names = [one.deployment for one in found]
    assert names == sorted(set(names))
    for told, placed in (
        ({one.deployment: one.replicas_before for one in found}, prospect.before),
        ({one.deployment: one.replicas_after for one in found}, prospect.plan.placements),
    ):
        counts: Counter[str] = Counter()
        for placement in placed:
            counts[placement.deployment] += placement.count
        assert {n: c for n, c in told.items() if c} == {n: c for n, c in counts.items() if c}
    for one in found:
        moved = sum(move.count for move in one.moves)
        assert moved <= min(one.replicas_before, one.replicas_after)
    unmet = sum(left.replicas for left in prospect.plan.unplaced)
    assert sum(one.replicas_unmet for one in found) == unmet


@modest
@given(prospects())
def test_an_estimate_is_never_shorter_than_the_shortest_start_measured(prospect: Prospect) -> None:
    measured = [seconds for kind in prospect.starts.values() for seconds in kind]
    measured += [one.load_seconds for one in prospect.profiles.values() if one.load_seconds]
    for one in outlook(prospect):
        if one.ready_in_seconds is not None:
            assert one.ready_basis
            assert one.replicas_after > 0
            assert one.ready_in_seconds >= min(measured)


@modest
@given(prospects(), st.floats(1.0, 3.0))
def test_slower_starts_never_make_it_ready_sooner(prospect: Prospect, factor: float) -> None:
    slower = {k: tuple(s * factor for s in found) for k, found in prospect.starts.items()}
    before, after = outlook(prospect), outlook(replace(prospect, starts=slower))
    for fast, slow in zip(before, after, strict=True):
        assert (fast.ready_in_seconds is None) == (slow.ready_in_seconds is None)
        if fast.ready_in_seconds is not None and slow.ready_in_seconds is not None:
            assert slow.ready_in_seconds >= fast.ready_in_seconds * (1 - 1e-12)


@modest
@given(prospects())
def test_with_all_that_is_placed_ready_nothing_is_waited_for(prospect: Prospect) -> None:
    there: dict[str, list[ObservedReplica]] = {plane: [] for plane in PLANES}
    for placement in prospect.plan.placements:
        plane = placement.pool.removesuffix("--cpu")
        there[plane] += [a_replica(placement.deployment, placement.pool)] * placement.count
    observations = {
        plane: Observation(report=a_report(plane, replicas=tuple(replicas)), received_at=START)
        for plane, replicas in there.items()
    }
    settled = replace(prospect, observations=observations, wanted=prospect.running)
    assert all((one.ready_in_seconds, one.ready_basis) == (None, "") for one in outlook(settled))


@modest
@given(prospects())
def test_the_order_in_which_a_plan_is_told_changes_nothing(
    prospect: Prospect,
) -> None:
    turned = replace(
        prospect,
        before=prospect.before[::-1],
        plan=replace(prospect.plan, placements=prospect.plan.placements[::-1]),
        observations=dict(reversed(list(prospect.observations.items()))),
        starts=dict(reversed(list(prospect.starts.items()))),
    )
    assert outlook(turned) == outlook(prospect)
