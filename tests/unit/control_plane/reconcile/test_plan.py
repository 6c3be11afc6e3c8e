"""What planes are told follows level by level from the snapshot."""

from dataclasses import replace

from control_plane.reconcile.actions import PushDesired, RaiseGeneration, RemoveDeployment
from control_plane.reconcile.failover import judge
from control_plane.reconcile.plan import desired_state, plan_conditions, plan_desired
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.coefficients import fit
from skerry.fleet.desired import ENGINE_TECHNIQUES, FEATURES_NEEDED, DesiredState
from skerry.fleet.engine import Batching
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneState
from skerry.fleet.placement import Envelope
from tests.builders import a_demand, a_deployment, a_plane_view, a_profile, a_report, a_snapshot


def a_placed_snapshot() -> Snapshot:
    """`demo` with one replica on fra, nothing pushed yet."""
    return a_snapshot(
        a_plane_view("fra", report=a_report("fra")),
        a_plane_view("aws", report=a_report("aws")),
        demands=(a_demand(a_deployment(replicas=1)),),
        envelopes=(Envelope(deployment="demo", pool="fra--cpu", floor=1, target=1, ceiling=1),),
    )


def pushed(snapshot: Snapshot) -> tuple[DesiredState, ...]:
    """The desired states that would be pushed, as the store would keep them."""
    actions = plan_desired(snapshot, judge(snapshot))
    return tuple(
        replace(action.desired, version=Version(epoch=1, generation=1))
        for action in actions
        if isinstance(action, PushDesired)
    )


def test_every_plane_learns_of_every_deployment_and_of_its_peers() -> None:
    states = {state.plane: state for state in pushed(a_placed_snapshot())}
    assert sorted(states) == ["aws", "fra"]
    assert states["aws"].assignments[0].serving_planes == ("fra",)
    assert states["aws"].assignments[0].envelopes == ()
    assert [peer.plane for peer in states["aws"].peers] == ["fra"]
    assert states["fra"].envelope("demo", "fra--cpu") is not None


def test_planning_after_the_plan_was_applied_does_nothing() -> None:
    snapshot = a_placed_snapshot()
    after = replace(snapshot, desired=pushed(snapshot))
    assert plan_desired(after, judge(after)) == ()
    assert plan_conditions(after, judge(after)) == ()


def test_a_lost_plane_is_told_nothing_until_it_is_back() -> None:
    snapshot = a_placed_snapshot()
    lost = a_plane_view("fra", state=PlaneState.LOST, connected=False, silent_seconds=99.0)
    snapshot = replace(snapshot, planes=(lost, snapshot.planes[1]))
    assert [state.plane for state in pushed(snapshot)] == ["aws"]


def test_a_plane_that_holds_a_newer_generation_is_never_rolled_back() -> None:
    snapshot = a_placed_snapshot()
    newer = a_report("fra", held=Version(epoch=1, generation=7))
    snapshot = replace(snapshot, planes=(a_plane_view("fra", report=newer), snapshot.planes[1]))
    actions = plan_desired(snapshot, judge(snapshot))
    assert RaiseGeneration(plane="fra", at_least=7) in actions
    assert [a.desired.plane for a in actions if isinstance(a, PushDesired)] == ["aws"]


def test_a_plane_that_lost_a_newer_generation_to_damage_is_told_only_newer_ones() -> None:
    snapshot = a_placed_snapshot()
    torn = a_report("fra", held=Version(epoch=1, generation=1), seen=Version(epoch=1, generation=7))
    snapshot = replace(snapshot, planes=(a_plane_view("fra", report=torn), snapshot.planes[1]))
    actions = plan_desired(snapshot, judge(snapshot))
    assert RaiseGeneration(plane="fra", at_least=7) in actions


def test_a_deleted_deployment_is_forgotten_only_after_every_plane_was_told() -> None:
    snapshot = replace(
        a_placed_snapshot(), demands=(a_demand(a_deployment(replicas=1), deleting=True),)
    )
    states = pushed(snapshot)
    assert all(state.assignments[0].tombstone for state in states)
    told = replace(snapshot, desired=states)
    assert RemoveDeployment(deployment="demo") not in plan_desired(told, judge(told))
    held = Version(epoch=1, generation=1)
    done = replace(
        told,
        planes=tuple(a_plane_view(p.name, report=a_report(p.name, held=held)) for p in told.planes),
    )
    assert plan_desired(done, judge(done)) == (RemoveDeployment(deployment="demo"),)


def test_a_plane_must_understand_only_the_techniques_of_what_it_runs() -> None:
    plain = a_deployment()
    engine = replace(plain.revision.engine, batching=Batching(tokens_max=4_096))
    newer = replace(plain, revision=replace(plain.revision, engine=engine))
    snapshot = a_snapshot(a_plane_view("fra"), demands=(a_demand(newer),))
    here = Envelope(deployment="demo", pool="fra--cpu", floor=1, target=1, ceiling=1)
    told = desired_state(snapshot, snapshot.planes[0], {("demo", "fra--cpu"): here}, {})
    assert told.required_features == (*FEATURES_NEEDED, ENGINE_TECHNIQUES)
    elsewhere = desired_state(snapshot, snapshot.planes[0], {}, {})
    assert elsewhere.required_features == FEATURES_NEEDED


def test_a_plane_learns_what_tokens_cost_on_the_accelerators_it_has_envelopes_on() -> None:
    here = a_profile({1: 100.0, 4: 250.0})
    elsewhere = a_profile({1: 100.0}, accelerator="h100")
    snapshot = replace(a_placed_snapshot(), profiles={one.key: one for one in (here, elsewhere)})
    states = {state.plane: state for state in pushed(snapshot)}
    assert states["fra"].assignments[0].coefficients == (fit(here),)
    assert states["aws"].assignments[0].coefficients == ()
    assert "envelopes.v1" in states["fra"].required_features
    assert states["fra"].required_features == FEATURES_NEEDED  # planes without them do as before


def test_a_profile_that_comes_or_moves_is_told_and_one_that_stays_is_not() -> None:
    bare = a_placed_snapshot()
    before = replace(bare, desired=pushed(bare))
    profile = a_profile({1: 100.0, 4: 250.0})
    measured = replace(before, profiles={profile.key: profile})
    assert [state.plane for state in pushed(measured)] == ["fra"]
    told = replace(measured, desired=(*pushed(measured), before.desired[1]))
    assert pushed(told) == ()
    again = replace(profile, measured_at=profile.measured_at, software="later")
    assert pushed(replace(told, profiles={profile.key: again})) == ()


def test_planes_are_told_what_a_registered_base_model_must_contain() -> None:
    digest = "ab" * 32
    snapshot = replace(a_placed_snapshot(), digests={"builtin://skerry-tiny": digest})
    for state in pushed(snapshot):
        (assignment,) = state.assignments
        told = assignment.deployment.revision
        assert told.base_model.uri == f"builtin://skerry-tiny#sha256={digest}"
        assert told.number == snapshot.demands[0].deployment.revision.number  # nothing is replaced


def test_planes_are_told_of_a_new_key_and_that_none_is_left_but_not_of_no_word() -> None:
    key = ApiKey(name="team-a", digest=bytes(32), terms=KeyTerms(deployments=("demo",)))
    plane = a_plane_view("fra")
    for keys in (None, (), (key,)):
        snapshot = replace(a_snapshot(plane), api_keys=keys)
        told = desired_state(snapshot, plane, {}, {})
        assert told.api_keys == keys
