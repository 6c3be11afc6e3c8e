"""Renderer for llama.cpp, the default on CPUs, run by `workload_plane.llamacpp_server`.

One GGUF file holds weights, tokenizer and chat template, and decides the weights' format.
"""

import json

from skerry.fleet.engine import EngineSpec
from workload_plane.engines.options import IntegerOption, OptionRule, option_refusals, option_values
from workload_plane.engines.port import (
    Dialect,
    DrainRule,
    EngineLaunch,
    LaunchParameters,
    LoadMetrics,
    visible_devices,
)

CONFIG_FILE = "llamacpp.json"

_OPTIONS: tuple[OptionRule, ...] = (
    IntegerOption(name="threads", least=1, most=256),
    IntegerOption(name="batch-size", least=32, most=16_384),
    IntegerOption(name="n-gpu-layers", least=0, most=1_000),
)
# The file decides; a name says which file is expected. Formats that a GGUF commonly has.
_WEIGHTS = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
_KV_CACHE = ("f32", "f16", "bf16", "q8_0", "q4_0")
# One thread each: with two on a 2-core machine, four streams fell from 6,800 to 54 tokens/s.
_THREADS_DEFAULT = 1
_BATCH_TOKENS_DEFAULT = 512
# A small file listens in 0.1 s; a 40 GB one is read from a cold disk at 200 MB/s.
_STARTUP_SECONDS_MAX = 300.0
# Its own exit takes 1.3 s at worst.
_KILL_AFTER_SECONDS = 3.0


def refusals(spec: EngineSpec) -> tuple[str, ...]:
    """Return one sentence for each thing in the spec that llama.cpp cannot do."""
    found: list[str] = []
    if spec.disaggregation is not None:
        found.append("disaggregation: llama.cpp cannot split prefill from decode; remove it")
    if spec.speculative is not None:
        found.append(
            f"speculative decoding by {spec.speculative.method}: not rendered for llama.cpp;"
            " remove it or choose tensorrt-llm, vllm or sglang"
        )
    if spec.parallelism.accelerators > 1 or spec.parallelism.expert > 1:
        found.append("parallelism: llama.cpp runs on one accelerator here; set every degree to 1")
    if spec.parallelism.attention_data_parallel:
        found.append("attention data parallelism: llama.cpp has none; remove it")
    if spec.quantisation.weights not in (None, *_WEIGHTS):
        found.append(
            f"quantisation of weights {spec.quantisation.weights!r}: the GGUF file decides;"
            f" name what it holds ({', '.join(_WEIGHTS)}) or leave it out"
        )
    if spec.quantisation.kv_cache not in (None, *_KV_CACHE):
        found.append(
            f"quantisation of the KV cache {spec.quantisation.kv_cache!r}: llama.cpp takes"
            f" {', '.join(_KV_CACHE)}"
        )
    return (*found, *option_refusals(spec.options, _OPTIONS, "llamacpp"))


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how llama.cpp is started; its configuration is one JSON file."""
    options = option_values(spec.options, _OPTIONS)
    cache = spec.prefix_caching
    config = {
        "model_path": launch.model_path,
        "served_name": launch.served_name,
        "host": launch.host,
        "port": launch.http_port,
        "slots": spec.concurrent_requests,
        "context_tokens": spec.context_tokens,
        "threads": options.get("threads", _THREADS_DEFAULT),
        "batch_tokens": options.get("batch-size", _BATCH_TOKENS_DEFAULT),
        "gpu_layers": options.get("n-gpu-layers", -1 if launch.accelerators else 0),
        "kv_cache_type": spec.quantisation.kv_cache or "f16",
        "prefix_caching": cache.enabled,
        "host_cache_bytes": (cache.host_memory_bytes or 0) if cache.enabled else 0,
    }
    path = f"{launch.config_dir}/{CONFIG_FILE}"
    return EngineLaunch(
        argv=(launch.python, "-m", "workload_plane.llamacpp_server", "--config", path),
        dialect=Dialect.LLAMACPP,
        startup_seconds_max=_STARTUP_SECONDS_MAX,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        load_metrics=LoadMetrics(
            running_requests="llamacpp:requests_processing",
            queued_requests="llamacpp:requests_deferred",
            prompt_tokens="llamacpp:prompt_tokens_total",
            generated_tokens="llamacpp:tokens_predicted_total",
        ),
        environment=visible_devices(launch),
        files=((CONFIG_FILE, json.dumps(config, indent=2) + "\n"),),
        model_is_file=True,
    )
