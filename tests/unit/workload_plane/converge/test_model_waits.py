"""A base model that is not here yet keeps back its own starts, and nothing else."""

from dataclasses import replace

from skerry.fleet.observation import ReplicaState
from tests.unit.workload_plane.converge.test_plan import POOL, a_deployment, wants
from workload_plane.converge.actions import DrainReplica, ForgetReplica, StartReplica
from workload_plane.converge.plan import Wait, decide
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica

NOW = 1_000.0
WHY = "downloading 3.2 of 14.0 GB (45 MB/s) from hf://org/name"


def seen(name: str, state: ReplicaState = ReplicaState.READY, revision: int = 1) -> SeenReplica:
    return SeenReplica(
        name=name,
        deployment="demo",
        revision=revision,
        pool=POOL,
        state=state,
        alive=state is not ReplicaState.FAILED,
        routable=state is ReplicaState.READY,
        ready_at=NOW - 100,
        started_at=NOW - 100,
    )


def observed(*replicas: SeenReplica, accelerators: int = 4, revision: int = 1) -> Observed:
    return Observed(
        replicas=replicas,
        pools=(SeenPool(name=POOL, accelerator="cpu", accelerators=accelerators),),
        model_waits={("demo", revision): WHY},
    )


def a_wait(replicas: int, places: int, revision: int = 1) -> Wait:
    return Wait(
        deployment="demo",
        pool=POOL,
        reason=WHY,
        revision=revision,
        replicas=replicas,
        places=((),) * places,
    )


def test_starts_wait_for_their_model_and_say_so() -> None:
    decided = decide(wants(2), observed(), NOW)
    assert decided.actions == ()
    assert decided.waits == (a_wait(2, 2),)


def test_nothing_is_drained_for_a_revision_whose_model_is_not_here() -> None:
    there = (seen("demo-r1-a"), seen("demo-r1-b"))
    full = observed(*there, accelerators=2, revision=2)
    decided = decide(wants(2, a_deployment(revision=2)), full, NOW)
    assert decided.actions == ()
    assert decided.waits == (a_wait(1, 0, revision=2),)
    # Once it is here, one goes for the other as ever.
    (drain,) = decide(
        wants(2, a_deployment(revision=2)), replace(full, model_waits={}), NOW
    ).actions
    assert isinstance(drain, DrainReplica)


def test_what_is_too_many_goes_whether_a_model_comes_or_not() -> None:
    decided = decide(wants(1), observed(seen("demo-r1-a"), seen("demo-r1-b")), NOW)
    assert [type(action) for action in decided.actions] == [DrainReplica]
    assert decided.waits == ()


def test_a_failed_replica_goes_on_telling_why_while_its_model_is_fetched_again() -> None:
    failed = seen("demo-r1-a", ReplicaState.FAILED)
    decided = decide(wants(1), observed(failed), NOW)
    assert not any(isinstance(one, ForgetReplica | StartReplica) for one in decided.actions)
    assert decided.waits == (a_wait(1, 1),)


def test_another_revisions_model_keeps_nothing_back() -> None:
    decided = decide(wants(1), observed(revision=7), NOW)
    assert [type(action) for action in decided.actions] == [StartReplica]
