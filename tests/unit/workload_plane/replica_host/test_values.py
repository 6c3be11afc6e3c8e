"""A replica's files and states: what is written is what is read, and only legal states follow."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.engine import (
    Disaggregation,
    EngineName,
    EngineSpec,
    Quantisation,
    SpeculativeDecoding,
    SpeculativeMethod,
)
from skerry.plumbing.errors import Corrupt, InvalidInput, NotFound
from skerry.plumbing.processes import ProcessRecord
from workload_plane.engines.port import LoadMetrics
from workload_plane.replica_host.lifecycle import (
    Health,
    HostState,
    IllegalTransition,
    advance,
    after_probe,
)
from workload_plane.replica_host.load import UNKNOWN_LOAD, EngineLoad, may_be_busy, parse_load
from workload_plane.replica_host.spec import ReplicaSpec, read_spec, spec_to_json, write_spec
from workload_plane.replica_host.sse import EVENT_BYTES_MAX, EventSplitter, OversizedEvent
from workload_plane.replica_host.state import ReplicaRecord, read_record, write_record

RUNNING = LoadMetrics(running_requests="running")
FULL_ENGINE = EngineSpec(
    name=EngineName.TENSORRT_LLM,
    quantisation=Quantisation(kv_cache="fp8"),
    speculative=SpeculativeDecoding(method=SpeculativeMethod.NGRAM, draft_tokens=2),
    disaggregation=Disaggregation(prefill_replicas=1, decode_replicas=2),
    options=(("load_format", "dummy"),),
)


def a_spec(directory: Path, **changes: Any) -> ReplicaSpec:
    values: dict[str, Any] = {
        "name": "demo-1",
        "deployment": "demo",
        "revision": 2,
        "plane": "onprem-fra",
        "pool": "onprem-fra--cpu",
        "engine": FULL_ENGINE,
        "model_path": "/models/m.gguf",
        "served_name": "m",
        "http_port": 1,
        "grpc_port": 2,
        "health_port": 3,
        "config_dir": directory / "config",
        "log_dir": directory / "logs",
        "state_file": directory / "state.json",
        "accelerators": (4, 5),
    }
    return ReplicaSpec(**(values | changes))


def test_spec_survives_its_file(tmp_path: Path) -> None:
    spec = a_spec(tmp_path)
    write_spec(tmp_path / "spec.json", spec)
    assert read_spec(tmp_path / "spec.json") == spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grpc_port": 1}, "three different ports"),
        ({"name": "Not A Label"}, "replica 'Not A Label'"),
        ({"served_name": ""}, "served_name"),
        ({"format": 9}, "format 9"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_wrong_spec_is_refused_by_file_and_field(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec_to_json(a_spec(tmp_path)) | change))
    with pytest.raises(InvalidInput, match=words) as caught:
        read_spec(path)
    assert str(path) in caught.value.message


def test_missing_field_is_named(tmp_path: Path) -> None:
    values = spec_to_json(a_spec(tmp_path))
    del values["engine"]
    (tmp_path / "spec.json").write_text(json.dumps(values))
    with pytest.raises(InvalidInput, match="field 'engine' is missing"):
        read_spec(tmp_path / "spec.json")


def test_absent_spec_says_which_option_names_it(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="--spec"):
        read_spec(tmp_path / "none.json")


@pytest.mark.parametrize("engine_pid", [None, 43])
def test_record_survives_its_file(tmp_path: Path, engine_pid: int | None) -> None:
    def process(pid: int) -> ProcessRecord:
        return ProcessRecord(pid=pid, start_time=5.0, name="x", boot_id="b")

    record = ReplicaRecord(
        name="demo-1",
        deployment="demo",
        revision=2,
        pool="onprem-fra--cpu",
        state=HostState.READY,
        host=process(42),
        engine=process(engine_pid) if engine_pid else None,
        http="127.0.0.1:1",
        grpc="127.0.0.1:2",
        health="127.0.0.1:3",
        message="hello",
    )
    write_record(tmp_path / "state.json", record)
    assert read_record(tmp_path / "state.json") == record


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', "null"])
def test_damaged_record_is_corrupt(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(Corrupt):
        read_record(tmp_path / "state.json")


def test_one_silent_probe_is_no_hang_and_two_are() -> None:
    ready = after_probe(Health(), answered=True)
    assert ready == Health(state=HostState.READY)
    once = after_probe(ready, answered=False)
    assert once.serving
    twice = after_probe(once, answered=False)
    assert twice.state is HostState.UNHEALTHY
    assert after_probe(twice, answered=True) == ready


@pytest.mark.parametrize("state", [HostState.DRAINING, HostState.STOPPED, HostState.FAILED])
def test_no_probe_brings_an_ending_replica_back(state: HostState) -> None:
    health = Health(state=state)
    assert after_probe(health, answered=True) == health


def test_states_that_do_not_follow_are_refused() -> None:
    with pytest.raises(IllegalTransition, match="stopped may not become ready"):
        advance(HostState.STOPPED, HostState.READY)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_found_however_the_bytes_are_cut(size: int) -> None:
    data = b': ping\n\ndata: {"a":1}\r\n\r\nevent: x\ndata:{"b":"\xc3\xa9"}\n\ndata: [DONE]\n\n'
    splitter = EventSplitter()
    found: list[bytes] = []
    for start in range(0, len(data), size):
        found += splitter.feed(data[start : start + size])
    assert found == [b'{"a":1}', b'{"b":"\xc3\xa9"}', b"[DONE]"]


def test_event_without_an_end_is_not_kept_for_ever() -> None:
    with pytest.raises(OversizedEvent):
        EventSplitter().feed(b"data: " + b"x" * EVENT_BYTES_MAX)


def test_load_adds_up_labels_and_leaves_unknown_what_is_not_told() -> None:
    names = LoadMetrics(running_requests="vllm:running", queued_requests="vllm:waiting")
    page = (
        "# HELP vllm:running x\n# TYPE vllm:running gauge\n"
        'vllm:running{engine="0",model="a b} 9"} 2.0\nvllm:running{engine="1"} 3 1700000000\n'
        "vllm:running_total 99\nbroken\n"
    )
    assert parse_load(page, names) == EngineLoad(running_requests=5)
    assert parse_load(page, LoadMetrics()) == EngineLoad()


def test_cache_in_use_is_the_mean_of_an_engines_ranks() -> None:
    names = LoadMetrics(running_requests="run", kv_used_ratio="vllm:kv_cache_usage_perc")
    page = (
        'run{engine="0"} 2\nrun{engine="1"} 3\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.9\nvllm:kv_cache_usage_perc{engine="1"} 0.3\n'
    )
    load = parse_load(page, names)
    assert load.running_requests == 5
    assert load.kv_used_ratio == pytest.approx(0.6)


def test_load_that_is_no_number_is_unknown() -> None:
    names = LoadMetrics(running_requests="a", queued_requests="b", prompt_tokens="c")
    assert parse_load("a NaN\nb -1\nc x\n", names) == EngineLoad()


@pytest.mark.parametrize(
    ("load", "names", "busy"),
    [
        (EngineLoad(running_requests=1), RUNNING, True),
        (EngineLoad(running_requests=0, queued_requests=2), RUNNING, True),
        (EngineLoad(running_requests=0), RUNNING, False),
        (UNKNOWN_LOAD, RUNNING, True),  # it tells as a rule, and is too busy now
        (EngineLoad(), RUNNING, False),  # a release that does not keep this count
        (UNKNOWN_LOAD, LoadMetrics(), False),  # an engine that never tells
    ],
)
def test_an_engine_that_says_nothing_may_be_busy(
    load: EngineLoad, names: LoadMetrics, busy: bool
) -> None:
    assert may_be_busy(load, names) is busy


def test_times_of_tokens_are_sums_and_counts_of_the_engines_histograms() -> None:
    names = LoadMetrics(
        first_token_seconds="e:ttft_sum",
        first_tokens="e:ttft_count",
        first_token_buckets="e:ttft_bucket",
        token_interval_seconds="e:itl_sum",
        token_intervals="e:itl_count",
    )
    page = (
        'e:ttft_bucket{m="a",le="1.0"} 2\ne:ttft_bucket{m="b",le="1.0"} 1\n'
        'e:ttft_bucket{le="+Inf"} 3\ne:ttft_sum{m="a b"} 1.5\ne:ttft_count{m="a b"} 3\n'
        "e:itl_sum NaN\ne:itl_count 90\n"
    )
    load = parse_load(page, names)
    assert (load.first_token_seconds, load.first_tokens) == (1.5, 3)
    assert (load.token_interval_seconds, load.token_intervals) == (None, 90)
    assert load.first_token_buckets == ((1.0, 3.0), (math.inf, 3.0))
