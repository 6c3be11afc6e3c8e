"""What an engine is asked to do: one typed configuration for every engine, by technique.

`workload_plane.engines` renders it for each engine and refuses what an engine cannot do.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class EngineName(StrEnum):
    """The programs that can run inside a replica."""

    TENSORRT_LLM = "tensorrt-llm"
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    SIMULATED = "simulated"


class SpeculativeMethod(StrEnum):
    """Ways of drafting tokens; not every engine has every one."""

    DRAFT_MODEL = "draft-model"
    EAGLE3 = "eagle3"
    MTP = "mtp"
    NGRAM = "ngram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """Weight format and type of the KV cache; None leaves the checkpoint's own."""

    weights: str | None = None
    kv_cache: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeDecoding:
    """Draft `draft_tokens` ahead by `method`; `draft_model_uri` where the method needs one."""

    method: SpeculativeMethod
    draft_tokens: int
    draft_model_uri: str | None = None

    def __post_init__(self) -> None:
        if self.draft_tokens < 1:
            raise ValueError(f"draft_tokens must be at least 1, not {self.draft_tokens}")
        needs_model = self.method in (SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.EAGLE3)
        if needs_model and not self.draft_model_uri:
            raise ValueError(f"speculative decoding by {self.method} needs draft_model_uri")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixCaching:
    """Reuse of KV blocks between requests, with an optional spill to host memory."""

    enabled: bool = True
    host_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """Degrees of tensor, pipeline and expert parallelism of one replica."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    attention_data_parallel: bool = False

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline", "expert"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} parallelism must be at least 1, not {getattr(self, name)}"
                )

    @property
    def accelerators(self) -> int:
        """Return how many accelerators one replica takes."""
        return self.tensor * self.pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Disaggregation:
    """Prefill and decode on accelerators of their own; shorter prefills stay local."""

    prefill_replicas: int
    decode_replicas: int
    local_prefill_tokens_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """The engine of a revision and all its techniques.

    `context_tokens` and `concurrent_requests` are per replica; `options` go to the engine as they
    are, by the engine's own names, after the allow-list of its renderer.
    """

    name: EngineName
    context_tokens: int = 2048
    concurrent_requests: int = 4
    quantisation: Quantisation = field(default_factory=Quantisation)
    speculative: SpeculativeDecoding | None = None
    prefix_caching: PrefixCaching = field(default_factory=PrefixCaching)
    parallelism: Parallelism = field(default_factory=Parallelism)
    disaggregation: Disaggregation | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.context_tokens < 1 or self.concurrent_requests < 1:
            raise ValueError("context_tokens and concurrent_requests must be at least 1")
