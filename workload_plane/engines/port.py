"""The engine port: what a renderer is given, what it gives, and how it refuses.

Implemented by the modules beside this one (a module is a renderer), called through `catalogue`.
Rendering is pure: nothing is read, nothing is started, so that it can be held against golden files.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from skerry.fleet.engine import EngineName, EngineProtocol, EngineSpec


class Dialect(StrEnum):
    """The API that the replica host speaks to the engine to generate."""

    LLAMACPP = "llamacpp"  # llama.cpp's own /completion: token ids, log probabilities
    OPENAI = "openai"  # /v1/completions of everybody else: text only
    VLLM = "vllm"  # the same with vLLM's own fields: token ids, log probabilities, guides
    SGLANG = "sglang"  # SGLang's own /generate, whose events are deltas
    SGLANG_0_5_9 = "sglang-0.5.9"  # the same, where each event repeats the answer from its start
    TRTLLM_SERVE = "trtllm-serve"  # /v1/completions with TensorRT-LLM's own fields: guides, ids
    TRTLLM_SERVE_1_2 = "trtllm-serve-1.2"  # the same without log probabilities
    OPENENGINE = "openengine"  # the engine serves openengine.v1 itself, and no HTTP
    TRTLLM = "trtllm"  # the engine serves trtllm.TrtllmService, and no HTTP


# Where a request may name an adapter that the engine was started with.
ADAPTER_DIALECTS = frozenset({Dialect.VLLM, Dialect.SGLANG, Dialect.SGLANG_0_5_9})


# Where an engine listens that only its replica host may reach: its gRPC has no authentication, and
# openengine.v1's Control.Abort ends everybody's requests.
LOOPBACK = "127.0.0.1"


# The HTTP ports of a node's replicas differ modulo this: an engine may make a number of its port
# that has to be no other's.
PORT_NUMBERS = 256


class UnsupportedTechnique(ValueError):
    """The engine cannot do what was asked; the message names the fields and the remedies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One thing that an engine cannot do: the field of the deployment file, and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchParameters:
    """What depends on the place a replica runs at, beside the engine's spec.

    `accelerators` are the device numbers of this node; empty leaves the choice to the engine.
    `python` is the interpreter for engines that are Python modules. `worker_ports` are as many as
    `worker_ports_wanted` says; `adapter_paths` are (name, path) of LoRA adapters that are on this
    node already. `disk_path` is the replica's own directory for prefixes, instead of the spec's,
    which all replicas share. Over several `nodes` the engine has Ray place its ranks, one in each
    bundle of the placement group that it finds itself in.
    """

    model_path: str
    served_name: str
    host: str
    http_port: int
    config_dir: str
    python: str = "python3"
    accelerators: tuple[int, ...] = ()
    draft_model_path: str | None = None
    worker_ports: tuple[int, ...] = ()
    adapter_paths: tuple[tuple[str, str], ...] = ()
    disk_path: str | None = None
    nodes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRule:
    """How the engine ends: SIGTERM, then SIGKILL after `kill_after_seconds`.

    Requests are drained before SIGTERM, so the grace only has to cover the engine's own exit.
    """

    kill_after_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadMetrics:
    """Names of the engine's Prometheus samples that say how busy it is; None where it has none."""

    running_requests: str | None = None
    queued_requests: str | None = None
    prompt_tokens: str | None = None
    generated_tokens: str | None = None
    cached_prompt_tokens: str | None = None  # of the prompt tokens, those the cache already held
    kv_used_ratio: str | None = None  # share of the key-value cache in use, 0 to 1
    # Sum and count of the time to a request's first token, and of that between two tokens of one.
    first_token_seconds: str | None = None
    first_tokens: str | None = None
    first_token_buckets: str | None = None  # how many of them took so long at most, by `le`
    token_interval_seconds: str | None = None
    token_intervals: str | None = None
    token_interval_buckets: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProcess:
    """One process of a replica: what is started, and the port on which it then listens.

    `host` is where, the replica's own address if None.
    """

    name: str
    argv: tuple[str, ...]
    port: int
    environment: tuple[tuple[str, str], ...] = ()
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLaunch:
    """Everything needed to start one replica's engine and to talk to it.

    `argv` is the process that answers on the replica's HTTP port; `workers` are the others of a
    replica that has several, to be listening before it is started. `files` are (name inside the
    launch's config_dir, content), written before the start; `environment` is added to the host's
    own. `model_is_file` says that the base model is one file of this machine, so that its absence
    can be told before the start. `health_path` and `metrics_path` are empty where there is no HTTP:
    there `own_port` is where the engine serves gRPC of its own, on LOOPBACK. `turn_seconds_max` is
    how long its metrics page may wait for a turn of its work, None where it does not wait for any.
    """

    argv: tuple[str, ...]
    dialect: Dialect
    startup_seconds_max: float
    drain: DrainRule
    health_path: str = "/health"
    metrics_path: str = "/metrics"
    load_metrics: LoadMetrics = LoadMetrics()
    environment: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    model_is_file: bool = False
    workers: tuple[EngineProcess, ...] = ()
    own_port: int | None = None
    turn_seconds_max: float | None = None

    def processes(self, http_port: int) -> tuple[EngineProcess, ...]:
        """Return every process of the replica, in the order in which they are started."""
        main = EngineProcess(
            name="proxy" if self.workers else "engine",
            argv=self.argv,
            port=http_port if self.own_port is None else self.own_port,
            environment=self.environment,
            host=None if self.own_port is None else LOOPBACK,
        )
        return (*self.workers, main)


class EngineRenderer(Protocol):
    """One engine: says what it cannot do, and renders what it can."""

    VERSIONS: tuple[str, ...]
    """The release lines that it knows, oldest first; empty where it comes with the plane."""

    DEFAULT_VERSION: str
    """The line that is meant when a spec names none; empty where it comes with the plane."""

    def refusals(self, spec: EngineSpec) -> tuple[Refusal, ...]:
        """Return one refusal for each thing in the spec that the engine cannot do."""
        ...

    def render(self, spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
        """Return how the engine is started; the spec has no refusals."""
        ...


def worker_ports_wanted(spec: EngineSpec) -> int:
    """Return how many ports a replica needs beside its three: one for each server behind them."""
    if spec.disaggregation is not None:
        return spec.disaggregation.servers
    return int(passes_through(spec))


def passes_through(spec: EngineSpec) -> bool:
    """Return whether the engine serves gRPC of its own, and its host passes it on."""
    return spec.protocol is not EngineProtocol.HTTP


def keeps_prefixes_on_disk(spec: EngineSpec) -> bool:
    """Return whether a replica needs a directory for prefixes; the simulated engine has none."""
    caching = spec.prefix_caching
    return bool(caching.disk_path) and spec.name is not EngineName.SIMULATED


def disk_path(spec: EngineSpec, launch: LaunchParameters) -> str | None:
    """Return the directory for prefixes on disk, the replica's own where it has one."""
    wanted = spec.prefix_caching.disk_path
    return (launch.disk_path or wanted) if wanted else None


def visible_devices(launch: LaunchParameters) -> tuple[tuple[str, str], ...]:
    """Return the environment that keeps a CUDA program on the launch's accelerators.

    Nothing over several nodes: there Ray gives each rank its own.
    """
    if not launch.accelerators or launch.nodes > 1:
        return ()
    return (("CUDA_VISIBLE_DEVICES", ",".join(str(number) for number in launch.accelerators)),)


def reference_of(uri: str) -> str:
    """Return how an engine itself finds weights at a URI: a path, a hub's id, or else the URI."""
    for scheme in ("file://", "hf://"):
        if uri.startswith(scheme):
            return uri.removeprefix(scheme)
    return uri


def draft_model(spec: EngineSpec, launch: LaunchParameters) -> str | None:
    """Return where the engine finds the draft model: on this node, or else by its URI."""
    if spec.speculative is None or spec.speculative.draft_model_uri is None:
        return None
    return launch.draft_model_path or reference_of(spec.speculative.draft_model_uri)


def adapters(spec: EngineSpec, launch: LaunchParameters) -> tuple[tuple[str, str], ...]:
    """Return (name, path or hub's id) of each LoRA adapter, as the engine finds them."""
    here = dict(launch.adapter_paths)
    every = spec.lora.adapters if spec.lora else ()
    return tuple((one.name, here.get(one.name) or reference_of(one.uri)) for one in every)
