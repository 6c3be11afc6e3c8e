"""Each engine is started with exactly these words; a change here is a change for operators."""

import json

import pytest
import yaml

from skerry.fleet.engine import (
    EngineName,
    EngineSpec,
    Parallelism,
    PrefixCaching,
    Quantisation,
    SpeculativeDecoding,
    SpeculativeMethod,
)
from workload_plane.engines.catalogue import refusals, render
from workload_plane.engines.port import Dialect, EngineLaunch, LaunchParameters

LAUNCH = LaunchParameters(
    model_path="/models/llama-70b-fp8",
    served_name="llama-70b",
    host="127.0.0.1",
    http_port=8001,
    config_dir="/replica/config",
    python="/usr/bin/python3",
    accelerators=(2, 3),
    draft_model_path="/models/draft",
)
EAGLE3 = SpeculativeDecoding(
    method=SpeculativeMethod.EAGLE3, draft_tokens=3, draft_model_uri="hf://draft"
)

LARGE_YAML = """\
# weights: fp8, as the checkpoint has them
enable_attention_dp: true
enable_chunked_prefill: true
enable_iter_perf_stats: true
kv_cache_config:
  dtype: fp8
  enable_block_reuse: true
  free_gpu_memory_fraction: 0.85
  host_cache_size: 2147483648
max_batch_size: 64
max_seq_len: 8192
return_perf_metrics: true
scheduler_config:
  capacity_scheduler_policy: MAX_UTILIZATION
speculative_config:
  decoding_type: Eagle
  max_draft_len: 3
  speculative_model_dir: /models/draft
"""


def a_large_spec(name: EngineName, **changes: object) -> EngineSpec:
    values: dict[str, object] = {
        "context_tokens": 8192,
        "concurrent_requests": 64,
        "speculative": EAGLE3,
        "parallelism": Parallelism(tensor=2),
    }
    return EngineSpec(name=name, **(values | changes))  # type: ignore[arg-type]


def words(launch: EngineLaunch) -> str:
    return " ".join(launch.argv)


def test_tensorrt_llm_keeps_all_but_place_and_degrees_in_the_yaml() -> None:
    """Host memory is of the replica in the spec, and of each of its 8 ranks in the file."""
    spec = a_large_spec(
        EngineName.TENSORRT_LLM,
        quantisation=Quantisation(weights="fp8", kv_cache="fp8"),
        prefix_caching=PrefixCaching(host_memory_bytes=1 << 34),
        parallelism=Parallelism(tensor=4, pipeline=2, expert=2, attention_data_parallel=True),
        options=(
            ("enable_chunked_prefill", "true"),
            ("kv_cache_config.free_gpu_memory_fraction", "0.85"),
            ("scheduler_config.capacity_scheduler_policy", "MAX_UTILIZATION"),
        ),
    )
    launch = render(spec, LAUNCH)
    assert words(launch) == (
        "trtllm-serve serve /models/llama-70b-fp8 --host 127.0.0.1 --port 8001"
        " --tp_size 4 --pp_size 2 --ep_size 2 --config /replica/config/trtllm.yaml"
    )
    assert launch.files == (("trtllm.yaml", LARGE_YAML),)
    assert launch.environment == (("CUDA_VISIBLE_DEVICES", "2,3"),)
    assert launch.metrics_path == "/prometheus/metrics"
    assert launch.dialect is Dialect.TRTLLM_SERVE_1_2


@pytest.mark.parametrize(
    ("speculative", "expected"),
    [
        (
            SpeculativeDecoding(method=SpeculativeMethod.NGRAM, draft_tokens=4),
            {"decoding_type": "NGram", "max_draft_len": 4},
        ),
        (
            SpeculativeDecoding(method=SpeculativeMethod.MTP, draft_tokens=1),
            {"decoding_type": "MTP", "num_nextn_predict_layers": 1},
        ),
        (
            SpeculativeDecoding(
                method=SpeculativeMethod.DRAFT_MODEL, draft_tokens=5, draft_model_uri="hf://d"
            ),
            {
                "decoding_type": "Draft_Target",
                "max_draft_len": 5,
                "speculative_model_dir": "/models/draft",
            },
        ),
    ],
)
def test_tensorrt_llm_speculates_by_every_method(
    speculative: SpeculativeDecoding, expected: dict[str, object]
) -> None:
    launch = render(a_large_spec(EngineName.TENSORRT_LLM, speculative=speculative), LAUNCH)
    assert yaml.safe_load(launch.files[0][1])["speculative_config"] == expected


def test_tensorrt_llm_without_techniques_says_only_what_it_must() -> None:
    launch = render(EngineSpec(name=EngineName.TENSORRT_LLM), LAUNCH)
    assert yaml.safe_load(launch.files[0][1]) == {
        "enable_attention_dp": False,
        "enable_iter_perf_stats": True,
        "kv_cache_config": {"enable_block_reuse": True},
        "max_batch_size": 4,
        "max_seq_len": 2048,
        "return_perf_metrics": True,
    }


def test_tensorrt_llm_flags_have_no_hyphens_inside() -> None:
    launch = render(a_large_spec(EngineName.TENSORRT_LLM), LAUNCH)
    flags = [word for word in launch.argv if word.startswith("--")]
    assert not [flag for flag in flags if "-" in flag[2:]]


def test_vllm_command_line() -> None:
    spec = a_large_spec(
        EngineName.VLLM,
        quantisation=Quantisation(weights="fp8", kv_cache="fp8"),
        parallelism=Parallelism(tensor=2, expert=2),
        options=(("gpu-memory-utilization", "0.9"), ("enforce-eager", "true")),
    )
    assert words(render(spec, LAUNCH)) == (
        "vllm serve /models/llama-70b-fp8 --served-model-name llama-70b"
        " --host 127.0.0.1 --port 8001 --tensor-parallel-size 2 --pipeline-parallel-size 1"
        " --enable-expert-parallel --max-model-len 8192 --max-num-seqs 64 --quantization fp8"
        " --kv-cache-dtype fp8 --enable-prefix-caching --speculative-config"
        ' {"method": "eagle3", "model": "/models/draft", "num_speculative_tokens": 3}'
        " --enforce-eager --gpu-memory-utilization 0.9"
    )


def test_each_release_is_asked_in_its_own_dialect_and_counts_what_it_counts() -> None:
    """TensorRT-LLM 1.2 counts neither requests nor tokens; 0.5.9 repeats itself in its streams."""
    names = ("tensorrt-llm 1.2.1", "tensorrt-llm 1.4.0rc1", "sglang 0.5.9", "sglang 0.5.23")
    launches = []
    for name, version in map(str.split, names):
        launches.append(render(EngineSpec(name=EngineName(name), version=version), LAUNCH))
    assert [launch.dialect for launch in launches] == [
        Dialect.TRTLLM_SERVE_1_2,
        Dialect.TRTLLM_SERVE,
        Dialect.SGLANG_0_5_9,
        Dialect.SGLANG,
    ]
    assert [launch.load_metrics.running_requests for launch in launches] == [
        None,
        "trtllm_num_requests_running",
        "sglang:num_running_reqs",
        "sglang:num_running_reqs",
    ]
    deltas = "--incremental-streaming-output"
    assert [deltas in launch.argv for launch in launches[2:]] == [False, True]


def test_sglang_command_line() -> None:
    spec = a_large_spec(EngineName.SGLANG, prefix_caching=PrefixCaching(enabled=False))
    assert words(render(spec, LAUNCH)) == (
        "/usr/bin/python3 -m sglang.launch_server --model-path /models/llama-70b-fp8"
        " --served-model-name llama-70b --host 127.0.0.1 --port 8001 --tp-size 2 --pp-size 1"
        " --context-length 8192 --max-running-requests 64 --enable-metrics"
        " --incremental-streaming-output --disable-radix-cache"
        " --speculative-algorithm EAGLE3 --speculative-num-steps 3 --speculative-eagle-topk 1"
        " --speculative-num-draft-tokens 4 --speculative-draft-model-path /models/draft"
    )


def test_llamacpp_has_one_thread_unless_told() -> None:
    launch = render(EngineSpec(name=EngineName.LLAMACPP), LAUNCH)
    assert words(launch) == (
        "/usr/bin/python3 -m workload_plane.llamacpp_server --config /replica/config/llamacpp.json"
    )
    assert json.loads(launch.files[0][1]) == {
        "model_path": "/models/llama-70b-fp8",
        "served_name": "llama-70b",
        "host": "127.0.0.1",
        "port": 8001,
        "slots": 4,
        "context_tokens": 2048,
        "threads": 1,
        "batch_tokens": 512,
        "gpu_layers": -1,
        "kv_cache_type": "f16",
        "prefix_caching": True,
        "host_cache_bytes": 0,
    }
    assert launch.dialect is Dialect.LLAMACPP
    assert launch.model_is_file


def test_simulated_takes_every_technique_and_its_own_options() -> None:
    assert refusals(a_large_spec(EngineName.SIMULATED)) == ()
    spec = EngineSpec(name=EngineName.SIMULATED, options=(("tpot-seconds", "0.5"),))
    launch = render(spec, LAUNCH)
    assert json.loads(launch.files[0][1]) == {
        "served_name": "llama-70b",
        "host": "127.0.0.1",
        "port": 8001,
        "concurrent_requests": 4,
        "context_tokens": 2048,
        "tpot_seconds": 0.5,
    }


@pytest.mark.parametrize("name", list(EngineName))
def test_rendering_twice_gives_the_same(name: EngineName) -> None:
    spec = EngineSpec(name=name)
    assert render(spec, LAUNCH) == render(spec, LAUNCH)
