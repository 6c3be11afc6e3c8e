"""TensorRT-LLM with prefill and decode apart: context servers, generation servers and a proxy.

One replica is then several processes on one node: each server has accelerators and a port of its
own, and `trtllm-serve disaggregated` in front of them answers on the replica's port.
"""

from dataclasses import dataclass

from skerry.fleet.engine import Disaggregation, EngineSpec
from workload_plane.engines.findings import Findings
from workload_plane.engines.port import PORT_NUMBERS, EngineProcess, LaunchParameters
from workload_plane.engines.trtllm_config import Config, serve_flags, yaml_text

PROXY_FILE = "disaggregated.yaml"
CONTEXT_FILE = "context.yaml"
GENERATION_FILE = "generation.yaml"
# A request's deadline is the gateway's to keep: the proxy's own, 180 s, would cut long answers.
_REQUEST_SECONDS_MAX = 86_400
# The host starts the proxy once all servers listen; it must not be the one who gives them up.
_SERVERS_SECONDS_MAX = 3_600
# Blocks stored and removed since the router last asked; it asks several times a second.
_EVENT_BUFFER_MAX = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class DisaggregatedPlan:
    """The proxy's command and environment, the servers behind it, and everybody's files."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    workers: tuple[EngineProcess, ...]
    files: tuple[tuple[str, str], ...]


def refuse(findings: Findings, spec: EngineSpec) -> None:
    """Refuse what does not go together with prefill and decode apart."""
    apart = spec.disaggregation
    if apart is None:
        return
    if apart.local_prefill_tokens_max and not spec.prefix_caching.enabled:
        findings.refuse(
            "disaggregation.localPrefillTokensMax",
            "what is cached decides where a prompt is prefilled; enable prefixCaching or set 0",
        )
    for name, value in spec.options:
        if name == "disable_overlap_scheduler" and value.lower() == "false":
            findings.refuse(
                "options", "option 'disable_overlap_scheduler': context servers need it true"
            )


def plan_of(
    spec: EngineSpec, launch: LaunchParameters, config: Config, release: str
) -> DisaggregatedPlan:
    """Return the processes and files of a disaggregated replica."""
    apart = spec.disaggregation
    assert apart is not None
    if len(launch.worker_ports) != apart.servers:
        raise ValueError(f"{apart.servers} servers need a port each, not {launch.worker_ports}")
    # The proxy itself computes nothing, and must not hold an accelerator.
    environment = (("CUDA_VISIBLE_DEVICES", ""),) if launch.accelerators else ()
    return DisaggregatedPlan(
        argv=(
            *("trtllm-serve", "disaggregated", "-c", f"{launch.config_dir}/{PROXY_FILE}"),
            *("-r", str(_REQUEST_SECONDS_MAX), "-t", str(_SERVERS_SECONDS_MAX)),
        ),
        environment=environment,
        workers=tuple(_worker(spec, launch, apart, index) for index in range(apart.servers)),
        files=(
            (CONTEXT_FILE, yaml_text(spec, _context(spec, config))),
            (GENERATION_FILE, yaml_text(spec, _generation(spec, config))),
            (PROXY_FILE, _proxy_text(apart, launch, release)),
        ),
    )


def _worker(
    spec: EngineSpec, launch: LaunchParameters, apart: Disaggregation, index: int
) -> EngineProcess:
    is_context = index < apart.prefill_replicas
    file = CONTEXT_FILE if is_context else GENERATION_FILE
    number = index if is_context else index - apart.prefill_replicas
    port = launch.worker_ports[index]
    degree = spec.parallelism.accelerators
    devices = launch.accelerators[index * degree : (index + 1) * degree]
    return EngineProcess(
        name=f"{'context' if is_context else 'generation'}-{number}",
        argv=(
            *("trtllm-serve", "serve", launch.model_path, "--host", launch.host),
            *("--port", str(port), *serve_flags(spec, f"{launch.config_dir}/{file}")),
        ),
        port=port,
        environment=((("CUDA_VISIBLE_DEVICES", ",".join(map(str, devices))),) if devices else ()),
    )


def _transceiver(spec: EngineSpec) -> Config:
    # A prompt's whole cache must fit the buffer through which it is handed over.
    return {"backend": "DEFAULT", "max_tokens_in_buffer": spec.context_tokens}


def _context(spec: EngineSpec, config: Config) -> Config:
    # Context servers do not run with the overlap scheduler.
    return config | {
        "cache_transceiver_config": _transceiver(spec),
        "disable_overlap_scheduler": True,
    }


def _generation(spec: EngineSpec, config: Config) -> Config:
    changed = config | {"cache_transceiver_config": _transceiver(spec)}
    if spec.disaggregation and spec.disaggregation.local_prefill_tokens_max:
        cache = config["kv_cache_config"]
        assert isinstance(cache, dict)
        # From these events the router learns what each generation server has cached.
        changed["kv_cache_config"] = cache | {"event_buffer_max_size": _EVENT_BUFFER_MAX}
    return changed


def _proxy_text(apart: Disaggregation, launch: LaunchParameters, release: str) -> str:
    import yaml  # as in trtllm_config: only a replica of this kind pays for it

    urls = [f"{launch.host}:{port}" for port in launch.worker_ports]
    generation: Config = {
        "num_instances": apart.decode_replicas,
        "urls": urls[apart.prefill_replicas :],
    }
    config: Config = {
        "hostname": launch.host,
        "port": launch.http_port,
        "context_servers": {
            "num_instances": apart.prefill_replicas,
            "urls": urls[: apart.prefill_replicas],
        },
        "generation_servers": generation,
    }
    if apart.local_prefill_tokens_max:
        config["conditional_disagg_config"] = {
            "max_local_prefill_length": apart.local_prefill_tokens_max
        }
        # Only this router knows what is cached where, which the condition is about.
        generation["router"] = {"type": "kv_cache_aware"}
    if release != "1.2":
        # It goes into 8 bits of request ids; two proxies of one node need different ones.
        config["node_id"] = launch.http_port % PORT_NUMBERS
    text: str = yaml.safe_dump(config, sort_keys=True)
    return text
