"""Renderer for llama.cpp, the default on CPUs, run by `workload_plane.llamacpp_server`.

One GGUF file holds weights, tokenizer and chat template, and decides the weights' format.
"""

import json

from skerry.fleet.engine import EngineSpec
from workload_plane.engines.findings import (
    Findings,
    findings_of,
    refuse_caching_without_cache,
    refuse_disaggregation,
    refuse_protocol,
)
from workload_plane.engines.options import BooleanOption, IntegerOption, OptionRule, option_values
from workload_plane.engines.port import (
    Dialect,
    DrainRule,
    EngineLaunch,
    LaunchParameters,
    LoadMetrics,
    Refusal,
    visible_devices,
)

VERSIONS: tuple[str, ...] = ()
DEFAULT_VERSION = ""
CONFIG_FILE = "llamacpp.json"

_BATCH_TOKENS_MIN = 32
_BATCH_TOKENS_MAX = 16_384
OPTIONS: tuple[OptionRule, ...] = (
    IntegerOption(name="threads", least=1, most=256),
    IntegerOption(name="batch-size", least=_BATCH_TOKENS_MIN, most=_BATCH_TOKENS_MAX),
    IntegerOption(name="n-gpu-layers", least=0, most=1_000),
    # Says that the file's chat template knows tools; without it the gateway refuses requests with
    # tools (`workload_plane.gateway.refusals`), since llama.cpp would ignore them.
    BooleanOption(name="tools"),
)
# The file decides; a name says which file is expected. Formats that a GGUF commonly has.
_WEIGHTS = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
_KV_CACHE = ("f32", "f16", "bf16", "q8_0", "q4_0")
# One thread each: with two on a 2-core machine, four streams fell from 6,800 to 54 tokens/s.
_THREADS_DEFAULT = 1
_BATCH_TOKENS_DEFAULT = 512
# A small file listens in 0.1 s; a 40 GB one is read from a cold disk at 200 MB/s.
_STARTUP_SECONDS_MAX = 300.0
# It reads one batch of prompts in a turn. Whatever takes longer than this pace and the bound that a
# gateway has on pauses is stuck: in a grammar, or in 100,000 words to choose from.
_TOKENS_PER_SECOND_MIN = 4.0
_TURN_SECONDS_MIN = 30.0
# Its own exit takes 1.3 s at worst.
_KILL_AFTER_SECONDS = 3.0


def refusals(spec: EngineSpec) -> tuple[Refusal, ...]:
    """Return one refusal for each thing in the spec that llama.cpp cannot do."""
    findings, _ = findings_of(spec, VERSIONS, DEFAULT_VERSION)
    refuse_protocol(findings, spec)
    refuse_disaggregation(findings, spec, "cannot split prefill from decode")
    findings.refuse_unless_in(
        "quantisation.weights",
        spec.quantisation.weights,
        _WEIGHTS,
        "the GGUF file decides: name what it holds or leave it out",
    )
    findings.refuse_unless_in(
        "quantisation.kvCache", spec.quantisation.kv_cache, _KV_CACHE, "choose one or leave it out"
    )
    _refuse_parallelism(findings, spec)
    _refuse_techniques(findings, spec)
    _refuse_batching(findings, spec)
    refuse_caching_without_cache(findings, spec)
    if spec.prefix_caching.disk_path:
        findings.refuse("prefixCaching.diskPath", "has no disk tier; drop it")
    findings.refuse_options(spec, OPTIONS)
    findings.refuse_doubles(
        spec, {"batch-size": ("batching.tokensMax", spec.batching.tokens_max is not None)}
    )
    return findings.result()


def _refuse_parallelism(findings: Findings, spec: EngineSpec) -> None:
    parallelism = spec.parallelism
    for name in ("tensor", "pipeline", "expert", "data"):
        if getattr(parallelism, name) > 1:
            findings.refuse(f"parallelism.{name}", "runs on one accelerator here; set it to 1")
    if parallelism.attention_data_parallel:
        findings.refuse("parallelism.attentionDataParallel", "has none; remove it")


def _refuse_techniques(findings: Findings, spec: EngineSpec) -> None:
    if spec.speculative is not None:
        findings.refuse(
            "speculativeDecoding",
            f"drafting by {spec.speculative.method} is not rendered; remove it",
        )
    if spec.kv_cache.memory_share is not None:
        findings.refuse(
            "kvCache.memoryShare",
            "the cache has room for concurrentRequests of contextTokens each; set those",
        )
    if spec.lora is not None:
        findings.refuse("lora", "adapters are not rendered; merge one into the GGUF file")
    if spec.guided_decoding is not None:
        findings.refuse("guidedDecoding", "always uses its own grammars; remove it")
    if spec.cuda_graphs is not None:
        findings.refuse("cudaGraphs", "decides by itself; remove it")


def _refuse_batching(findings: Findings, spec: EngineSpec) -> None:
    tokens = spec.batching.tokens_max
    if tokens is not None and not _BATCH_TOKENS_MIN <= tokens <= _BATCH_TOKENS_MAX:
        findings.refuse(
            "batching.tokensMax", f"{tokens} must be in {_BATCH_TOKENS_MIN}..{_BATCH_TOKENS_MAX}"
        )
    if spec.batching.chunked_prefill is False:
        findings.refuse("batching.chunkedPrefill", "always prefills in pieces; remove it")


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how llama.cpp is started; its configuration is one JSON file."""
    options = option_values(spec.options, OPTIONS)
    cache = spec.prefix_caching
    batch_tokens = int(spec.batching.tokens_max or options.get("batch-size", _BATCH_TOKENS_DEFAULT))
    config = {
        "model_path": launch.model_path,
        "served_name": launch.served_name,
        "host": launch.host,
        "port": launch.http_port,
        "slots": spec.concurrent_requests,
        "context_tokens": spec.context_tokens,
        "threads": options.get("threads", _THREADS_DEFAULT),
        "batch_tokens": batch_tokens,
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
        turn_seconds_max=max(_TURN_SECONDS_MIN, batch_tokens / _TOKENS_PER_SECOND_MIN),
        load_metrics=LoadMetrics(
            running_requests="llamacpp:requests_processing",
            queued_requests="llamacpp:requests_deferred",
            prompt_tokens="llamacpp:prompt_tokens_total",
            generated_tokens="llamacpp:tokens_predicted_total",
            cached_prompt_tokens="llamacpp:prompt_tokens_cached_total",
            token_interval_seconds="llamacpp:tokens_predicted_seconds_total",
            token_intervals="llamacpp:tokens_predicted_total",
        ),
        environment=visible_devices(launch),
        files=((CONFIG_FILE, json.dumps(config, indent=2) + "\n"),),
        model_is_file=True,
    )
