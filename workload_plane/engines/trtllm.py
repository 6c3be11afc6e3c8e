"""Renderer for TensorRT-LLM (`trtllm-serve`), release lines 1.2 and 1.4.

On the command line are only the base model, host, port, parallel degrees, protocol and `--config`;
all else is in the YAML, where an unknown key stops the engine at its start. Flags have underscores
only (`--grpc-protocol` is the engine's own exception). Disaggregation: `trtllm_disaggregated`.
"""

from dataclasses import replace

from skerry.fleet.engine import EngineProtocol, EngineSpec, SpeculativeMethod
from workload_plane.engines import trtllm_disaggregated as disaggregated
from workload_plane.engines.findings import (
    Findings,
    findings_of,
    refuse_caching_without_cache,
    release_of,
)
from workload_plane.engines.options import (
    BooleanOption,
    ChoiceOption,
    IntegerOption,
    NumberOption,
    OptionRule,
)
from workload_plane.engines.parsers import parser_rules, reasoning_parser, tool_parser
from workload_plane.engines.port import (
    LOOPBACK,
    Dialect,
    DrainRule,
    EngineLaunch,
    LaunchParameters,
    LoadMetrics,
    Refusal,
    passes_through,
    visible_devices,
)
from workload_plane.engines.trtllm_config import config_of, serve_flags, yaml_text

# 1.4 has pre-releases only; a plane that runs them says so.
VERSIONS: tuple[str, ...] = ("1.2", "1.4")
DEFAULT_VERSION = "1.2"
CONFIG_FILE = "trtllm.yaml"

# By the YAML's own names; those with a dot go into that section.
OPTIONS: tuple[OptionRule, ...] = (
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
_GUIDED = ("xgrammar", "llguidance")
# Which drafters change their length while they run: 1.2 those that are engines of their own, 1.4
# those inside the base model's.
_SCHEDULED = {
    "1.2": (SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.NGRAM),
    "1.4": (SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.EAGLE3, SpeculativeMethod.MTP),
}
_COMPLETIONS = {"1.2": Dialect.TRTLLM_SERVE_1_2, "1.4": Dialect.TRTLLM_SERVE}
_DIALECTS = {
    EngineProtocol.OPENENGINE: Dialect.OPENENGINE,
    EngineProtocol.TRTLLM: Dialect.TRTLLM,
}
# 1.2 tells times alone: its counts of requests, tokens and blocks came with 1.3, so only the
# plane's gateway knows how many requests such a replica has.
_TIMES = LoadMetrics(
    first_token_seconds="trtllm_time_to_first_token_seconds_sum",
    first_tokens="trtllm_time_to_first_token_seconds_count",
    first_token_buckets="trtllm_time_to_first_token_seconds_bucket",
    token_interval_seconds="trtllm_time_per_output_token_seconds_sum",
    token_intervals="trtllm_time_per_output_token_seconds_count",
    token_interval_buckets="trtllm_time_per_output_token_seconds_bucket",
)
_LOAD_METRICS = {
    "1.2": _TIMES,
    "1.4": replace(
        _TIMES,
        running_requests="trtllm_num_requests_running",
        queued_requests="trtllm_num_requests_waiting",
        prompt_tokens="trtllm_prompt_tokens_total",
        generated_tokens="trtllm_generation_tokens_total",
        cached_prompt_tokens="trtllm_prompt_cached_tokens_total",
        kv_used_ratio="trtllm_kv_cache_utilization",
    ),
}
# A 405 B checkpoint from cold network storage took tens of minutes to load.
_STARTUP_SECONDS_MAX = 3_600.0
# SIGTERM waits for open responses without bound, so the kill is on our own timer.
_KILL_AFTER_SECONDS = 30.0


def refusals(spec: EngineSpec) -> tuple[Refusal, ...]:
    """Return one refusal for each thing in the spec that TensorRT-LLM cannot do."""
    findings, release = findings_of(spec, VERSIONS, DEFAULT_VERSION)
    _refuse_protocol(findings, spec, release)
    findings.refuse_unless_in(
        "quantisation.weights",
        spec.quantisation.weights,
        _WEIGHTS,
        "the checkpoint decides: name what it holds or leave it out",
    )
    findings.refuse_unless_in(
        "quantisation.kvCache", spec.quantisation.kv_cache, _KV_CACHE, "leave it to the engine"
    )
    _refuse_parallelism(findings, spec)
    refuse_caching_without_cache(findings, spec)
    _refuse_disk(findings, spec, release)
    _refuse_draft_lengths(findings, spec, release)
    if spec.lora is not None:
        findings.refuse(
            "lora",
            "a request says where on the node an adapter lies, and could name any path there;"
            " leave it out",
        )
    if spec.guided_decoding:
        findings.refuse_unless_in(
            "guidedDecoding.backend", spec.guided_decoding.backend, _GUIDED, "choose one of them"
        )
    disaggregated.refuse(findings, spec)
    findings.refuse_options(spec, (*OPTIONS, *parser_rules(spec.name, release)))
    if spec.protocol is not EngineProtocol.HTTP and (tool_parser(spec) or reasoning_parser(spec)):
        findings.refuse("options", f"there is no chat over {spec.protocol}; name no parsers")
    findings.refuse_doubles(
        spec,
        {
            "max_num_tokens": ("batching.tokensMax", spec.batching.tokens_max is not None),
            "enable_chunked_prefill": (
                "batching.chunkedPrefill",
                spec.batching.chunked_prefill is not None,
            ),
            "guided_decoding_backend": (
                "guidedDecoding.backend",
                spec.guided_decoding is not None,
            ),
            "kv_cache_config.free_gpu_memory_fraction": (
                "kvCache.memoryShare",
                spec.kv_cache.memory_share is not None,
            ),
        },
    )
    return findings.result()


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how trtllm-serve is started; its techniques are in YAML files."""
    release = release_of(spec, VERSIONS, DEFAULT_VERSION) or DEFAULT_VERSION
    config = config_of(spec, launch, release, OPTIONS)
    is_http, own_port = not passes_through(spec), None
    if spec.disaggregation is not None:
        plan = disaggregated.plan_of(spec, launch, config, release)
        argv, workers, files = plan.argv, plan.workers, plan.files
        environment = plan.environment
    else:
        flags = serve_flags(spec, f"{launch.config_dir}/{CONFIG_FILE}")
        place: tuple[str, ...] = ("--host", launch.host, "--port", str(launch.http_port))
        if not is_http:
            own_port = _own_port(launch)
            # Else it calls itself by the path of its weights in GetModelInfo.
            named = ("--served_model_name", launch.served_name)
            place = ("--host", LOOPBACK, "--port", str(own_port), *named)
        argv = ("trtllm-serve", "serve", launch.model_path, *place, *flags)
        workers, files = (), ((CONFIG_FILE, yaml_text(spec, config)),)
        environment = _spread(spec) if launch.nodes > 1 else visible_devices(launch)
    return EngineLaunch(
        argv=argv,
        workers=workers,
        dialect=_COMPLETIONS[release] if is_http else _DIALECTS[spec.protocol],
        startup_seconds_max=_STARTUP_SECONDS_MAX,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        health_path="/health" if is_http else "",
        # `/metrics` is a JSON list that is emptied by reading; this one is Prometheus.
        metrics_path="/prometheus/metrics" if is_http else "",
        load_metrics=_LOAD_METRICS[release] if is_http else LoadMetrics(),
        environment=environment,
        files=files,
        own_port=own_port,
    )


def _spread(spec: EngineSpec) -> tuple[tuple[str, str], ...]:
    """Return what has each rank take a bundle of the current placement group, in their order.

    Without it TensorRT-LLM makes a group of its own, on whichever nodes are free.
    """
    bundles = ",".join(str(rank) for rank in range(spec.parallelism.accelerators))
    return (("TRTLLM_RAY_BUNDLE_INDICES", bundles),)


def _own_port(launch: LaunchParameters) -> int:
    if len(launch.worker_ports) != 1:
        raise ValueError(f"gRPC of its own needs one port, not {launch.worker_ports}")
    return launch.worker_ports[0]


def _refuse_protocol(findings: Findings, spec: EngineSpec, release: str) -> None:
    if spec.protocol is EngineProtocol.HTTP:
        return
    if release == "1.2":
        findings.refuse("protocol", "serves HTTP only; leave it out, or set version 1.4")
    elif spec.disaggregation is not None:
        findings.refuse("protocol", "a disaggregated replica answers over HTTP; leave it out")


def _refuse_parallelism(findings: Findings, spec: EngineSpec) -> None:
    parallelism = spec.parallelism
    if parallelism.tensor % parallelism.expert:
        findings.refuse(
            "parallelism.expert",
            f"{parallelism.expert} must divide the tensor parallelism {parallelism.tensor}",
        )
    if parallelism.data > 1:
        findings.refuse(
            "parallelism.data",
            "one server holds the base model once; set it to 1 and scale by replicas",
        )


def _refuse_disk(findings: Findings, spec: EngineSpec, release: str) -> None:
    caching = spec.prefix_caching
    if caching.disk_path is None:
        return
    if release == "1.2":
        findings.refuse("prefixCaching.diskPath", "has no disk tier; drop it, or set version 1.4")
    elif not caching.disk_bytes:
        findings.refuse("prefixCaching.diskPath", "the size is needed as well: set disk")
    elif spec.disaggregation is not None:
        findings.refuse(
            "prefixCaching.diskPath", "servers apart would share one directory; leave it out"
        )


def _refuse_draft_lengths(findings: Findings, spec: EngineSpec, release: str) -> None:
    wanted = spec.speculative
    if wanted is None or not wanted.draft_length_by_batch:
        return
    methods = _SCHEDULED[release]
    if wanted.method not in methods:
        findings.refuse(
            "speculativeDecoding.draftLengthByBatch",
            f"the length of {wanted.method} is fixed; leave it out, or choose {', '.join(methods)}",
        )
