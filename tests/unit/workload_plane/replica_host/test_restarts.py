"""When a dead engine is started again, what its log keeps, and what is counted through restarts."""

from pathlib import Path

from tests.unit.workload_plane.replica_host.test_values import a_spec
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.instruments import (
    ENGINE_REQUESTS,
    ENGINE_TOKENS,
    EngineReadings,
)
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.load import EngineLoad
from workload_plane.replica_host.restarts import (
    PAUSE_SECONDS_MAX,
    WINDOW_SECONDS,
    ends_that_count,
    next_restart,
)


def test_the_first_restart_comes_at_once_and_the_next_ones_wait_longer_up_to_a_limit() -> None:
    ends: tuple[float, ...] = ()
    pauses, states = [], []
    for moment in range(6):
        ends = ends_that_count(ends, float(moment))
        restart = next_restart(ends, restarts_max=6)
        assert restart is not None
        pauses.append(restart.pause_seconds)
        states.append(restart.state)
    assert pauses == [0.0, 1.0, 2.0, 4.0, PAUSE_SECONDS_MAX, PAUSE_SECONDS_MAX]
    assert states == [HostState.RESTARTING] + [HostState.CRASH_LOOPING] * 5


def test_more_ends_within_the_window_than_restarts_are_given_up() -> None:
    assert next_restart((1.0,), restarts_max=1) is not None
    assert next_restart((1.0, 2.0), restarts_max=1) is None
    assert next_restart((1.0,), restarts_max=0) is None


def test_what_ended_long_ago_counts_no_more() -> None:
    ends = ends_that_count((0.0, 1.0), 1.0 + WINDOW_SECONDS)
    assert ends == (1.0 + WINDOW_SECONDS,)


async def test_a_log_that_grew_too_large_keeps_what_is_newest(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, log_dir=tmp_path)
    path = engine_process.log_path(spec)
    line = b"x" * 1023 + b"\n"
    with path.open("ab") as log:  # as the engine holds it
        log.write(line * (engine_process.LOG_BYTES_MAX // 1024))
        log.flush()
        await engine_process.trim_log(engine_process.log_path(spec))
        assert path.stat().st_size == engine_process.LOG_BYTES_MAX
        log.write(b"the newest\n")
        log.flush()
        await engine_process.trim_log(engine_process.log_path(spec))
        assert path.stat().st_size == 0
        log.write(b"after\n")
        log.flush()
    older = path.with_name("engine.log.1").read_bytes()
    assert older.endswith(line + b"the newest\n")
    assert older.startswith(line)
    assert engine_process.LOG_BYTES_MAX // 2 - 1024 <= len(older) <= engine_process.LOG_BYTES_MAX
    assert path.read_bytes() == b"after\n"


def test_last_words_are_the_last_lines_with_something_in_them(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, log_dir=tmp_path)
    assert engine_process.last_words(spec) == ""
    engine_process.log_path(spec).write_text("a\nb\n\nc\n  d\n\ne\n")
    assert engine_process.last_words(spec) == "b | c | d | e"


def test_tokens_are_counted_on_when_the_engine_begins_at_zero_again() -> None:
    readings = EngineReadings()
    before = _tokens("generated")
    for count in (5, 9, 3):
        readings.take(EngineLoad(generated_tokens=count))
    assert _tokens("generated") - before == 12


def test_what_the_engine_does_not_tell_is_absent_and_not_zero() -> None:
    readings = EngineReadings()
    readings.take(EngineLoad(running_requests=2, queued_requests=0))
    assert {sample.labels["state"] for sample in _samples()} == {"running", "queued"}
    readings.take(EngineLoad(running_requests=1))
    assert [(s.labels["state"], s.value) for s in _samples()] == [("running", 1.0)]
    readings.take(EngineLoad())
    assert _samples() == []


def _samples() -> list:  # type: ignore[type-arg]
    return [sample for metric in ENGINE_REQUESTS.collect() for sample in metric.samples]


def _tokens(kind: str) -> float:
    samples = [sample for metric in ENGINE_TOKENS.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.labels.get("kind") == kind)
