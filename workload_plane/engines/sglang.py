"""Renderer for SGLang (`python -m sglang.launch_server`), releases 0.5.9 and 0.5.23.

Flags with hyphens; draft lengths by load are one JSON file. Both releases' own argument parsers
are run on the golden command lines: `make test-engines`.
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
    IntegerOption,
    NumberOption,
    OptionRule,
    option_values,
)
from workload_plane.engines.parsers import parser_rules
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

VERSIONS: tuple[str, ...] = ("0.5.9", "0.5.23")
DEFAULT_VERSION = "0.5.23"
DRAFT_LENGTHS_FILE = "draft-lengths.json"

OPTIONS: tuple[OptionRule, ...] = (
    NumberOption(name="mem-fraction-static", least=0.01, most=1.0),
    IntegerOption(name="chunked-prefill-size", least=-1, most=1_048_576),
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
    "bitsandbytes": "bitsandbytes",
}
_KV_CACHE = {
    "auto": "auto",
    "bf16": "bf16",
    "fp8": "fp8_e4m3",
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
}
_KV_CACHE_OF = {"0.5.9": _KV_CACHE, "0.5.23": _KV_CACHE | {"nvfp4": "nvfp4"}}
_GUIDED = ("xgrammar", "llguidance", "outlines")
_ALGORITHMS = {
    SpeculativeMethod.DRAFT_MODEL: "STANDALONE",
    SpeculativeMethod.EAGLE3: "EAGLE3",
    SpeculativeMethod.MTP: "NEXTN",
    SpeculativeMethod.NGRAM: "NGRAM",
}
# Drafters whose length may change, and that go with adapters, are the EAGLE family.
_EAGLES = (SpeculativeMethod.EAGLE3, SpeculativeMethod.MTP)
_GB = 10**9  # its host cache is counted in whole gigabytes
_STARTUP_SECONDS_MAX = 3_600.0
_KILL_AFTER_SECONDS = 20.0


def refusals(spec: EngineSpec) -> tuple[Refusal, ...]:
    """Return one refusal for each thing in the spec that SGLang cannot do."""
    findings, release = findings_of(spec, VERSIONS, DEFAULT_VERSION)
    refuse_protocol(findings, spec)
    refuse_disaggregation(
        findings, spec, "the router before its prefill and decode servers is no part of it"
    )
    findings.refuse_unless_in(
        "quantisation.weights",
        spec.quantisation.weights,
        (*_DTYPES, *_WEIGHTS),
        "or leave it to the checkpoint",
    )
    findings.refuse_unless_in(
        "quantisation.kvCache",
        spec.quantisation.kv_cache,
        _KV_CACHE_OF[release],
        "or leave it to the engine",
    )
    _refuse_parallelism(findings, spec, release)
    refuse_caching_without_cache(findings, spec)
    _refuse_offload(findings, spec, release)
    _refuse_drafting(findings, spec, release)
    refuse_adapter_places(findings, spec)
    if spec.guided_decoding:
        findings.refuse_unless_in(
            "guidedDecoding.backend", spec.guided_decoding.backend, _GUIDED, "choose one of them"
        )
    findings.refuse_options(spec, _rules(release))
    batching = spec.batching
    findings.refuse_doubles(
        spec,
        {
            "mem-fraction-static": ("kvCache.memoryShare", spec.kv_cache.memory_share is not None),
            "chunked-prefill-size": (
                "batching",
                batching.tokens_max is not None or batching.chunked_prefill is not None,
            ),
        },
    )
    return findings.result()


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how SGLang is started; all but draft lengths by load is on its command line."""
    files: tuple[tuple[str, str], ...] = ()
    if spec.speculative and spec.speculative.draft_length_by_batch:
        files = ((DRAFT_LENGTHS_FILE, _draft_lengths(spec.speculative)),)
    return EngineLaunch(
        argv=_argv(spec, launch),
        dialect=Dialect.SGLANG_0_5_9 if _release(spec) == "0.5.9" else Dialect.SGLANG,
        startup_seconds_max=_STARTUP_SECONDS_MAX,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        load_metrics=LoadMetrics(
            running_requests="sglang:num_running_reqs",
            queued_requests="sglang:num_queue_reqs",
            prompt_tokens="sglang:prompt_tokens_total",
            generated_tokens="sglang:generation_tokens_total",
            cached_prompt_tokens="sglang:cached_tokens_total",
            kv_used_ratio="sglang:token_usage",
            first_token_seconds="sglang:time_to_first_token_seconds_sum",
            first_tokens="sglang:time_to_first_token_seconds_count",
            first_token_buckets="sglang:time_to_first_token_seconds_bucket",
            token_interval_seconds="sglang:inter_token_latency_seconds_sum",
            token_intervals="sglang:inter_token_latency_seconds_count",
            token_interval_buckets="sglang:inter_token_latency_seconds_bucket",
        ),
        environment=(*visible_devices(launch), *_environment(spec, launch)),
        files=files,
    )


def _release(spec: EngineSpec) -> str:
    return release_of(spec, VERSIONS, DEFAULT_VERSION) or DEFAULT_VERSION


def _rules(release: str) -> tuple[OptionRule, ...]:
    return (*OPTIONS, *parser_rules(EngineName.SGLANG, release))


def _argv(spec: EngineSpec, launch: LaunchParameters) -> tuple[str, ...]:
    release = _release(spec)
    argv = [launch.python, "-m", "sglang.launch_server", "--model-path", launch.model_path]
    argv += ["--served-model-name", launch.served_name]
    argv += ["--host", launch.host, "--port", str(launch.http_port)]
    argv += _parallelism(spec, release)
    argv += ["--context-length", str(spec.context_tokens)]
    argv += ["--max-running-requests", str(spec.concurrent_requests)]
    # Without it there is no /metrics.
    argv.append("--enable-metrics")
    if release != "0.5.9":
        # Else each event of `/generate` repeats its output from the beginning. 0.5.9's flag for it
        # breaks its OpenAI streams, which take deltas for the whole.
        argv.append("--incremental-streaming-output")
    argv += _precision(spec, release)
    argv += _memory(spec)
    argv += _batching(spec)
    argv += _speculative(spec, launch)
    if spec.guided_decoding:
        argv += ["--grammar-backend", spec.guided_decoding.backend]
    argv += _graphs(spec, release)
    for name, value in sorted(option_values(spec.options, _rules(release)).items()):
        argv += [f"--{name}", f"{value}"]
    # Last, as it takes every word that follows it.
    return (*argv, *_lora(spec, launch))


def _parallelism(spec: EngineSpec, release: str) -> list[str]:
    parallelism = spec.parallelism
    argv = ["--tp-size", str(parallelism.tensor), "--pp-size", str(parallelism.pipeline)]
    if parallelism.data > 1:
        argv += ["--dp-size", str(parallelism.data)]
    if parallelism.attention_data_parallel:
        # One attention group a tensor rank. 0.5.9 counts the groups as data parallelism.
        degree = str(parallelism.tensor)
        argv += (
            ["--dp-size", degree, "--enable-dp-attention"]
            if release == "0.5.9"
            else ["--attn-dp-size", degree]
        )
    if parallelism.expert > 1:
        argv += ["--ep-size", str(parallelism.expert)]
    return argv


def _precision(spec: EngineSpec, release: str) -> list[str]:
    argv: list[str] = []
    if (weights := spec.quantisation.weights) is not None:
        is_plain = weights in _DTYPES
        argv += ["--dtype", _DTYPES[weights]] if is_plain else ["--quantization"]
        argv += [] if is_plain else [_WEIGHTS[weights]]
    if spec.quantisation.kv_cache:
        argv += ["--kv-cache-dtype", _KV_CACHE_OF[release][spec.quantisation.kv_cache]]
    return argv


def _memory(spec: EngineSpec) -> list[str]:
    caching = spec.prefix_caching
    argv = [] if caching.enabled else ["--disable-radix-cache"]
    if spec.kv_cache.memory_share is not None:
        argv += ["--mem-fraction-static", f"{spec.kv_cache.memory_share}"]
    if caching.host_memory_bytes:
        argv += ["--enable-hierarchical-cache", "--hicache-size", str(_host_gigabytes(spec))]
    if caching.disk_path:
        argv += ["--hicache-storage-backend", "file"]
    return argv


def _environment(spec: EngineSpec, launch: LaunchParameters) -> tuple[tuple[str, str], ...]:
    """Return where the file tier is, which has no flag, and how large it may grow."""
    caching = spec.prefix_caching
    if (directory := disk_path(spec, launch)) is None:
        return ()
    place = ("SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR", directory)
    if not caching.disk_bytes:
        return (place,)
    # Each rank keeps, and evicts, files of its own.
    each = caching.disk_bytes // spec.parallelism.accelerators
    return (place, ("SGLANG_HICACHE_FILE_BACKEND_MAX_SIZE", str(each)))


def _batching(spec: EngineSpec) -> list[str]:
    batching = spec.batching
    if batching.chunked_prefill is False:
        bound = [] if batching.tokens_max is None else [str(batching.tokens_max)]
        return [
            "--chunked-prefill-size",
            "-1",
            *(["--max-prefill-tokens", *bound] if bound else []),
        ]
    if batching.tokens_max is not None:
        return ["--chunked-prefill-size", str(batching.tokens_max)]
    return []  # chunked, in pieces that it chooses by the accelerator's memory


def _speculative(spec: EngineSpec, launch: LaunchParameters) -> list[str]:
    wanted = spec.speculative
    if wanted is None:
        return []
    argv = ["--speculative-algorithm", _ALGORITHMS[wanted.method]]
    if wanted.method is SpeculativeMethod.NGRAM:
        return [*argv, "--speculative-num-draft-tokens", str(wanted.draft_tokens)]
    # Steps, width and tokens are set together or not at all; a chain verifies one token more.
    argv += ["--speculative-num-steps", str(wanted.draft_tokens), "--speculative-eagle-topk", "1"]
    argv += ["--speculative-num-draft-tokens", str(wanted.draft_tokens + 1)]
    if (draft := draft_model(spec, launch)) is not None:
        argv += ["--speculative-draft-model-path", draft]
    if wanted.draft_length_by_batch:
        path = f"{launch.config_dir}/{DRAFT_LENGTHS_FILE}"
        argv += ["--speculative-adaptive", "--speculative-adaptive-config", path]
    return argv


def _draft_lengths(wanted: SpeculativeDecoding) -> str:
    """Return its adaptive configuration with one length to choose from at each batch size."""
    steps = {
        str(step.batch): {"candidate_steps": [step.tokens]} for step in wanted.draft_length_by_batch
    }
    return json.dumps(steps, indent=2) + "\n"


def _graphs(spec: EngineSpec, release: str) -> list[str]:
    graphs = spec.cuda_graphs
    if graphs is None:
        return []
    is_old = release == "0.5.9"
    if not graphs.enabled:
        by_phase = ["--disable-decode-cuda-graph", "--disable-prefill-cuda-graph"]
        return ["--disable-cuda-graph"] if is_old else by_phase
    if graphs.batch_sizes:
        flag = "--cuda-graph-bs" if is_old else "--cuda-graph-bs-decode"
        return [flag, *map(str, graphs.batch_sizes)]
    if graphs.batch_max is not None:
        flag = "--cuda-graph-max-bs" if is_old else "--cuda-graph-max-bs-decode"
        return [flag, str(graphs.batch_max)]
    return []


def _lora(spec: EngineSpec, launch: LaunchParameters) -> list[str]:
    if spec.lora is None:
        return []
    argv = ["--enable-lora", "--max-lora-rank", str(spec.lora.rank_max)]
    # A batch's requests for the base model alone take one of the places.
    argv += ["--max-loras-per-batch", str(spec.lora.concurrent_max + 1)]
    modules = (
        json.dumps({"lora_name": name, "lora_path": path}, sort_keys=True)
        for name, path in adapters(spec, launch)
    )
    return [*argv, "--lora-paths", *modules]


def _host_gigabytes(spec: EngineSpec) -> int:
    """Return the whole gigabytes of host memory that each rank's cache may take."""
    return (spec.prefix_caching.host_memory_bytes or 0) // spec.parallelism.accelerators // _GB


def _refuse_parallelism(findings: Findings, spec: EngineSpec, release: str) -> None:
    parallelism = spec.parallelism
    if parallelism.tensor % parallelism.expert:
        findings.refuse(
            "parallelism.expert",
            f"{parallelism.expert} must divide the tensor parallelism {parallelism.tensor}",
        )
    if parallelism.attention_data_parallel and parallelism.data > 1 and release == "0.5.9":
        findings.refuse(
            "parallelism.data",
            "is taken by attention data parallelism; set it to 1, or set version 0.5.23",
        )


def _refuse_offload(findings: Findings, spec: EngineSpec, release: str) -> None:
    caching = spec.prefix_caching
    refuse_disk_without_host(findings, spec)
    if caching.host_memory_bytes and _host_gigabytes(spec) < 1:
        findings.refuse(
            "prefixCaching.hostMemory",
            f"{caching.host_memory_bytes} bytes are less than 1 GB for each of"
            f" {spec.parallelism.accelerators} ranks; give more or none",
        )
    if caching.disk_bytes and release == "0.5.9":
        findings.refuse(
            "prefixCaching.disk",
            "its disk tier has no bound; drop the size, and let diskPath be on a volume that has,"
            " or set version 0.5.23",
        )


def _refuse_drafting(findings: Findings, spec: EngineSpec, release: str) -> None:
    wanted = spec.speculative
    if wanted is None:
        return
    if wanted.method is SpeculativeMethod.NGRAM and spec.parallelism.attention_data_parallel:
        findings.refuse(
            "speculativeDecoding.method", "ngram does not go with attention data parallelism"
        )
    with_adapters = (SpeculativeMethod.NGRAM, *(_EAGLES if release == "0.5.23" else ()))
    if spec.lora and wanted.method not in with_adapters:
        findings.refuse(
            "speculativeDecoding.method",
            f"{wanted.method} does not go with lora; choose {', '.join(with_adapters)}",
        )
    if not wanted.draft_length_by_batch:
        return
    place = "speculativeDecoding.draftLengthByBatch"
    if release == "0.5.9":
        findings.refuse(place, "the draft length is fixed; leave it out, or set version 0.5.23")
    elif wanted.method not in _EAGLES:
        findings.refuse(
            place, f"the length of {wanted.method} is fixed; choose {', '.join(_EAGLES)}"
        )
    elif spec.parallelism.attention_data_parallel or spec.lora:
        findings.refuse(place, "does not go with attention data parallelism nor lora; leave it out")
