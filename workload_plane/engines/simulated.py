"""Renderer for the simulated engine: a latency model that takes every technique and uses none.

Its options set the model and the faults; docs/operating/simulated.md tells what each does.
"""

import dataclasses
import json

from skerry.fleet.engine import EngineSpec
from workload_plane.engines.findings import findings_of, refuse_protocol
from workload_plane.engines.options import (
    BooleanOption,
    ChoiceOption,
    IntegerOption,
    NumberOption,
    OptionRule,
    option_values,
)
from workload_plane.engines.port import (
    Dialect,
    DrainRule,
    EngineLaunch,
    LaunchParameters,
    LoadMetrics,
    Refusal,
)
from workload_plane.simulated.answers import POISON_WORD, WORDS
from workload_plane.simulated.config import KvPolicy

VERSIONS: tuple[str, ...] = ()
DEFAULT_VERSION = ""
CONFIG_FILE = "simulated.json"
# What a real engine would be told; read by people only.
TECHNIQUES_FILE = "techniques.json"

_OPTIONS: tuple[OptionRule, ...] = (
    IntegerOption(name="seed", least=0, most=2**31 - 1),
    IntegerOption(name="queue-requests-max", least=0, most=100_000),
    NumberOption(name="startup-seconds", least=0, most=3_600),
    NumberOption(name="ttft-seconds", least=0, most=600),
    NumberOption(name="prefill-tokens-per-second", least=1, most=1e12),
    NumberOption(name="tpot-seconds", least=0, most=60),
    NumberOption(name="tpot-seconds-per-request", least=0, most=60),
    NumberOption(name="tpot-seconds-per-context-token", least=0, most=1),
    IntegerOption(name="batch-tokens-max", least=1, most=2**20),
    IntegerOption(name="kv-cache-tokens", least=0, most=2**31 - 1),
    IntegerOption(name="kv-block-tokens", least=1, most=1_024),
    ChoiceOption(name="kv-policy", choices=tuple(KvPolicy)),
    IntegerOption(name="keep-alive-seconds", least=0, most=3_600),
    NumberOption(name="jitter", least=0, most=1),
    # Faults; 0 and false are never.
    NumberOption(name="slow-factor", least=0.01, most=1_000),
    IntegerOption(name="slow-after-requests", least=0, most=2**31 - 1),
    IntegerOption(name="exit-at-start-code", least=0, most=255),
    IntegerOption(name="fail-after-requests", least=0, most=2**31 - 1),
    IntegerOption(name="fail-after-tokens", least=0, most=2**53),
    ChoiceOption(name="fail-on-word", choices=(POISON_WORD, *WORDS)),
    IntegerOption(name="fail-exit-code", least=0, most=255),
    IntegerOption(name="hang-after-requests", least=0, most=2**31 - 1),
    IntegerOption(name="stall-after-tokens", least=0, most=2**53),
    NumberOption(name="error-rate", least=0, most=1),
    IntegerOption(name="unhealthy-after-requests", least=0, most=2**31 - 1),
    BooleanOption(name="unhealthy"),
    IntegerOption(name="refuse-after-requests", least=0, most=2**31 - 1),
    NumberOption(name="refuse-seconds", least=0, most=3_600),
    IntegerOption(name="leak-bytes-per-request", least=0, most=2**26),
    IntegerOption(name="leak-bytes-max", least=0, most=2**33),
    BooleanOption(name="ignore-sigterm"),
)
_STARTUP_SECONDS_MAX = 60.0
_KILL_AFTER_SECONDS = 2.0


def refusals(spec: EngineSpec) -> tuple[Refusal, ...]:
    """Return one refusal for each option that the simulated engine does not know."""
    findings, _ = findings_of(spec, VERSIONS, DEFAULT_VERSION)
    refuse_protocol(findings, spec)
    findings.refuse_options(spec, _OPTIONS)
    return findings.result()


def render(spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
    """Return how the simulated engine is started; its configuration is one JSON file."""
    options = option_values(spec.options, _OPTIONS)
    startup = float(options.get("startup-seconds", 0.0))
    config: dict[str, object] = {
        "served_name": launch.served_name,
        "host": launch.host,
        "port": launch.http_port,
        "concurrent_requests": spec.concurrent_requests,
        "context_tokens": spec.context_tokens,
    }
    if not spec.prefix_caching.enabled:
        config["prefix_caching"] = False
    if spec.batching.tokens_max is not None:
        config["batch_tokens_max"] = spec.batching.tokens_max
    if spec.batching.chunked_prefill is False:
        config["chunked_prefill"] = False
    config.update((name.replace("-", "_"), value) for name, value in options.items())
    path = f"{launch.config_dir}/{CONFIG_FILE}"
    # Over several nodes it is a driver of Ray's with a rank on each of them, as real engines are.
    module = "workload_plane.replicas.ray.ranks" if launch.nodes > 1 else "workload_plane.simulated"
    return EngineLaunch(
        argv=(launch.python, "-m", module, "--config", path),
        dialect=Dialect.LLAMACPP,
        startup_seconds_max=_STARTUP_SECONDS_MAX + startup,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        load_metrics=LoadMetrics(
            running_requests="trtllm_num_requests_running",
            queued_requests="trtllm_num_requests_waiting",
            prompt_tokens="trtllm_prompt_tokens_total",
            generated_tokens="trtllm_generation_tokens_total",
            cached_prompt_tokens="trtllm_prompt_cached_tokens_total",
            first_token_seconds="trtllm_time_to_first_token_seconds_sum",
            first_tokens="trtllm_time_to_first_token_seconds_count",
            first_token_buckets="trtllm_time_to_first_token_seconds_bucket",
            token_interval_seconds="trtllm_time_per_output_token_seconds_sum",
            token_intervals="trtllm_time_per_output_token_seconds_count",
            token_interval_buckets="trtllm_time_per_output_token_seconds_bucket",
        ),
        files=(
            (CONFIG_FILE, json.dumps(config, indent=2) + "\n"),
            (TECHNIQUES_FILE, json.dumps(_techniques(spec), indent=2) + "\n"),
        ),
    )


def _techniques(spec: EngineSpec) -> dict[str, object]:
    """Return every technique of the spec that is not its default."""
    default = dataclasses.asdict(EngineSpec(name=spec.name))
    told = dataclasses.asdict(spec)
    beside = ("name", "options", "context_tokens", "concurrent_requests")
    return {
        name: value for name, value in told.items() if name not in beside and value != default[name]
    }
