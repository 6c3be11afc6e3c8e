"""Random faults in virtual time over the product's own decisions: all safe, and order returns.

A seed that fails names itself and the command that replays it. What happened in one that found
something is kept for ever: a file in seeds/ with every fault and change, whatever seeds come to
mean, what it found, and the test that holds the mend.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.simulation.mends import UNMENDED
from tests.simulation.plants import PLANTS, SEEDS_MAX, Plant, forget, plant
from tests.simulation.run import KEPT as KEPT_IN
from tests.simulation.run import kept_in, replay, replay_command, run
from tests.simulation.schedule import from_json, to_json

QUICK_SEEDS = range(1, 21)
HELD_UP_SEEDS = range(1, 9)
CHUNK = 50  # seeds of one test: as many tests as seeds would cost more than the seeds
SEEDS = range(1_000, 1_500)
ROOT = Path(__file__).parents[2]
KEPT = sorted(KEPT_IN.glob("*.json"))


def run_all(seeds: Iterable[int]) -> None:
    """Run them all; the first that breaks something fails with its history."""
    for seed in seeds:
        result = run(seed)
        if result.broken:
            history = "\n".join(result.tail)
            pytest.fail(f"{history}\nseed {seed}: {result.broken}\n{replay_command(seed)}")


def test_order_returns_after_the_faults_and_nothing_unsafe_happened() -> None:
    run_all(QUICK_SEEDS)


def test_so_it_does_where_streams_are_held_up_until_their_planes_have_dialled_anew() -> None:
    for seed in HELD_UP_SEEDS:
        result = run(seed, ("held-up",))
        assert not result.broken, f"seed {seed}: {result.broken}"


@pytest.mark.slow
@pytest.mark.parametrize("begin", SEEDS[::CHUNK])
def test_so_it_is_in_hundreds_of_worlds(begin: int) -> None:
    run_all(range(begin, begin + CHUNK))


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_what_a_schedule_once_found_is_held_by_a_test_of_its_own(kept: Path) -> None:
    told = json.loads(kept.read_text(encoding="utf-8"))
    assert {"found", "date", "held_by", "unmended", "schedule"} == told.keys()
    path, _, test = told["held_by"].partition("::")
    assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), told["held_by"]


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_what_once_broke_something_breaks_nothing(kept: Path) -> None:
    result = replay(kept_in(kept))
    command = f"python -m tests.simulation.run --kept {kept.relative_to(ROOT)}"
    assert not result.broken, f"{result.broken}\n{command}"


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_without_its_mend_what_is_kept_breaks_again(kept: Path) -> None:
    """What a schedule cannot find any more is no proof: `python -m tests.simulation.mends`."""
    told = json.loads(kept.read_text(encoding="utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        UNMENDED[told["unmended"]](patch)
        forget()
        result = replay(kept_in(kept))
    forget()
    assert result.broken, f"{kept.name} finds nothing by now: keep another schedule that does"


def test_the_same_seed_does_the_same() -> None:
    first, second = run(7), run(7)  # I15
    assert (first.trace, first.events) == (second.trace, second.events)
    assert first.trace != run(8).trace


@pytest.mark.parametrize("seed", [7, 9])
def test_what_happened_replays_from_its_schedule_alone(seed: int) -> None:
    first = run(seed, ("agent-crash", "older-backup", "torn-file"))
    kept = json.dumps(to_json(first.schedule))
    second = replay(from_json(json.loads(kept)))
    assert second.trace == first.trace
    assert json.dumps(to_json(second.schedule)) == kept


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_found(bug: Plant) -> None:
    began = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        plant(bug, patch)
        for seed in bug.seeds():
            broken = run(seed, bug.kinds, bug.found_by).broken
            if broken:
                break
    forget()
    assert broken, f"{bug.name} was not found within {SEEDS_MAX} seeds"
    assert broken.split(" ", 1)[0] == bug.found_by, f"{bug.name} was found as: {broken}"
    print(f"{bug.name}: seed {seed} after {time.process_time() - began:.1f} CPU seconds: {broken}")


def test_there_are_at_least_twelve_of_them() -> None:
    assert len({bug.name for bug in PLANTS}) >= 12
