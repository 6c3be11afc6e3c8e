"""Whatever is asked of the simulated engine's scheduler, its books balance and it finishes."""

from hypothesis import given
from hypothesis import strategies as st

from skerry.plumbing.errors import Exhausted
from workload_plane.simulated.answers import block_keys
from workload_plane.simulated.config import KvPolicy, SimulatedConfig
from workload_plane.simulated.model import EngineModel, Sequence

BLOCK = 4
CACHE = 64
CONFIGS = st.builds(
    SimulatedConfig,
    served_name=st.just("m"),
    host=st.just("127.0.0.1"),
    port=st.just(1),
    concurrent_requests=st.integers(1, 5),
    queue_requests_max=st.integers(0, 5),
    context_tokens=st.just(CACHE),
    seed=st.integers(0, 3),
    ttft_seconds=st.sampled_from((0.0, 0.01)),
    tpot_seconds=st.sampled_from((0.0, 0.01)),
    batch_tokens_max=st.sampled_from((1, 3, 16, 1000)),
    kv_cache_tokens=st.sampled_from((8, 24, CACHE)),
    kv_block_tokens=st.just(BLOCK),
    kv_policy=st.sampled_from(list(KvPolicy)),
)
# seconds since the last, which text, how long the prompt, how long the answer, how far the abort
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.003, 0.05)),
        st.sampled_from("ab"),
        st.integers(1, 30),
        st.integers(1, 30),
        st.none() | st.sampled_from((0.0, 0.02, 0.2)),
    ),
    max_size=12,
)


def check(model: EngineModel, config: SimulatedConfig, live: list[Sequence]) -> None:
    """Hold what must hold at any moment."""
    assert 0 <= model.kv.used <= config.kv_blocks
    assert 0 <= model.kv.available <= config.kv_blocks
    assert model.running <= config.concurrent_requests
    held = sum(len(set(s.shared_keys)) + s.private_blocks for s in live)
    assert model.kv.used <= held  # a shared block is one block
    assert bool(held) == bool(model.kv.used)


@given(config=CONFIGS, requests=REQUESTS)
def test_all_finish_or_are_aborted_and_no_block_is_lost(
    config: SimulatedConfig, requests: list[tuple[float, str, int, int, float | None]]
) -> None:
    model = EngineModel(config)
    now = 100.0
    live: list[Sequence] = []
    aborts: list[tuple[float, Sequence]] = []
    for number, (wait, text, prompt, output, abort) in enumerate(requests):
        now += wait
        _advance(model, config, live, now)
        for at, sequence in [entry for entry in aborts if entry[0] <= now]:
            aborts.remove((at, sequence))
            if sequence in live:
                model.abort(sequence)
                live.remove(sequence)
                check(model, config, live)
        prompt = min(prompt, config.sequence_tokens_max - 1)
        sequence = Sequence(
            number,
            prompt_tokens=prompt,
            output_tokens=min(output, config.sequence_tokens_max - prompt),
            limit_tokens=config.sequence_tokens_max - prompt,
            keys=block_keys(text.encode() * prompt * 4, BLOCK),
        )
        try:
            model.submit(sequence, now)
        except Exhausted:
            assert len(live) >= config.queue_requests_max
            continue
        live.append(sequence)
        if abort is not None:
            aborts.append((now + abort, sequence))
    for _ in range(10_000):
        due = model.next_due()
        if due is None:
            break
        now = max(now, due)
        _advance(model, config, live, now)
    assert not live
    assert (model.running, len(model.waiting), model.kv.used) == (0, 0, 0)
    assert model.kv.available == config.kv_blocks


def _advance(model: EngineModel, config: SimulatedConfig, live: list[Sequence], now: float) -> None:
    for sequence in model.advance(now):
        assert sequence in live
        assert 1 <= sequence.generated <= sequence.output_tokens
        assert sequence.arrived_at <= sequence.started_at <= sequence.first_token_at <= now
        if sequence.finished_at >= 0:
            assert sequence.generated == sequence.output_tokens
            live.remove(sequence)
    check(model, config, live)


@given(config=CONFIGS, requests=REQUESTS)
def test_the_same_requests_and_seed_give_the_same_times(
    config: SimulatedConfig, requests: list[tuple[float, str, int, int, float | None]]
) -> None:
    def times() -> list[tuple[float, float]]:
        model = EngineModel(config)
        now = 100.0
        taken: list[Sequence] = []
        for number, (wait, _, prompt, output, _) in enumerate(requests):
            now += wait
            room = config.sequence_tokens_max
            prompt = min(prompt, room - 1)
            output = min(output, room - prompt)
            sequence = Sequence(
                number, prompt_tokens=prompt, output_tokens=output, limit_tokens=output
            )
            model.advance(now)
            try:
                model.submit(sequence, now)
            except Exhausted:
                continue
            taken.append(sequence)
        while (due := model.next_due()) is not None:
            model.advance(due)
        return [(sequence.first_token_at, sequence.finished_at) for sequence in taken]

    assert times() == times()
