"""The engine port: what a renderer is given, what it gives, and how it refuses.

Implemented by the modules beside this one (a module is a renderer), called through `catalogue`.
Rendering is pure: nothing is read, nothing is started, so that it can be held against golden files.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from skerry.fleet.engine import EngineSpec


class Dialect(StrEnum):
    """The HTTP API that the replica host speaks to the engine to generate."""

    LLAMACPP = "llamacpp"  # llama.cpp's own /completion: token ids, log probabilities
    OPENAI = "openai"  # /v1/completions of everybody else: text only


class UnsupportedTechnique(ValueError):
    """The engine cannot do what was asked; the message names the technique and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchParameters:
    """What depends on the place a replica runs at, beside the engine's spec.

    `accelerators` are the device numbers of this node; empty leaves the choice to the engine.
    `python` is the interpreter for engines that are Python modules.
    """

    model_path: str
    served_name: str
    host: str
    http_port: int
    config_dir: str
    python: str = "python3"
    accelerators: tuple[int, ...] = ()
    draft_model_path: str | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLaunch:
    """Everything needed to start one engine process and to talk to it.

    `files` are (name inside the launch's config_dir, content), written before the start;
    `environment` is added to the host's own. `model_is_file` says that the base model is one file
    of this machine, so that its absence can be told before the start.
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


class EngineRenderer(Protocol):
    """One engine: says what it cannot do, and renders what it can."""

    def refusals(self, spec: EngineSpec) -> tuple[str, ...]:
        """Return one sentence for each thing in the spec that the engine cannot do."""
        ...

    def render(self, spec: EngineSpec, launch: LaunchParameters) -> EngineLaunch:
        """Return how the engine is started; the spec has no refusals."""
        ...


def visible_devices(launch: LaunchParameters) -> tuple[tuple[str, str], ...]:
    """Return the environment that keeps a CUDA program on the launch's accelerators."""
    if not launch.accelerators:
        return ()
    return (("CUDA_VISIBLE_DEVICES", ",".join(str(number) for number in launch.accelerators)),)
