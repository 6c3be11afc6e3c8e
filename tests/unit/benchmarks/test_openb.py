"""The packer of the openb benchmark on fleets small enough to check by hand."""

import numpy as np
import pytest

from benchmarks.openb.bound import ceiling, mix_ceiling
from benchmarks.openb.online import MOVED_SHARE_MAX, POLICIES, Outcome, faults, run
from benchmarks.openb.packer import COUNT, CPU, FREE, KIND, MEMORY, ROOM, fits, fragmentation
from benchmarks.openb.trace import Request, Trace, rooms_of, shapes_of, stream_of
from scheduler.compiled import Ints

# Where nothing is compiled yet, the first test compiles half a minute; another worker would again.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("openb")]
KINDS = ("A", "B")
# accelerators, thousandths of each, cpu, memory, kinds
MIX: tuple[Request, ...] = (
    (0, 0, 4_000, 4_096, ""),
    (1, 160, 1_000, 1_024, ""),
    (1, 470, 8_000, 4_096, ""),
    (1, 810, 3_000, 1_024, "B"),
    (1, 1_000, 12_000, 4_096, ""),
    (4, 1_000, 32_000, 8_192, "A"),
)
SHARES = (0.1, 0.1, 0.25, 0.2, 0.3, 0.05)


def a_trace(nodes: int = 12) -> Trace:
    """Return two kinds of node and six shapes; the list has each shape by its share."""
    rooms = rooms_of(
        [(48_000, 65_536, 0, 4) if n % 2 else (32_000, 32_768, 1, 2) for n in range(nodes)]
    )
    counts = [round(share * 100) for share in SHARES]
    arrivals = np.random.default_rng(5).permutation(np.repeat(np.arange(len(MIX)), counts))
    return Trace(
        name="made-up",
        kinds=KINDS,
        rooms=rooms,
        shapes=shapes_of(list(MIX), list(SHARES), KINDS),
        arrivals=arrivals.astype(np.int64),
    )


def a_room(cpu: int, free: tuple[int, ...], kind: int = 0) -> Ints:
    """Return a room with this much left."""
    room = np.zeros(ROOM, dtype=np.int64)
    room[[CPU, MEMORY, KIND, COUNT]] = cpu, 65_536, kind, len(free)
    room[FREE : FREE + len(free)] = free
    return room


def outcomes(seed: int = 1) -> tuple[Trace, list[Outcome]]:
    """Return what every policy makes of the same stream, shuffled as the paper does."""
    trace = a_trace()
    stream = stream_of(trace, seed, 1.3, shuffled=True)
    return trace, [run(trace, stream, policy) for policy in POLICIES]


def test_shape_fits_only_on_accelerators_that_have_enough_each() -> None:
    shapes = a_trace().shapes
    assert fits(a_room(8_000, (470, 0)), shapes, 2)
    assert not fits(a_room(8_000, (460, 460)), shapes, 2)
    assert not fits(a_room(7_999, (1_000, 1_000)), shapes, 2)
    assert not fits(a_room(48_000, (1_000, 1_000, 1_000, 990)), shapes, 5)
    assert not fits(a_room(48_000, (1_000,), kind=0), shapes, 3)
    assert fits(a_room(4_000, ()), shapes, 0)


def test_fragmentation_is_the_papers_sum_over_the_mix() -> None:
    shapes = a_trace().shapes
    # 1,500 left. No accelerator asked for, too little CPU (1,000 and 4 x 1,000), wrong kind (810):
    # all of it, 0.1 + 0.3 + 0.05 + 0.2; 160 and 470 fit on both: nothing of it.
    room = a_room(9_000, (1_000, 500))
    assert fragmentation(room, shapes) == pytest.approx(0.65 * 1_500)
    # With 300 instead of 500, what 470 cannot use is the 300 there.
    room = a_room(9_000, (1_000, 300))
    assert fragmentation(room, shapes) == pytest.approx(0.65 * 1_300 + 0.25 * 300)
    assert fragmentation(a_room(9_000, (0, 0)), shapes) == 0.0


@pytest.mark.parametrize("seed", [1, 2])
def test_no_policy_overcommits_mismatches_or_refuses_what_fits(seed: int) -> None:
    trace, made = outcomes(seed)
    for outcome in made:
        assert faults(trace, outcome) == []
        assert 0 < outcome.is_placed.sum() < len(outcome.stream)


def test_replay_finds_a_tampered_record() -> None:
    trace, made = outcomes()
    record = made[2].record
    first = int(np.flatnonzero(trace.shapes.milli[made[2].stream] > 0)[0])
    record.seats[first] = 0
    assert faults(trace, made[2])


def test_same_stream_is_packed_the_same_again() -> None:
    _, first = outcomes()
    _, again = outcomes()
    for one, other in zip(first, again, strict=True):
        assert (one.rooms == other.rooms).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_moved_share_never_exceeds_its_limit(seed: int) -> None:
    trace = a_trace(nodes=90)
    stream = stream_of(trace, seed, 1.3, shuffled=True)
    outcome = run(trace, stream, "skerry_moves")
    placed = np.cumsum(outcome.is_placed)
    assert outcome.moved > 0
    for number, (before, *_) in enumerate(outcome.record.moves[: outcome.moved].tolist(), start=1):
        assert number <= MOVED_SHARE_MAX * placed[before - 1]
    assert faults(trace, outcome) == []


def test_ceilings_are_never_below_an_allocation() -> None:
    trace, made = outcomes()
    shapes = len(trace.shapes.accelerators)
    arrived = np.bincount(made[0].stream, minlength=shapes)
    for outcome in made:
        is_placed = outcome.is_placed
        held = np.bincount(outcome.stream[is_placed > 0], minlength=shapes)
        allocated = (held * trace.size_milli).sum() / trace.capacity_milli
        free = ceiling(trace, arrived, np.zeros_like(held), set())
        assert allocated <= ceiling(trace, arrived, held, set()) + 1e-9 <= free + 2e-9


def test_ceiling_counts_what_a_size_leaves_behind() -> None:
    rooms = rooms_of([(96_000, 65_536, 0, 4)] * 2)
    request: Request = (1, 700, 1_000, 1_024, "")
    trace = Trace(
        name="one-size",
        kinds=("A",),
        rooms=rooms,
        shapes=shapes_of([request], [1.0], ("A",)),
        arrivals=np.zeros(20, dtype=np.int64),
    )
    arrived = np.array([20])
    assert ceiling(trace, arrived, np.array([0]), set()) == pytest.approx(0.7)
    assert mix_ceiling(trace, set()) == pytest.approx(0.7)


def test_stream_asks_for_its_load_and_begins_with_the_list() -> None:
    trace = a_trace(nodes=90)
    stream = stream_of(trace, 1, 1.3, shuffled=False)
    asked = trace.size_milli[stream].sum() / trace.capacity_milli
    assert 1.3 <= asked < 1.3 + 4_000 / trace.capacity_milli
    assert (stream[: len(trace.arrivals)] == trace.arrivals).all()
