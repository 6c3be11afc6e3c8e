"""Whatever happens to planes meanwhile: a rollout goes on, rests, or says why it waits."""

from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.observation import PlaneState
from skerry.fleet.rollout import Halt, Stage, paused, resumed, rolled_back
from tests.properties.examples import examples
from tests.unit.control_plane.reconcile.rollout_world import Behaviour, World, serving

TARGETS = {"aws": 1, "fra": 2, "gcp": 1}
AT_REST = (Stage.COMPLETE, Stage.ROLLED_BACK)
SETTLES_SECONDS_MAX = 600
NOBODY = "user:test"

Event: TypeAlias = tuple[str, str, object]

states = st.tuples(
    st.just("state"), st.sampled_from(sorted(TARGETS)), st.sampled_from(sorted(PlaneState))
)
behaviours = st.sampled_from(
    [
        Behaviour(),
        Behaviour(load_seconds=15.0),
        Behaviour(fails_at_start=True),
        Behaviour(serves_seconds=4.0),
    ]
)
applied = st.tuples(st.just("apply"), st.just(""), behaviours)
steered = st.tuples(st.just("steer"), st.sampled_from(["pause", "resume", "undo"]), st.none())
scripts = st.lists(
    st.tuples(st.integers(min_value=1, max_value=25), st.one_of(states, states, applied, steered)),
    min_size=1,
    max_size=7,
)


def happen(world: World, event: Event) -> None:
    """Let one thing happen to a plane, or an operator do one."""
    kind, name, value = event
    rollout, now = world.rollout, world.snapshot().now
    assert rollout is not None
    if kind == "state":
        assert isinstance(value, PlaneState)
        world.planes[name].state = value
    elif kind == "apply":
        assert isinstance(value, Behaviour)
        world.apply(max(world.revisions) + 1, value)
    elif name == "resume":
        world.rollout = resumed(rollout, now) if rollout.halt is not Halt.NONE else rollout
    elif rollout.stage not in AT_REST and rollout.stage is not Stage.FIRST:
        steers = {"pause": paused(rollout, NOBODY), "undo": rolled_back(rollout, NOBODY, now)}
        world.rollout = steers[name]


def step(world: World) -> None:
    """Let a second pass, in which a rollout must not wait silently, nor end too early."""
    before = world.rollout
    away = {name: one for name, one in world.planes.items() if one.state is not PlaneState.LOST}
    undone = {
        name for name, one in away.items() if before and one.live() != one.live(before.revision)
    }
    world.step()
    after = world.rollout
    assert after is not None
    assert after.stage in AT_REST or after.reason, f"{after} waits silently"
    if before is None or before.stage is not Stage.ROLLING:
        return
    if after.stage is Stage.COMPLETE and before.revision == after.revision:
        assert not undone, f"{after} is complete, but {undone} run something else"


@given(script=scripts)
@settings(max_examples=examples(30), deadline=None)
def test_a_rollout_goes_on_rests_is_halted_or_says_why_it_waits(
    script: list[tuple[int, Event]],
) -> None:
    world = serving(TARGETS)
    world.apply(2)
    for seconds, event in script:
        for _ in range(seconds):
            step(world)
        happen(world, event)
    # All planes are back, nothing fails any more and operators let it go on: it ends.
    for plane in world.planes.values():
        plane.state = PlaneState.CONNECTED
    for number in world.behaviours:
        world.behaviours[number] = Behaviour()
    for _ in range(SETTLES_SECONDS_MAX):
        rollout = world.rollout
        assert rollout is not None
        if rollout.halt in (Halt.OPERATOR, Halt.FAILURE) and rollout.stage is not Stage.COMPLETE:
            world.rollout = resumed(rollout, world.snapshot().now)
        step(world)
        if rollout.stage in AT_REST and rollout.halt is Halt.NONE:
            serves = rollout.stable if rollout.stage is Stage.ROLLED_BACK else rollout.revision
            if world.ready_of(serves) == TARGETS:
                return
    raise AssertionError(f"no end after {SETTLES_SECONDS_MAX} s: {world.rollout}")
