"""Renderer for vLLM (`vllm serve`), releases 0.16 and 0.33; hyphens in flags, JSON in some values.

Both releases' own argument parsers are run on the golden command lines: `make test-engines`.
"""

import json

from skerry.fleet.engine import EngineName, EngineSpec, SpeculativeDecoding, SpeculativeMethod
from workload_plane.engines.findings import (
    Findings,
    findings_of,
    refuse_adapter_places,
    refuse_caching_without_cache,
    refuse_disaggregation,
    refuse_disk_without_host,
    refuse_protocol,
    release_of,
)
from workload_plane.engines.options import (
    BooleanOption,
    IntegerOption,
    NumberOption,
    OptionRule,
    option_values,
)
from workload_plane.engines.parsers import TOOLS, parser_rules, tool_parser
from workload_plane.engines.port import (
    Dialect,
    DrainRule,
    EngineLaunch,
    LaunchParameters,
    LoadMetrics,
    Refusal,
    adapters,
    disk_path,
    draft_model,
    visible_devices,
)

VERSIONS: tuple[str, ...] = ("0.16", "0.33")
DEFAULT_VERSION = "0.33"

_TOKENS_OPTION = "max-num-batched-tokens"
_AUTO_TOOLS = "enable-auto-tool-choice"
OPTIONS: tuple[OptionRule, ...] = (
    NumberOption(name="gpu-memory-utilization", least=0.01, most=1.0),
    IntegerOption(name=_TOKENS_OPTION, least=1, most=1_048_576),
    BooleanOption(name="enforce-eager"),
    BooleanOption(name=_AUTO_TOOLS),
)
# Our names -> `--quantization`; of the first two the checkpoint is not quantised at all.
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
_WEIGHTS = {
    "fp8": "fp8",
    "int4-awq": "awq",
    "awq": "awq",
    "gptq": "gptq",
    "nvfp4": "modelopt_fp4",
    "mxfp4": "mxfp4",
}
_WEIGHTS_OF = {"0.16": _WEIGHTS | {"bitsandbytes": "bitsandbytes"}, "0.33": _WEIGHTS}
_KV_CACHE = {
    "auto": "auto",
    "bf16": "bfloat16",
    "fp8": "fp8",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
}
_KV_CACHE_OF = {"0.16": _KV_CACHE, "0.33": _KV_CACHE | {"nvfp4": "nvfp4"}}
_GUIDED = {"xgrammar": "xgrammar", "llguidance": "guidance", "outlines": "outlines"}
# It takes a rank of these only; the next one up is rendered.
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_METHODS = {
    SpeculativeMethod.DRAFT_MODEL: "draft_model",
    SpeculativeMethod.EAGLE3: "eagle3",
    SpeculativeMethod.MTP: "mtp",
    SpeculativeMethod.NGRAM: "ngram",
}
_GIB = 2**30
# Weights, then compilation and graph capture, which may take minutes of their own.
_STARTUP_SECONDS_MAX = 3_600.0
# Its shutdown_timeout of 0 aborts what is left, so the exit itself is quick.
_KILL_AFTER_SECONDS = 20.0


def refusals(spec: EngineSpec) -> tuple[Refusal, ...]:
    """Return one refusal for each thing in the spec that vLLM cannot do."""
    findings, release = findings_of(spec, VERSIONS, DEFAULT_VERSION)
    refuse_protocol(findings, spec)
    refuse_disaggregation(
        findings, spec, "the proxy before its prefill and decode servers is no part of it"
    )
    findings.refuse_unless_in(
        "quantisation.weights",
        spec.quantisation.weights,
        (*_DTYPES, *_WEIGHTS_OF[release]),
        "or leave it to the checkpoint",
    )
    findings.refuse_unless_in(
        "quantisation.kvCache",
        spec.quantisation.kv_cache,
        _KV_CACHE_OF[release],
        "or leave it to the engine",
    )
    _refuse_parallelism(findings, spec)
    _refuse_batching(findings, spec)
    refuse_caching_without_cache(findings, spec)
    _refuse_disk(findings, spec, release)
    if spec.speculative and spec.speculative.draft_length_by_batch and release == "0.16":
        findings.refuse(
            "speculativeDecoding.draftLengthByBatch",
            "the draft length is fixed; leave it out, or set version 0.33",
        )
    refuse_adapter_places(findings, spec)
    if spec.lora and spec.lora.rank_max > _LORA_RANKS[-1]:
        findings.refuse("lora.rankMax", f"{spec.lora.rank_max} is above {_LORA_RANKS[-1]}")
    if spec.guided_decoding:
        findings.refuse_unless_in(
            "guidedDecoding.backend", spec.guided_decoding.backend, _GUIDED, "choose one of them"
        )
    findings.refuse_options(spec, _rules(release))
    if dict(spec.options).get(_AUTO_TOOLS, "").lower() == "true" and not tool_parser(spec):
        findings.refuse("options", f"option {_AUTO_TOOLS!r} needs {TOOLS!r}; name a parser")
    findings.refuse_doubles(
        spec,
        {
            "gpu-memory-utilization": (
                "kvCache.memoryShare",
                spec.kv_cache.memory_share is not None,
            ),
            _TOKENS_OPTION: (
                "batching.tokensMax",
                spec.batching.tokens_max is not None,
            ),
            "enforce-eager": ("cudaGraphs", spec.cuda_graphs is not None),
        },
    )
    return findings.result()


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how vLLM is started; everything is on its command line."""
    return EngineLaunch(
        argv=_argv(spec, launch),
        dialect=Dialect.VLLM,
        startup_seconds_max=_STARTUP_SECONDS_MAX,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        load_metrics=LoadMetrics(
            running_requests="vllm:num_requests_running",
            queued_requests="vllm:num_requests_waiting",
            prompt_tokens="vllm:prompt_tokens_total",
            generated_tokens="vllm:generation_tokens_total",
            cached_prompt_tokens="vllm:prompt_tokens_cached_total",
            kv_used_ratio="vllm:kv_cache_usage_perc",
            first_token_seconds="vllm:time_to_first_token_seconds_sum",
            first_tokens="vllm:time_to_first_token_seconds_count",
            first_token_buckets="vllm:time_to_first_token_seconds_bucket",
            token_interval_seconds="vllm:inter_token_latency_seconds_sum",
            token_intervals="vllm:inter_token_latency_seconds_count",
            token_interval_buckets="vllm:inter_token_latency_seconds_bucket",
        ),
        environment=visible_devices(launch),
    )


def _rules(release: str) -> tuple[OptionRule, ...]:
    return (*OPTIONS, *parser_rules(EngineName.VLLM, release))


def _argv(spec: EngineSpec, launch: LaunchParameters) -> tuple[str, ...]:
    release = release_of(spec, VERSIONS, DEFAULT_VERSION) or DEFAULT_VERSION
    argv = ["vllm", "serve", launch.model_path, "--served-model-name", launch.served_name]
    argv += ["--host", launch.host, "--port", str(launch.http_port)]
    argv += _parallelism(spec)
    if launch.nodes > 1:
        # Its ranks take the bundles of the current placement group, those of this node first.
        argv += ["--distributed-executor-backend", "ray"]
    argv += ["--max-model-len", str(spec.context_tokens)]
    argv += ["--max-num-seqs", str(spec.concurrent_requests)]
    argv += _precision(spec, release)
    argv += _memory(spec, launch)
    argv += _batching(spec)
    if spec.speculative:
        argv += ["--speculative-config", _speculative(spec, spec.speculative, launch)]
    if spec.guided_decoding:
        backend = _GUIDED[spec.guided_decoding.backend]
        argv += ["--structured-outputs-config", _json({"backend": backend})]
    argv += _graphs(spec)
    for name, value in sorted(option_values(spec.options, _rules(release)).items()):
        if value is True:
            argv.append(f"--{name}")
        elif value is not False:
            argv += [f"--{name}", f"{value}"]
    # Last, as it takes every word that follows it.
    return (*argv, *_lora(spec, launch))


def _parallelism(spec: EngineSpec) -> list[str]:
    parallelism = spec.parallelism
    argv = ["--tensor-parallel-size", str(parallelism.tensor)]
    argv += ["--pipeline-parallel-size", str(parallelism.pipeline)]
    if parallelism.data > 1:
        argv += ["--data-parallel-size", str(parallelism.data)]
    if parallelism.expert > 1:
        argv.append("--enable-expert-parallel")
    return argv


def _precision(spec: EngineSpec, release: str) -> list[str]:
    argv: list[str] = []
    if (weights := spec.quantisation.weights) is not None:
        is_plain = weights in _DTYPES
        argv += ["--dtype", _DTYPES[weights]] if is_plain else ["--quantization"]
        argv += [] if is_plain else [_WEIGHTS_OF[release][weights]]
    if spec.quantisation.kv_cache:
        argv += ["--kv-cache-dtype", _KV_CACHE_OF[release][spec.quantisation.kv_cache]]
    return argv


def _memory(spec: EngineSpec, launch: LaunchParameters) -> list[str]:
    caching = spec.prefix_caching
    argv = ["--enable-prefix-caching" if caching.enabled else "--no-enable-prefix-caching"]
    if spec.kv_cache.memory_share is not None:
        argv += ["--gpu-memory-utilization", f"{spec.kv_cache.memory_share}"]
    if caching.disk_path:
        tiers: dict[str, object] = {
            "spec_name": "TieringOffloadingSpec",
            "cpu_bytes_to_use": caching.host_memory_bytes,
            "secondary_tiers": [{"type": "fs", "root_dir": disk_path(spec, launch)}],
        }
        transfer: dict[str, object] = {
            "kv_connector": "OffloadingConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": tiers,
        }
        argv += ["--kv-transfer-config", _json(transfer)]
    elif caching.host_memory_bytes:
        # In GiB, and of all ranks together, as the spec has it.
        argv += ["--kv-offloading-size", f"{caching.host_memory_bytes / _GIB}"]
    return argv


def _batching(spec: EngineSpec) -> list[str]:
    argv: list[str] = []
    if spec.batching.tokens_max is not None:
        argv += ["--max-num-batched-tokens", str(spec.batching.tokens_max)]
    if spec.batching.chunked_prefill is not None:
        is_on = spec.batching.chunked_prefill
        argv.append("--enable-chunked-prefill" if is_on else "--no-enable-chunked-prefill")
    return argv


def _speculative(spec: EngineSpec, wanted: SpeculativeDecoding, launch: LaunchParameters) -> str:
    config: dict[str, object] = {
        "method": _METHODS[wanted.method],
        "num_speculative_tokens": wanted.draft_tokens,
    }
    if (draft := draft_model(spec, launch)) is not None:
        config["model"] = draft
    if steps := wanted.draft_length_by_batch:
        ends = [step.batch - 1 for step in steps[1:]]
        ends.append(max(spec.concurrent_requests, steps[-1].batch))
        # First and last batch of each range, both included.
        config["num_speculative_tokens_per_batch_size"] = [
            [step.batch, end, step.tokens] for step, end in zip(steps, ends, strict=True)
        ]
    return _json(config)


def _graphs(spec: EngineSpec) -> list[str]:
    graphs = spec.cuda_graphs
    if graphs is None:
        return []
    if not graphs.enabled:
        # `--enforce-eager` would give up compilation as well.
        return ["--compilation-config", _json({"cudagraph_mode": "NONE"})]
    if graphs.batch_sizes:
        return ["--cudagraph-capture-sizes", *map(str, graphs.batch_sizes)]
    if graphs.batch_max is not None:
        return ["--max-cudagraph-capture-size", str(graphs.batch_max)]
    return []


def _lora(spec: EngineSpec, launch: LaunchParameters) -> list[str]:
    if spec.lora is None:
        return []
    rank = next(rank for rank in _LORA_RANKS if rank >= spec.lora.rank_max)
    argv = ["--enable-lora", "--max-lora-rank", str(rank)]
    argv += ["--max-loras", str(spec.lora.concurrent_max)]
    argv += ["--max-cpu-loras", str(max(len(spec.lora.adapters), spec.lora.concurrent_max))]
    # As JSON: a path may have a comma or a `=` in it.
    modules = (_json({"name": name, "path": path}) for name, path in adapters(spec, launch))
    return [*argv, "--lora-modules", *modules]


def _refuse_parallelism(findings: Findings, spec: EngineSpec) -> None:
    parallelism = spec.parallelism
    whole = parallelism.tensor * parallelism.data
    if parallelism.expert not in (1, whole):
        findings.refuse(
            "parallelism.expert",
            f"{parallelism.expert}: it is on or off; set it to 1 or to tensor x data = {whole}",
        )
    if parallelism.attention_data_parallel:
        findings.refuse(
            "parallelism.attentionDataParallel",
            "attention takes accelerators of its own for each copy; set data, and expert to"
            " tensor x data, instead",
        )


def _refuse_batching(findings: Findings, spec: EngineSpec) -> None:
    if spec.batching.chunked_prefill is not False:
        return
    said = [("batching.tokensMax", "", spec.batching.tokens_max)]
    said += [
        # What is no number is refused as an option.
        ("options", f"option {name!r}: ", int(text) if text.isdecimal() else None)
        for name, text in spec.options
        if name == _TOKENS_OPTION
    ]
    for path, prefix, tokens in said:
        if tokens is not None and tokens < spec.context_tokens:
            findings.refuse(
                path,
                f"{prefix}{tokens} is below contextTokens, {spec.context_tokens}, which a prefill"
                " in one piece may have; raise it, or leave chunkedPrefill on",
            )


def _refuse_disk(findings: Findings, spec: EngineSpec, release: str) -> None:
    caching = spec.prefix_caching
    if caching.disk_path is None:
        return
    if release == "0.16":
        findings.refuse("prefixCaching.diskPath", "has no disk tier; drop it, or set version 0.33")
        return
    refuse_disk_without_host(findings, spec)
    if caching.disk_bytes:
        findings.refuse(
            "prefixCaching.disk",
            "its disk tier has no bound; drop the size, and let diskPath be on a volume that has",
        )


def _json(value: dict[str, object]) -> str:
    return json.dumps(value, sort_keys=True)
