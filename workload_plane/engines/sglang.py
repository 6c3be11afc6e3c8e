"""Renderer for SGLang (`python -m sglang.launch_server`); flags with hyphens."""

from skerry.fleet.engine import EngineSpec, SpeculativeMethod
from workload_plane.engines.options import (
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
    NumberOption(name="mem-fraction-static", least=0.01, most=1.0),
    IntegerOption(name="chunked-prefill-size", least=-1, most=1_048_576),
)
_WEIGHTS = ("fp8", "awq", "gptq")
_KV_CACHE = ("auto", "fp8_e4m3", "fp8_e5m2")
_ALGORITHMS = {
    SpeculativeMethod.DRAFT_MODEL: "STANDALONE",
    SpeculativeMethod.EAGLE3: "EAGLE3",
    SpeculativeMethod.NGRAM: "NGRAM",
}
_STARTUP_SECONDS_MAX = 3_600.0
_KILL_AFTER_SECONDS = 20.0


def refusals(spec: EngineSpec) -> tuple[str, ...]:
    """Return one sentence for each thing in the spec that SGLang cannot do."""
    found: list[str] = []
    if spec.disaggregation is not None:
        found.append("disaggregation: a replica is one aggregated SGLang for now; remove it")
    if spec.quantisation.weights not in (None, *_WEIGHTS):
        found.append(
            f"quantisation of weights {spec.quantisation.weights!r}: SGLang takes"
            f" {', '.join(_WEIGHTS)}, or leave it to the checkpoint"
        )
    if spec.quantisation.kv_cache not in (None, *_KV_CACHE):
        found.append(
            f"quantisation of the KV cache {spec.quantisation.kv_cache!r}: SGLang takes"
            f" {', '.join(_KV_CACHE)}"
        )
    if spec.speculative and spec.speculative.method not in _ALGORITHMS:
        found.append(
            f"speculative decoding by {spec.speculative.method}: not rendered for SGLang; choose"
            f" {', '.join(sorted(_ALGORITHMS))}"
        )
    if spec.parallelism.tensor % spec.parallelism.expert:
        found.append(
            f"expert parallelism {spec.parallelism.expert}: must divide the tensor parallelism"
            f" {spec.parallelism.tensor}"
        )
    if spec.parallelism.attention_data_parallel:
        found.append(
            "attention data parallelism: not rendered for SGLang; remove it or choose tensorrt-llm"
        )
    if spec.prefix_caching.host_memory_bytes:
        found.append("prefix caching in host memory: not rendered for SGLang; drop the bytes")
    return (*found, *option_refusals(spec.options, _OPTIONS, "sglang"))


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how SGLang is started; everything is on its command line."""
    return EngineLaunch(
        argv=_argv(spec, launch),
        dialect=Dialect.OPENAI,
        startup_seconds_max=_STARTUP_SECONDS_MAX,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        load_metrics=LoadMetrics(
            running_requests="sglang:num_running_reqs",
            queued_requests="sglang:num_queue_reqs",
        ),
        environment=visible_devices(launch),
    )


def _argv(spec: EngineSpec, launch: LaunchParameters) -> tuple[str, ...]:
    parallelism = spec.parallelism
    argv = [launch.python, "-m", "sglang.launch_server", "--model-path", launch.model_path]
    argv += ["--served-model-name", launch.served_name]
    argv += ["--host", launch.host, "--port", str(launch.http_port)]
    argv += ["--tp-size", str(parallelism.tensor), "--pp-size", str(parallelism.pipeline)]
    if parallelism.expert > 1:
        argv += ["--ep-size", str(parallelism.expert)]
    argv += ["--context-length", str(spec.context_tokens)]
    argv += ["--max-running-requests", str(spec.concurrent_requests)]
    # Without it there is no /metrics.
    argv.append("--enable-metrics")
    if spec.quantisation.weights:
        argv += ["--quantization", spec.quantisation.weights]
    if spec.quantisation.kv_cache:
        argv += ["--kv-cache-dtype", spec.quantisation.kv_cache]
    if not spec.prefix_caching.enabled:
        argv.append("--disable-radix-cache")
    argv += _speculative(spec, launch)
    for name, value in sorted(option_values(spec.options, _OPTIONS).items()):
        argv += [f"--{name}", f"{value}"]
    return tuple(argv)


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
    if wanted.draft_model_uri:
        path = launch.draft_model_path or wanted.draft_model_uri
        argv += ["--speculative-draft-model-path", path]
    return argv
