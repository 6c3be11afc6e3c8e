"""What a plane's own loop promises whatever comes in, and whatever its replicas do meanwhile."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.observation import ReplicaState
from tests.properties.examples import examples
from tests.unit.workload_plane.autoscale.test_scaler import (
    DELAY,
    ENGINE,
    Plane,
    an_assignment,
    envelope,
    records,
)
from workload_plane.autoscale.sharing import PoolBounds, share

works = st.floats(0.0, 12.0)
states = st.sampled_from(ReplicaState)


@st.composite
def pool_bounds(draw: st.DrawFn) -> tuple[PoolBounds, ...]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        floor = draw(st.integers(0, 5))
        target = floor + draw(st.integers(0, 5))
        ceiling = target + draw(st.integers(0, 5))
        found.append(PoolBounds(pool=f"p{number}", floor=floor, target=target, ceiling=ceiling))
    return tuple(found)


@given(
    pools=pool_bounds(),
    total=st.integers(0, 80),
    before=st.dictionaries(st.sampled_from(["p0", "p1", "p2", "p3"]), st.integers(0, 20)),
)
def test_shares_are_inside_every_envelope_and_add_up_as_far_as_they_may(
    pools: Sequence[PoolBounds], total: int, before: dict[str, int]
) -> None:
    found = share(total, pools, before)
    for one in pools:
        assert one.floor <= found[one.pool] <= one.ceiling
    least, most = sum(p.floor for p in pools), sum(p.ceiling for p in pools)
    assert sum(found.values()) == min(max(total, least), most)
    assert share(total, pools, found) == found


@settings(max_examples=examples(60))
@given(
    load=st.lists(works | st.none(), min_size=1, max_size=60),
    seen=st.lists(st.lists(states, max_size=8), min_size=1, max_size=8),
    floor=st.integers(0, 3),
    room=st.integers(0, 6),
    heard=st.booleans(),
    knows=st.booleans(),
)
def test_no_number_is_ever_outside_the_envelope(
    load: list[float | None],
    seen: list[list[ReplicaState]],
    floor: int,
    room: int,
    heard: bool,
    knows: bool,
) -> None:
    target = floor + room // 2
    plane = Plane(an_assignment(envelope(floor, target, floor + room), fleet=True))
    plane.heard = heard
    for number, work in enumerate(load):
        plane.now += 5.0
        if work is not None:
            plane.counts(work, 5.0)
        there = [one for state in seen[number % len(seen)] for one in records(1, state)]
        wanted = plane.decide(*there, engine=ENGINE if knows else None)
        assert floor <= wanted["cpu"] <= floor + room
        if target:
            assert wanted["cpu"] >= 1  # the last of it goes by the control plane's word only


@settings(max_examples=examples(40))
@given(
    work=works,
    seconds=st.integers(1, 40),
    seen=st.lists(st.integers(0, 12), min_size=1, max_size=30),
    jump=st.floats(0.0, 1e7),
)
def test_without_signals_nothing_goes_whatever_dies_and_however_long(
    work: float, seconds: int, seen: list[int], jump: float
) -> None:
    plane = Plane(an_assignment(envelope(0, 1, 12)))
    wanted = plane.settles(work, 1, seconds * 5.0)
    plane.now += 16.0  # the last reading is too old
    for count in seen:
        plane.now += jump
        assert plane.decide(*records(count))["cpu"] >= wanted


@settings(max_examples=examples(40))
@given(work=works, ready=st.integers(1, 12), jump=st.floats(-1e6, 1e6))
def test_a_clock_that_jumps_takes_nothing_within_a_delay(
    work: float, ready: int, jump: float
) -> None:
    plane = Plane(an_assignment(envelope(1, 1, 12)))
    plane.settles(work, ready, 20.0)
    before = plane.decide(*records(ready))["cpu"]
    plane.now = max(0.0, plane.now + jump)
    left = plane.settles(0.0, before, min(DELAY, 50.0))
    assert left >= before or abs(jump) <= 60.0


@settings(max_examples=examples(40))
@given(work=st.floats(0.2, 8.0), ready=st.integers(1, 12))
def test_replicas_that_start_are_not_started_again(work: float, ready: int) -> None:
    plane = Plane(an_assignment(envelope(1, 1, 40)))
    plane.settles(work, ready, 200.0)
    numbers = []
    for _ in range(20):  # nothing that was wanted comes up
        plane.counts(work)
        numbers.append(plane.decide(*records(ready))["cpu"])
    assert max(numbers) == numbers[0] or max(numbers) - numbers[0] <= 1


def test_a_paused_deployment_moves_only_with_its_envelope() -> None:
    plane = Plane(an_assignment(envelope(1, 3, 9), paused=True))
    assert plane.settles(9.0, 3, 300.0) == 3
    narrower = an_assignment(envelope(1, 2, 2), paused=True)
    plane.assignment = replace(narrower)
    assert plane.settles(9.0, 3, 10.0) == 2
