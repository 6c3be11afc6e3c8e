"""What an offered desired state may and may not do to the held one."""

import dataclasses

from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.placement import Envelope
from tests.unit.workload_plane.converge.test_plan import POOL, a_deployment
from workload_plane.desired_state.accept import Accept, Held, Refuse, decide

PLANE = "here"


def grants(name: str, target: int | None, tombstone: bool = False) -> Assignment:
    envelopes: tuple[Envelope, ...] = ()
    if target is not None:
        envelopes = (Envelope(deployment=name, pool=POOL, floor=0, target=target, ceiling=target),)
    return Assignment(deployment=a_deployment(name), envelopes=envelopes, tombstone=tombstone)


def offer(epoch: int, generation: int, *assignments: Assignment) -> DesiredState:
    return DesiredState(
        plane=PLANE, version=Version(epoch=epoch, generation=generation), assignments=assignments
    )


def held(state: DesiredState | None = None, *running: str) -> Held:
    return Held(
        plane=PLANE,
        state=state,
        seen=state.version if state else NEVER,
        running=frozenset((name, POOL) for name in running),
    )


def reason(verdict: Accept | Refuse) -> str:
    assert isinstance(verdict, Refuse)
    return verdict.reason


def test_the_first_and_every_newer_state_is_accepted() -> None:
    first = offer(1, 1, grants("demo", 2))
    assert decide(first, held()) == Accept()
    assert decide(offer(1, 2, grants("demo", 1)), held(first, "demo")) == Accept()
    assert decide(offer(2, 1, grants("demo", 1)), held(first, "demo")) == Accept()


def test_a_repeat_is_accepted_and_changes_nothing() -> None:
    first = offer(1, 1, grants("demo", 2))
    assert decide(first, held(first)) == Accept(changed=False)


def test_an_older_epoch_or_generation_is_refused() -> None:
    state = offer(3, 7, grants("demo", 2))
    assert "older" in reason(decide(offer(2, 9, grants("demo", 2)), held(state)))
    assert "older" in reason(decide(offer(3, 6, grants("demo", 2)), held(state)))
    assert "older" in reason(decide(offer(4, 6, grants("demo", 2)), held(state)))


def test_what_was_seen_before_a_damaged_disk_still_counts() -> None:
    facts = dataclasses.replace(held(), seen=Version(epoch=3, generation=7))
    assert "older" in reason(decide(offer(3, 6), facts))


def test_the_same_version_with_another_content_is_refused() -> None:
    state = offer(1, 1, grants("demo", 2))
    assert "raise the generation" in reason(decide(offer(1, 1, grants("demo", 1)), held(state)))


def test_another_planes_state_is_refused() -> None:
    other = dataclasses.replace(offer(1, 1), plane="there")
    assert "there" in reason(decide(other, held()))


def test_a_required_feature_that_is_not_known_is_refused() -> None:
    offered = dataclasses.replace(offer(1, 1), required_features=("envelopes.v1", "telepathy.v9"))
    assert "telepathy.v9" in reason(decide(offered, held()))
    assert decide(offered, held(), ("envelopes.v1", "telepathy.v9")) == Accept()


def test_a_running_deployment_may_not_just_be_missing() -> None:
    state = offer(1, 1, grants("demo", 1), grants("other", 5))
    offered = offer(1, 2, grants("other", 5))
    assert "send a tombstone" in reason(decide(offered, held(state, "demo")))
    gone = offer(1, 2, grants("other", 5), grants("demo", None, tombstone=True))
    assert decide(gone, held(state, "demo")) == Accept()


def test_a_running_pool_may_not_just_lose_its_envelope() -> None:
    state = offer(1, 1, grants("demo", 1), grants("other", 5))
    offered = offer(1, 2, grants("demo", None), grants("other", 5))
    assert "envelope of 0" in reason(decide(offered, held(state, "demo")))
    assert decide(offer(1, 2, grants("demo", 0), grants("other", 5)), held(state)) == Accept()


def test_a_shrunken_snapshot_is_refused_and_a_told_shrinkage_is_not() -> None:
    state = offer(1, 1, grants("demo", 2), grants("other", 3))
    assert "forgets 3 of 5" in reason(decide(offer(1, 2, grants("demo", 2)), held(state)))
    assert "forgets 5 of 5" in reason(decide(offer(1, 2), held(state)))
    assert decide(offer(1, 2, grants("other", 3)), held(state)) == Accept()
    told = offer(1, 2, grants("demo", 0), grants("other", None, tombstone=True))
    assert decide(told, held(state, "demo", "other")) == Accept()


def test_a_name_given_twice_is_refused() -> None:
    assert "twice" in reason(decide(offer(1, 1, grants("demo", 1), grants("demo", 2)), held()))
