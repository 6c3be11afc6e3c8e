"""Renderer for the simulated engine: a latency model that takes every technique and uses none.

Its options set the model and the faults; see `workload_plane.simulated.config`.
"""

import json

from skerry.fleet.engine import EngineSpec
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
)

CONFIG_FILE = "simulated.json"

_OPTIONS: tuple[OptionRule, ...] = (
    IntegerOption(name="seed", least=0, most=2**31 - 1),
    IntegerOption(name="queue-requests-max", least=0, most=100_000),
    NumberOption(name="startup-seconds", least=0, most=3_600),
    NumberOption(name="ttft-seconds", least=0, most=600),
    NumberOption(name="prefill-tokens-per-second", least=1, most=1e7),
    NumberOption(name="tpot-seconds", least=0, most=60),
    NumberOption(name="tpot-seconds-per-request", least=0, most=60),
    NumberOption(name="jitter", least=0, most=1),
    NumberOption(name="slow-factor", least=0.01, most=1_000),
    IntegerOption(name="fail-after-requests", least=0, most=2**31 - 1),
    IntegerOption(name="hang-after-requests", least=0, most=2**31 - 1),
)
_STARTUP_SECONDS_MAX = 60.0
_KILL_AFTER_SECONDS = 2.0


def refusals(spec: EngineSpec) -> tuple[str, ...]:
    """Return one sentence for each option that the simulated engine does not know."""
    return option_refusals(spec.options, _OPTIONS, "simulated")


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
    config.update((name.replace("-", "_"), value) for name, value in options.items())
    path = f"{launch.config_dir}/{CONFIG_FILE}"
    return EngineLaunch(
        argv=(launch.python, "-m", "workload_plane.simulated", "--config", path),
        dialect=Dialect.LLAMACPP,
        startup_seconds_max=_STARTUP_SECONDS_MAX + startup,
        drain=DrainRule(kill_after_seconds=_KILL_AFTER_SECONDS),
        load_metrics=LoadMetrics(
            running_requests="simulated_requests_running",
            queued_requests="simulated_requests_waiting",
            prompt_tokens="simulated_prompt_tokens_total",
            generated_tokens="simulated_generated_tokens_total",
        ),
        files=((CONFIG_FILE, json.dumps(config, indent=2) + "\n"),),
    )
