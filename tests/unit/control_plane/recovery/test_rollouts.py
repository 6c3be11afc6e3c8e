"""A rollout is taken in as far as planes hold it, and goes on only by a person's word."""

from dataclasses import replace

from control_plane.recovery.assess import Facts, Told, assess
from control_plane.recovery.rollouts import rollout_of
from skerry.fleet.desired import Candidate, DesiredState
from skerry.fleet.rollout import Halt, Rollout, Stage, share_of
from tests.builders import T0, a_deployment, a_snapshot
from tests.unit.control_plane.recovery.worlds import a_held_state, at_revision, holding, told


def with_candidate(state: DesiredState, number: int, replicas: int = 1) -> DesiredState:
    """The state, so many replicas of another revision being tried beside its own."""
    [assignment] = state.assignments
    revision = at_revision(assignment.deployment, number).revision
    candidate = Candidate(revision=revision, replicas=((f"{state.plane}--cpu", replicas),))
    return replace(state, assignments=(replace(assignment, candidate=candidate),))


def adopted(*states: DesiredState) -> Rollout:
    answers: dict[str, Told] = {state.plane: told(state) for state in states}
    snapshot = a_snapshot(*(holding(state) for state in states))
    found = assess(Facts(snapshot=snapshot, epoch=1, told=answers))
    return rollout_of(found.truths["demo"], answers, T0)


def at(plane: str, number: int) -> DesiredState:
    return a_held_state(plane, at_revision(a_deployment(), number))


def test_what_all_planes_hold_is_rolled_out() -> None:
    rollout = adopted(at("fra", 3), at("sin", 3))
    assert (rollout.stage, rollout.revision, rollout.stable) == (Stage.COMPLETE, 3, 3)
    assert rollout.halt is Halt.NONE


def test_a_first_replica_stays_the_only_one() -> None:
    rollout = adopted(with_candidate(at("fra", 1), 2), at("sin", 1))
    assert (rollout.stage, rollout.halt) == (Stage.CANARY, Halt.OPERATOR)
    here, there = share_of(rollout, "fra"), share_of(rollout, "sin")
    assert (here.revision, here.candidate, here.replicas) == (1, 2, (("fra--cpu", 1),))
    assert (there.revision, there.candidate) == (1, 0)


def test_planes_that_are_done_stay_done_and_those_that_wait_wait() -> None:
    rollout = adopted(at("fra", 2), at("sin", 1), at("tok", 1))
    shares = {plane: share_of(rollout, plane).revision for plane in ("fra", "sin", "tok")}
    assert shares == {"fra": 2, "sin": 1, "tok": 1}
    assert (rollout.stage, rollout.halt) == (Stage.ROLLING, Halt.OPERATOR)


def test_what_an_earlier_rollout_had_reached_stays() -> None:
    states = at("fra", 3), at("sin", 1), at("tok", 1), at("oci", 2)
    rollout = adopted(*states)
    for state in states:
        number = state.assignments[0].deployment.revision.number
        assert share_of(rollout, state.plane).revision == number


def test_replicas_kept_beside_while_others_are_done_are_kept() -> None:
    rollout = adopted(at("fra", 2), with_candidate(at("sin", 1), 2, replicas=2), at("tok", 1))
    share = share_of(rollout, "sin")
    assert (share.revision, share.candidate, share.replicas) == (1, 2, (("sin--cpu", 2),))
