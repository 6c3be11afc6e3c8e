"""Renderer for TensorRT-LLM (`trtllm-serve`), in the form that holds from 1.2 to 1.4.

On the command line are only the base model, host, port, parallel degrees and `--config`; all else
is in the YAML, where an unknown key stops the engine at its start. Flags have underscores only.
"""

from skerry.fleet.engine import EngineSpec, SpeculativeMethod
from workload_plane.engines.options import (
    BooleanOption,
    ChoiceOption,
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

CONFIG_FILE = "trtllm.yaml"

# By the YAML's own names; those with a dot go into that section.
_OPTIONS: tuple[OptionRule, ...] = (
    IntegerOption(name="max_num_tokens", least=1, most=1_048_576),
    BooleanOption(name="enable_chunked_prefill"),
    BooleanOption(name="disable_overlap_scheduler"),
    IntegerOption(name="stream_interval", least=1, most=1_000),
    IntegerOption(name="num_postprocess_workers", least=0, most=64),
    ChoiceOption(name="guided_decoding_backend", choices=("xgrammar", "llguidance")),
    ChoiceOption(name="load_format", choices=("auto", "dummy")),
    NumberOption(name="kv_cache_config.free_gpu_memory_fraction", least=0.01, most=1.0),
    ChoiceOption(
        name="scheduler_config.capacity_scheduler_policy",
        choices=("GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"),
    ),
)
# The checkpoint decides; the name says which checkpoint is expected at the base model's URI.
_WEIGHTS = ("bf16", "fp16", "fp8", "nvfp4", "int4-awq", "w4a8-awq")
_KV_CACHE = ("auto", "fp8", "nvfp4")
# A 405 B checkpoint from cold network storage took tens of minutes to load.
_STARTUP_SECONDS_MAX = 3_600.0
# SIGTERM waits for open responses without bound, so the kill is on our own timer.
_KILL_AFTER_SECONDS = 30.0


def refusals(spec: EngineSpec) -> tuple[str, ...]:
    """Return one sentence for each thing in the spec that TensorRT-LLM cannot do."""
    found: list[str] = []
    parallelism = spec.parallelism
    if spec.disaggregation is not None:
        found.append(
            "disaggregation: a replica is one aggregated trtllm-serve for now; remove it, and"
            " enable_chunked_prefill keeps long prompts from stalling the others"
        )
    if spec.quantisation.weights not in (None, *_WEIGHTS):
        found.append(
            f"quantisation of weights {spec.quantisation.weights!r}: the checkpoint decides; name"
            f" what it holds ({', '.join(_WEIGHTS)}) or leave it out"
        )
    if spec.quantisation.kv_cache not in (None, *_KV_CACHE):
        found.append(
            f"quantisation of the KV cache {spec.quantisation.kv_cache!r}: TensorRT-LLM takes"
            f" {', '.join(_KV_CACHE)}"
        )
    if parallelism.tensor % parallelism.expert:
        found.append(
            f"expert parallelism {parallelism.expert}: must divide the tensor parallelism"
            f" {parallelism.tensor}"
        )
    if spec.prefix_caching.host_memory_bytes and not spec.prefix_caching.enabled:
        found.append("prefix caching: host memory without caching; enable it or drop the bytes")
    return (*found, *option_refusals(spec.options, _OPTIONS, "tensorrt-llm"))


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how trtllm-serve is started; its techniques are in one YAML file."""
    return EngineLaunch(
        argv=_argv(spec, launch),
        dialect=Dialect.OPENAI,
        startup_seconds_max=_STARTUP_SECONDS_MAX,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        # `/metrics` is a JSON list that is emptied by reading; this one is Prometheus.
        metrics_path="/prometheus/metrics",
        load_metrics=LoadMetrics(
            running_requests="trtllm_num_requests_running",
            queued_requests="trtllm_num_requests_waiting",
            prompt_tokens="trtllm_prompt_tokens_total",
            generated_tokens="trtllm_generation_tokens_total",
        ),
        environment=visible_devices(launch),
        files=((CONFIG_FILE, _config_text(spec, launch)),),
    )


def _argv(spec: EngineSpec, launch: LaunchParameters) -> tuple[str, ...]:
    argv = ["trtllm-serve", "serve", launch.model_path]
    argv += ["--host", launch.host, "--port", str(launch.http_port)]
    argv += ["--tp_size", str(spec.parallelism.tensor)]
    argv += ["--pp_size", str(spec.parallelism.pipeline)]
    if spec.parallelism.expert > 1:
        argv += ["--ep_size", str(spec.parallelism.expert)]
    return (*argv, "--config", f"{launch.config_dir}/{CONFIG_FILE}")


def _config_text(spec: EngineSpec, launch: LaunchParameters) -> str:
    import yaml  # 50 ms and 2 MB that every other engine's replica host does without

    text: str = yaml.safe_dump(_config(spec, launch), sort_keys=True)
    if spec.quantisation.weights:
        return f"# weights: {spec.quantisation.weights}, as the checkpoint has them\n{text}"
    return text


def _config(spec: EngineSpec, launch: LaunchParameters) -> dict[str, object]:
    cache: dict[str, object] = {"enable_block_reuse": spec.prefix_caching.enabled}
    if spec.prefix_caching.host_memory_bytes:
        cache["host_cache_size"] = spec.prefix_caching.host_memory_bytes
    if spec.quantisation.kv_cache:
        cache["dtype"] = spec.quantisation.kv_cache
    config: dict[str, object] = {
        "max_batch_size": spec.concurrent_requests,
        "max_seq_len": spec.context_tokens,
        "enable_attention_dp": spec.parallelism.attention_data_parallel,
        # Without these two there is no Prometheus page, and nothing on it.
        "return_perf_metrics": True,
        "enable_iter_perf_stats": True,
    }
    sections = {"kv_cache_config": cache}
    for name, value in option_values(spec.options, _OPTIONS).items():
        section, _, key = name.rpartition(".")
        (sections.setdefault(section, {}) if section else config)[key] = value
    config.update(sections)
    speculative = _speculative(spec, launch)
    if speculative:
        config["speculative_config"] = speculative
    return config


def _speculative(spec: EngineSpec, launch: LaunchParameters) -> dict[str, object]:
    wanted = spec.speculative
    if wanted is None:
        return {}
    # The names that both ends of the range know: `Eagle` (not `Eagle3`), `speculative_model_dir`
    # (an alias later on), `num_nextn_predict_layers` (remapped later on).
    draft = launch.draft_model_path or wanted.draft_model_uri
    match wanted.method:
        case SpeculativeMethod.DRAFT_MODEL:
            kind, tokens = "Draft_Target", {"max_draft_len": wanted.draft_tokens}
        case SpeculativeMethod.EAGLE3:
            kind, tokens = "Eagle", {"max_draft_len": wanted.draft_tokens}
        case SpeculativeMethod.MTP:
            return {"decoding_type": "MTP", "num_nextn_predict_layers": wanted.draft_tokens}
        case SpeculativeMethod.NGRAM:
            return {"decoding_type": "NGram", "max_draft_len": wanted.draft_tokens}
    return {"decoding_type": kind, **tokens, "speculative_model_dir": draft}
