"""Each engine and release is started with exactly the words and files of its golden files.

Wrong on purpose? `python -m tests.unit.workload_plane.engines.golden_cases` writes them anew.
"""

import json

import pytest
import yaml

from tests.unit.workload_plane.engines.golden_cases import CASES, GOLDEN, launch_of, rendered
from workload_plane.engines.catalogue import RENDERERS, refusals, render

RENDERED = rendered()


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_rendering_is_what_the_golden_file_says(name: str) -> None:
    assert RENDERED[name] == (GOLDEN / name).read_text()


def test_every_golden_file_belongs_to_a_case() -> None:
    held = {path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*.json")}
    assert held == set(RENDERED)


def test_every_release_that_a_renderer_knows_has_golden_files() -> None:
    releases = {
        f"{name}-{version}" if version else str(name)
        for name, renderer in RENDERERS.items()
        for version in renderer.VERSIONS or ("",)
    }
    assert releases == set(CASES)


@pytest.mark.parametrize("directory", sorted(CASES))
def test_rendering_twice_gives_the_same(directory: str) -> None:
    for spec in CASES[directory].values():
        assert refusals(spec) == ()
        assert render(spec, launch_of(spec)) == render(spec, launch_of(spec))


# TensorRT-LLM's only flags with a hyphen inside: its own exceptions.
_HYPHENED = {"--grpc-protocol"}
_FLAGS = {"--host", "--port", "--tp_size", "--pp_size", "--ep_size", "--config", "--grpc"}
_FLAGS |= {"--served_model_name"}  # of the protocol: what Control.GetModelInfo tells
_FLAGS |= {"--tool_parser", "--reasoning_parser"}  # which the YAML does not take
_FLAGS |= {"--log_level"}  # of the protocol as well: a line for each HealthCheck


@pytest.mark.parametrize("name", sorted(n for n in RENDERED if n.startswith("tensorrt-llm")))
def test_tensorrt_llm_keeps_all_but_place_degrees_protocol_and_parsers_in_yaml(name: str) -> None:
    for process in json.loads(RENDERED[name]):
        flags = {word for word in process["argv"] if word.startswith("--")}
        assert flags <= _FLAGS | _HYPHENED


# TorchLlmArgs' keys, of those that are rendered: an unknown one stops the engine at its start.
_KEYS = {
    "": {
        *("max_batch_size", "max_num_tokens", "max_seq_len", "enable_attention_dp"),
        *("enable_chunked_prefill", "return_perf_metrics", "enable_iter_perf_stats"),
        "orchestrator_type",
        *("guided_decoding_backend", "load_format", "disable_overlap_scheduler"),
        *("cuda_graph_config", "kv_cache_config", "scheduler_config", "speculative_config"),
        *("cache_transceiver_config", "telemetry_config"),
    },
    "kv_cache_config": {
        *("enable_block_reuse", "free_gpu_memory_fraction", "host_cache_size", "dtype"),
        *("disk_cache_size", "disk_cache_path", "use_kv_cache_manager_v2"),
        "event_buffer_max_size",
    },
    "scheduler_config": {"capacity_scheduler_policy"},
    "cuda_graph_config": {"batch_sizes", "max_batch_size", "enable_padding"},
    "speculative_config": {
        *("decoding_type", "max_draft_len", "speculative_model_dir"),
        *("num_nextn_predict_layers", "draft_len_schedule"),
    },
    "cache_transceiver_config": {"backend", "max_tokens_in_buffer"},
    "telemetry_config": {"disabled"},
}
# Of those, what only the newer line has.
_NEWER = {"telemetry_config", "disk_cache_size", "disk_cache_path", "use_kv_cache_manager_v2"}


@pytest.mark.parametrize("name", sorted(n for n in RENDERED if n.startswith("tensorrt-llm")))
def test_tensorrt_llm_yaml_has_known_keys_only(name: str) -> None:
    for process in json.loads(RENDERED[name]):
        for file, lines in process["files"].items():
            values = yaml.safe_load("\n".join(lines))
            if file == "disaggregated.yaml":
                continue
            sections = {key: value for key, value in values.items() if isinstance(value, dict)}
            for section, inside in {"": values, **sections}.items():
                assert set(inside) <= _KEYS[section]
                if name.startswith("tensorrt-llm-1.2"):
                    assert not set(inside) & _NEWER


def test_a_disaggregated_replica_is_servers_with_devices_of_their_own_and_a_proxy() -> None:
    name = "tensorrt-llm-1.2/disaggregated.json"
    processes = json.loads(RENDERED[name])
    assert [one["process"] for one in processes] == [
        *("context-0", "context-1", "generation-0", "proxy")
    ]
    devices = [one["env"]["CUDA_VISIBLE_DEVICES"] for one in processes]
    assert devices == ["0,1", "2,3", "4,5", ""]
    argv = processes[-1]["argv"]
    # Its own 180 s would cut long answers, and give up servers that take longer to load.
    assert argv[argv.index("-r") + 1] == "86400"
    assert argv[argv.index("-t") + 1] == "3600"
    proxy = yaml.safe_load("\n".join(processes[-1]["files"]["disaggregated.yaml"]))
    assert proxy == {
        "hostname": "127.0.0.1",
        "port": 8001,
        "context_servers": {"num_instances": 2, "urls": ["127.0.0.1:8101", "127.0.0.1:8102"]},
        "generation_servers": {"num_instances": 1, "urls": ["127.0.0.1:8103"]},
    }


def test_a_short_uncached_prompt_is_prefilled_where_it_is_decoded() -> None:
    processes = json.loads(RENDERED["tensorrt-llm-1.4/disaggregated-conditional.json"])
    proxy = yaml.safe_load("\n".join(processes[-1]["files"]["disaggregated.yaml"]))
    assert proxy["conditional_disagg_config"] == {"max_local_prefill_length": 512}
    assert proxy["generation_servers"]["router"] == {"type": "kv_cache_aware"}
    generation = yaml.safe_load("\n".join(processes[-2]["files"]["generation.yaml"]))
    assert generation["kv_cache_config"]["event_buffer_max_size"] > 0


def test_one_schedule_is_said_in_each_engines_own_way() -> None:
    older = yaml.safe_load(_file("tensorrt-llm-1.2/scheduled-ngram.json", "trtllm.yaml"))
    newer = yaml.safe_load(_file("tensorrt-llm-1.4/scheduled-eagle3.json", "trtllm.yaml"))
    # From a batch on, and up to a batch: past the last there is no drafting.
    assert older["speculative_config"]["draft_len_schedule"] == {1: 4, 8: 2, 32: 0}
    assert newer["speculative_config"]["draft_len_schedule"] == {7: 4, 31: 2}
    (vllm,) = json.loads(RENDERED["vllm-0.33/scheduled-eagle3.json"])
    config = json.loads(vllm["argv"][vllm["argv"].index("--speculative-config") + 1])
    ranges = [[1, 7, 4], [8, 31, 2], [32, 64, 0]]
    assert config["num_speculative_tokens_per_batch_size"] == ranges
    sglang = json.loads(_file("sglang-0.5.23/scheduled-eagle3.json", "draft-lengths.json"))
    assert {batch: entry["candidate_steps"] for batch, entry in sglang.items()} == {
        "1": [4],
        "8": [2],
        "32": [0],
    }


def _file(golden: str, name: str) -> str:
    (process,) = json.loads(RENDERED[golden])
    return "\n".join(process["files"][name])
