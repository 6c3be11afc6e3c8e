"""The flags and the YAML of one trtllm-serve server; `trtllm` and its disaggregation render it.

Keys are those of TorchLlmArgs. Where 1.2 and 1.4 have different names for the same thing the
older one is kept as long as 1.4 still takes it.
"""

from collections.abc import Sequence

from skerry.fleet.engine import (
    CudaGraphs,
    EngineProtocol,
    EngineSpec,
    SpeculativeDecoding,
    SpeculativeMethod,
)
from workload_plane.engines.options import OptionRule, option_values
from workload_plane.engines.parsers import (
    TRTLLM_REASONING,
    TRTLLM_TOOLS,
    reasoning_parser,
    tool_parser,
)
from workload_plane.engines.port import LaunchParameters, disk_path, draft_model

Config = dict[str, object]

_DECODING_TYPES = {
    SpeculativeMethod.DRAFT_MODEL: "Draft_Target",
    SpeculativeMethod.EAGLE3: "Eagle",  # EAGLE-3 on the PyTorch backend, in both lines
    SpeculativeMethod.MTP: "MTP",
    SpeculativeMethod.NGRAM: "NGram",
}


def config_of(
    spec: EngineSpec, launch: LaunchParameters, release: str, rules: Sequence[OptionRule]
) -> Config:
    """Return the YAML's values; the spec has no refusals."""
    config: Config = {
        "max_batch_size": spec.concurrent_requests,
        "max_seq_len": spec.context_tokens,
        "enable_attention_dp": spec.parallelism.attention_data_parallel,
        # Without these two there is no Prometheus page, and nothing on it.
        "return_perf_metrics": True,
        "enable_iter_perf_stats": True,
    }
    if launch.nodes > 1:
        config["orchestrator_type"] = "ray"  # else MPI, which nobody starts on the other nodes
    if release != "1.2":
        config["telemetry_config"] = {"disabled": True}  # on by default since 1.3
    if spec.batching.tokens_max is not None:
        config["max_num_tokens"] = spec.batching.tokens_max
    if spec.batching.chunked_prefill is not None:
        config["enable_chunked_prefill"] = spec.batching.chunked_prefill
    if spec.guided_decoding is not None:
        config["guided_decoding_backend"] = spec.guided_decoding.backend
    if spec.cuda_graphs is not None:
        config["cuda_graph_config"] = _graphs(spec.cuda_graphs)
    if spec.speculative is not None:
        config["speculative_config"] = _speculative(spec, spec.speculative, launch, release)
    sections: dict[str, Config] = {"kv_cache_config": _kv_cache(spec, launch)}
    named = (TRTLLM_TOOLS, TRTLLM_REASONING)  # which are flags
    options = tuple(option for option in spec.options if option[0] not in named)
    for name, value in option_values(options, rules).items():
        section, _, key = name.rpartition(".")
        (sections.setdefault(section, {}) if section else config)[key] = value
    return config | sections


def serve_flags(spec: EngineSpec, config_path: str) -> tuple[str, ...]:
    """Return the flags of one server after its host and port."""
    argv = ["--tp_size", str(spec.parallelism.tensor), "--pp_size", str(spec.parallelism.pipeline)]
    if spec.parallelism.expert > 1:
        argv += ["--ep_size", str(spec.parallelism.expert)]
    if spec.protocol is EngineProtocol.OPENENGINE:
        argv += ["--grpc", "--grpc-protocol", "openengine"]
    elif spec.protocol is EngineProtocol.TRTLLM:
        # The first protocol it had, and the default since it has two. At `info` it writes a line of
        # each HealthCheck, of which the replica host makes five a second.
        argv += ["--grpc", "--log_level", "warning"]
    if tools := tool_parser(spec):
        argv += ["--tool_parser", tools]
    if reasoning := reasoning_parser(spec):
        argv += ["--reasoning_parser", reasoning]
    return (*argv, "--config", config_path)


def yaml_text(spec: EngineSpec, config: Config) -> str:
    """Return the file's text; what the file cannot say of the checkpoint is said in comments."""
    import yaml  # 50 ms and 2 MB that every other engine's replica host does without

    comments = []
    if spec.quantisation.weights:
        comments.append(f"# weights: {spec.quantisation.weights}, as the checkpoint has them\n")
    text: str = yaml.safe_dump(config, sort_keys=True)
    return "".join(comments) + text


def _kv_cache(spec: EngineSpec, launch: LaunchParameters) -> Config:
    caching, ranks = spec.prefix_caching, spec.parallelism.accelerators
    cache: Config = {"enable_block_reuse": caching.enabled}
    if spec.kv_cache.memory_share is not None:
        cache["free_gpu_memory_fraction"] = spec.kv_cache.memory_share
    if caching.host_memory_bytes:
        # Every rank has a host cache of its own; the spec's is of the whole server.
        cache["host_cache_size"] = caching.host_memory_bytes // ranks
    if caching.disk_path and caching.disk_bytes:
        cache["disk_cache_path"] = disk_path(spec, launch)
        cache["disk_cache_size"] = caching.disk_bytes // ranks
        cache["use_kv_cache_manager_v2"] = True
    if spec.quantisation.kv_cache:
        cache["dtype"] = spec.quantisation.kv_cache
    return cache


def _graphs(graphs: CudaGraphs) -> Config | None:
    if not graphs.enabled:
        return None  # the key without a value: no graphs
    config: Config = {"enable_padding": True}  # or only the very sizes captured would use one
    if graphs.batch_sizes:
        config["batch_sizes"] = list(graphs.batch_sizes)
    if graphs.batch_max is not None:
        config["max_batch_size"] = graphs.batch_max
    return config


def _speculative(
    spec: EngineSpec, wanted: SpeculativeDecoding, launch: LaunchParameters, release: str
) -> Config:
    config: Config = {"decoding_type": _DECODING_TYPES[wanted.method]}
    # 1.2 counts MTP's draft tokens by its layers; 1.4 has one name for every method.
    is_by_layers = wanted.method is SpeculativeMethod.MTP and release == "1.2"
    config["num_nextn_predict_layers" if is_by_layers else "max_draft_len"] = wanted.draft_tokens
    if (draft := draft_model(spec, launch)) is not None:
        config["speculative_model_dir"] = draft
    if wanted.draft_length_by_batch:
        config["draft_len_schedule"] = _schedule(spec, wanted, release)
    return config


def _schedule(spec: EngineSpec, wanted: SpeculativeDecoding, release: str) -> dict[int, int]:
    """Return the draft lengths by batch: from a batch on in 1.2, up to a batch in 1.4."""
    steps = wanted.draft_length_by_batch
    if release == "1.2":
        return {step.batch: step.tokens for step in steps}
    ends = [step.batch - 1 for step in steps[1:]] + [max(spec.concurrent_requests, steps[-1].batch)]
    by_end = {end: step.tokens for end, step in zip(ends, steps, strict=True)}
    if steps[-1].tokens == 0:
        del by_end[ends[-1]]  # past the last one there is no drafting anyway
    return by_end
