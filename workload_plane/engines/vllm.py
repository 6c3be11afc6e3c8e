"""Renderer for vLLM (`vllm serve`); flags with hyphens, structured ones as JSON."""

import json

from skerry.fleet.engine import EngineSpec, SpeculativeMethod
from workload_plane.engines.options import (
    BooleanOption,
    IntegerOption,
    NumberOption,
    OptionRule,
    option_refusals,
    option_values,
)
from workload_plane.engines.port import (
    Dialect,
    DrainRule,
    EngineLaunch,
    LaunchParameters,
    LoadMetrics,
    visible_devices,
)

_OPTIONS: tuple[OptionRule, ...] = (
    NumberOption(name="gpu-memory-utilization", least=0.01, most=1.0),
    IntegerOption(name="max-num-batched-tokens", least=1, most=1_048_576),
    BooleanOption(name="enforce-eager"),
)
_WEIGHTS = ("fp8", "awq", "gptq", "bitsandbytes")
_KV_CACHE = ("auto", "fp8")
_METHODS = {
    SpeculativeMethod.DRAFT_MODEL: "draft_model",
    SpeculativeMethod.EAGLE3: "eagle3",
    SpeculativeMethod.MTP: "mtp",
    SpeculativeMethod.NGRAM: "ngram",
}
# Weights, then compilation and graph capture, which may take minutes of their own.
_STARTUP_SECONDS_MAX = 3_600.0
# Its shutdown_timeout of 0 aborts what is left, so the exit itself is quick.
_KILL_AFTER_SECONDS = 20.0


def refusals(spec: EngineSpec) -> tuple[str, ...]:
    """Return one sentence for each thing in the spec that vLLM cannot do."""
    found: list[str] = []
    parallelism = spec.parallelism
    if spec.disaggregation is not None:
        found.append("disaggregation: vLLM needs a proxy outside the replica for it; remove it")
    if spec.quantisation.weights not in (None, *_WEIGHTS):
        found.append(
            f"quantisation of weights {spec.quantisation.weights!r}: vLLM takes"
            f" {', '.join(_WEIGHTS)}, or leave it to the checkpoint"
        )
    if spec.quantisation.kv_cache not in (None, *_KV_CACHE):
        found.append(
            f"quantisation of the KV cache {spec.quantisation.kv_cache!r}: vLLM takes"
            f" {', '.join(_KV_CACHE)}"
        )
    if parallelism.expert not in (1, parallelism.tensor):
        found.append(
            f"expert parallelism {parallelism.expert}: vLLM's is on or off; set it to 1 or to the"
            f" tensor parallelism {parallelism.tensor}"
        )
    if parallelism.attention_data_parallel:
        found.append(
            "attention data parallelism: vLLM takes accelerators of their own for it; remove it"
            " or choose tensorrt-llm"
        )
    if spec.prefix_caching.host_memory_bytes:
        found.append("prefix caching in host memory: not rendered for vLLM; drop the bytes")
    return (*found, *option_refusals(spec.options, _OPTIONS, "vllm"))


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how vLLM is started; everything is on its command line."""
    return EngineLaunch(
        argv=_argv(spec, launch),
        dialect=Dialect.OPENAI,
        startup_seconds_max=_STARTUP_SECONDS_MAX,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        load_metrics=LoadMetrics(
            running_requests="vllm:num_requests_running",
            queued_requests="vllm:num_requests_waiting",
            prompt_tokens="vllm:prompt_tokens_total",
            generated_tokens="vllm:generation_tokens_total",
        ),
        environment=visible_devices(launch),
    )


def _argv(spec: EngineSpec, launch: LaunchParameters) -> tuple[str, ...]:
    argv = ["vllm", "serve", launch.model_path, "--served-model-name", launch.served_name]
    argv += ["--host", launch.host, "--port", str(launch.http_port)]
    argv += ["--tensor-parallel-size", str(spec.parallelism.tensor)]
    argv += ["--pipeline-parallel-size", str(spec.parallelism.pipeline)]
    argv += ["--max-model-len", str(spec.context_tokens)]
    argv += ["--max-num-seqs", str(spec.concurrent_requests)]
    if spec.parallelism.expert > 1:
        argv.append("--enable-expert-parallel")
    if spec.quantisation.weights:
        argv += ["--quantization", spec.quantisation.weights]
    if spec.quantisation.kv_cache:
        argv += ["--kv-cache-dtype", spec.quantisation.kv_cache]
    caching = "--enable-prefix-caching" if spec.prefix_caching.enabled else None
    argv.append(caching or "--no-enable-prefix-caching")
    if spec.speculative:
        argv += ["--speculative-config", _speculative(spec, launch)]
    for name, value in sorted(option_values(spec.options, _OPTIONS).items()):
        if value is True:
            argv.append(f"--{name}")
        elif value is not False:
            argv += [f"--{name}", f"{value}"]
    return tuple(argv)


def _speculative(spec: EngineSpec, launch: LaunchParameters) -> str:
    wanted = spec.speculative
    assert wanted is not None
    config: dict[str, object] = {
        "method": _METHODS[wanted.method],
        "num_speculative_tokens": wanted.draft_tokens,
    }
    if wanted.draft_model_uri:
        config["model"] = launch.draft_model_path or wanted.draft_model_uri
    return json.dumps(config, sort_keys=True)
