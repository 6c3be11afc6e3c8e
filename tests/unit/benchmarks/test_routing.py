"""The world of the routing benchmark: its engines, its clock and its baselines."""

import json
from pathlib import Path

import pytest

from benchmarks.bench_routing import main
from benchmarks.routing.baselines import CacheAware, ExactKvAware, SessionHash
from benchmarks.routing.page import write_page
from benchmarks.routing.trace import Asked, conversations, shared_share
from benchmarks.routing.world import ENGINE, World
from workload_plane.simulated.model import Sequence

KEYS = tuple(range(8))


def an_asked(number: int, at: float, keys: tuple[int, ...] = KEYS, output: int = 1) -> Asked:
    """Return a request of whole blocks and ten tokens more."""
    return Asked(number, at, len(keys) * 512 + 10, output, keys)


def test_an_engine_reads_a_prompt_at_its_pace_and_only_what_it_has_not_cached() -> None:
    world = World(1, 1_000_000)
    asked = [an_asked(0, 0.0), an_asked(1, 10.0)]
    outcome = world.run(asked, SessionHash(1))
    ready, pace = float(ENGINE["ttft_seconds"]), float(ENGINE["prefill_tokens_per_second"])
    assert outcome.ttft == pytest.approx([ready + 4106 / pace, ready + 10 / pace])
    assert outcome.cached_tokens == 8 * 512
    assert outcome.prompt_tokens == 2 * 4106


def test_a_session_stays_where_it_is_until_its_engine_has_more_than_its_part() -> None:
    policy = SessionHash(4)
    first = policy.pick(an_asked(0, 0.0), 0.0)
    assert policy.pick(an_asked(1, 0.0), 0.0) != first  # 1 of 1 is above 1.25 of the mean
    policy.ended(an_asked(0, 0.0), first, 0.1, 1.0)
    assert policy.pick(an_asked(2, 1.0), 1.0) == first


def test_the_cache_aware_rule_follows_a_prefix_until_loads_are_far_apart() -> None:
    policy = CacheAware(2, name="x", by_tree=False)
    first = policy.pick(an_asked(0, 0.0), 0.0)
    assert [policy.pick(an_asked(n, 0.0), 0.0) for n in range(1, 65)] == [first] * 64
    # 65 to 0: more than 64 apart.
    assert policy.pick(an_asked(65, 0.0), 0.0) == 1 - first
    other = an_asked(66, 0.0, keys=tuple(range(100, 108)))
    assert policy.pick(other, 0.0) == 1 - first  # nothing matches: the least loaded


def test_the_oracle_weighs_a_cached_prefix_against_a_queue() -> None:
    world = World(2, 1_000_000)
    policy = ExactKvAware(world.engines)
    world.run([an_asked(0, 0.0)], policy)
    holder = 0 if world.engines[0].kv.matching(KEYS) else 1
    assert policy.pick(an_asked(1, 5.0), 5.0) == holder
    long = Sequence(9, prompt_tokens=50_000, output_tokens=1, limit_tokens=1)
    world.engines[holder].submit(long, 5.0)
    assert policy.pick(an_asked(2, 5.0), 5.0) == 1 - holder


def test_made_up_conversations_share_prefixes_and_are_the_same_for_the_same_seed() -> None:
    asked = conversations(300, rate=4.0)
    assert asked == conversations(300, rate=4.0)
    assert 0.2 < shared_share(asked) < 0.95


def test_every_policy_answers_every_request_and_the_picker_beats_hashing(tmp_path: Path) -> None:
    out = tmp_path / "routing.json"
    assert main(["--synthetic", "400", "--engines", "6", "--out", str(out)]) == 0
    values = json.loads(out.read_text())
    assert {row["answered"] for row in values["rows"]} == {400}
    rows = {row["policy"]: row for row in values["rows"]}
    assert len(rows) == 10
    assert rows["picker: prefix_tokens"]["ttft_mean"] < rows["session_hash"]["ttft_mean"]
    assert rows["picker: prefix_tokens"]["hit"] > 0.9 * rows["exact_kv_aware"]["hit"]
    page = tmp_path / "routing.md"
    write_page(values, page)
    assert "| **picker: prefix_tokens** |" in page.read_text()


def test_a_trace_that_is_not_there_is_an_error_that_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--trace", "nowhere.jsonl"]) == 2
    assert "there is no trace nowhere.jsonl" in capsys.readouterr().err
