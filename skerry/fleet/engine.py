"""What an engine is asked to do: one typed configuration for every engine, by technique.

`workload_plane.engines` renders it for each engine and version, and refuses what one cannot do.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

ADAPTERS_MAX = 64  # one replica; more adapters than that are loaded at run time, not at the start
ASKED_MAX = 1_024  # engines of which an answer is remembered; fleets have dozens
DRAFT_LENGTHS_MAX = 16  # steps of a schedule; an engine captures graphs for each
LORA_RANK_DEFAULT = 16  # what vLLM and most adapters have
GRAPH_SIZES_MAX = 256  # each captured size costs start-up time and accelerator memory
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,3}([a-z]+[0-9]+|\.post[0-9]+)?")
# The name goes onto command lines as NAME=PATH and into a request's `model`.
_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class EngineName(StrEnum):
    """The programs that can run inside a replica."""

    TENSORRT_LLM = "tensorrt-llm"
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    SIMULATED = "simulated"


class EngineProtocol(StrEnum):
    """What the engine itself speaks: the replica host translates HTTP, and passes on the others."""

    HTTP = "http"
    OPENENGINE = "openengine"
    TRTLLM = "trtllm"  # `trtllm.TrtllmService`: tokens in, tokens out


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
class KvCache:
    """How much accelerator memory the KV cache may take; None leaves it to the engine.

    `memory_share` is in the engine's own measure: `docs/engines.md` says of what it is a share.
    """

    memory_share: float | None = None

    def __post_init__(self) -> None:
        share = self.memory_share
        if share is not None and not (math.isfinite(share) and 0.0 < share <= 1.0):
            raise ValueError(f"memory_share must be above 0 and at most 1, not {share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How much one step of the engine takes on; None leaves it to the engine.

    `tokens_max` bounds the tokens of a step, or of a prefill's chunk where prefills are chunked.
    """

    tokens_max: int | None = None
    chunked_prefill: bool | None = None

    def __post_init__(self) -> None:
        if self.tokens_max is not None and self.tokens_max < 1:
            raise ValueError(f"tokens_max must be at least 1, not {self.tokens_max}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftLength:
    """From `batch` running requests on, `tokens` are drafted ahead; 0 drafts none."""

    batch: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeDecoding:
    """Draft `draft_tokens` ahead by `method`; `draft_model_uri` where the method needs one.

    `draft_length_by_batch` drafts less under load: it begins at batch 1 with `draft_tokens`.
    """

    method: SpeculativeMethod
    draft_tokens: int
    draft_model_uri: str | None = None
    draft_length_by_batch: tuple[DraftLength, ...] = ()

    def __post_init__(self) -> None:
        if self.draft_tokens < 1:
            raise ValueError(f"draft_tokens must be at least 1, not {self.draft_tokens}")
        needs_model = self.method in (SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.EAGLE3)
        if needs_model and not self.draft_model_uri:
            raise ValueError(f"speculative decoding by {self.method} needs draft_model_uri")
        if fault := draft_schedule_fault(
            self.draft_tokens, [(step.batch, step.tokens) for step in self.draft_length_by_batch]
        ):
            raise ValueError(fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixCaching:
    """Reuse of KV blocks between requests, with an optional spill to host memory and to disk.

    `disk_path` is a directory of the plane's nodes, in which each replica has one of its own;
    `disk_bytes` bounds what a replica keeps there.
    """

    enabled: bool = True
    host_memory_bytes: int | None = None
    disk_path: str | None = None
    disk_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("host_memory_bytes", "disk_bytes"):
            count = getattr(self, name)
            if count is not None and count < 0:
                raise ValueError(f"{name} must not be negative: {count}")
        if self.disk_path is not None and not is_plain_path(self.disk_path):
            raise ValueError(f"disk_path must be an absolute path without '..': {self.disk_path}")
        if self.disk_bytes is not None and self.disk_path is None:
            raise ValueError("disk_bytes needs disk_path: the directory that holds them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """Degrees of tensor, pipeline, data and expert parallelism of one replica."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    attention_data_parallel: bool = False
    data: int = 1

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline", "expert", "data"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} parallelism must be at least 1, not {getattr(self, name)}"
                )

    @property
    def accelerators(self) -> int:
        """Return how many accelerators one server of a replica takes."""
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Disaggregation:
    """Prefill and decode on accelerators of their own; shorter prefills stay local.

    A prompt of which at most `local_prefill_tokens_max` tokens are not cached is prefilled where
    it is decoded; 0 sends every prompt to a prefill server.
    """

    prefill_replicas: int
    decode_replicas: int
    local_prefill_tokens_max: int = 0

    def __post_init__(self) -> None:
        if min(self.prefill_replicas, self.decode_replicas) < 1:
            raise ValueError("disaggregation needs at least 1 prefill and 1 decode replica")
        if self.local_prefill_tokens_max < 0:
            raise ValueError("local_prefill_tokens_max must not be negative")

    @property
    def servers(self) -> int:
        """Return how many servers with accelerators of their own one replica has."""
        return self.prefill_replicas + self.decode_replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraAdapter:
    """One adapter: the name that requests choose it by, and where it is."""

    name: str
    uri: str

    def __post_init__(self) -> None:
        if not _ADAPTER_NAME.fullmatch(self.name):
            raise ValueError(
                f"adapter name {self.name[:63]!r} must be 1-63 characters of A-Z, a-z, 0-9 and ._-"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Adapters over the base model: the largest rank, and how many one batch may mix."""

    adapters: tuple[LoraAdapter, ...]
    rank_max: int = LORA_RANK_DEFAULT
    concurrent_max: int = 1

    def __post_init__(self) -> None:
        names = [adapter.name for adapter in self.adapters]
        if not 1 <= len(names) <= ADAPTERS_MAX:
            raise ValueError(f"lora needs 1 to {ADAPTERS_MAX} adapters, not {len(names)}")
        if len(set(names)) != len(names):
            raise ValueError(f"an adapter's name appears twice under lora: {names}")
        if self.rank_max < 1 or self.concurrent_max < 1:
            raise ValueError("lora.rank_max and lora.concurrent_max must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedDecoding:
    """The library that holds answers to a grammar or schema."""

    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaGraphs:
    """Capture of decoding steps: off, for these batch sizes, or for all up to one.

    Neither `batch_sizes` nor `batch_max` leaves the sizes to the engine.
    """

    enabled: bool = True
    batch_sizes: tuple[int, ...] = ()
    batch_max: int | None = None

    def __post_init__(self) -> None:
        if self.batch_sizes and self.batch_max is not None:
            raise ValueError("tell batch_sizes or batch_max, not both")
        if not self.enabled and (self.batch_sizes or self.batch_max is not None):
            raise ValueError("batch_sizes and batch_max are of graphs that are enabled")
        if len(self.batch_sizes) > GRAPH_SIZES_MAX:
            raise ValueError(f"{len(self.batch_sizes)} batch_sizes; at most {GRAPH_SIZES_MAX}")
        if (
            list(self.batch_sizes) != sorted(set(self.batch_sizes))
            or min((*self.batch_sizes, self.batch_max or 1)) < 1
        ):
            raise ValueError("batch_sizes must rise from at least 1, and batch_max be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """The engine of a revision and all its techniques.

    `version` is the engine's release line, the newest that is known when left out.
    `context_tokens` and `concurrent_requests` are per replica; `options` go to the engine as they
    are, by the engine's own names, after the allow-list of its renderer.
    """

    name: EngineName
    version: str | None = None
    protocol: EngineProtocol = EngineProtocol.HTTP
    context_tokens: int = 2048
    concurrent_requests: int = 4
    quantisation: Quantisation = field(default_factory=Quantisation)
    kv_cache: KvCache = field(default_factory=KvCache)
    batching: Batching = field(default_factory=Batching)
    speculative: SpeculativeDecoding | None = None
    prefix_caching: PrefixCaching = field(default_factory=PrefixCaching)
    parallelism: Parallelism = field(default_factory=Parallelism)
    disaggregation: Disaggregation | None = None
    lora: Lora | None = None
    guided_decoding: GuidedDecoding | None = None
    cuda_graphs: CudaGraphs | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.context_tokens < 1 or self.concurrent_requests < 1:
            raise ValueError("context_tokens and concurrent_requests must be at least 1")
        if self.version is not None and not is_version(self.version):
            raise ValueError(f"version {self.version[:40]!r} must look like 1.2 or 0.33.0")

    @property
    def accelerators(self) -> int:
        """Return how many accelerators one replica takes, all its servers together."""
        servers = self.disaggregation.servers if self.disaggregation else 1
        return self.parallelism.accelerators * servers


@lru_cache(maxsize=ASKED_MAX)
def is_of_first_release(spec: EngineSpec) -> bool:
    """Say whether a plane of the first release understands every field that is set.

    It would leave out the others without a word: what it runs would not be what was asked for.
    """
    caching, drafting = spec.prefix_caching, spec.speculative
    first = EngineSpec(
        name=spec.name,
        context_tokens=spec.context_tokens,
        concurrent_requests=spec.concurrent_requests,
        quantisation=spec.quantisation,
        speculative=replace(drafting, draft_length_by_batch=()) if drafting else None,
        prefix_caching=replace(caching, disk_path=None, disk_bytes=None),
        parallelism=replace(spec.parallelism, data=1),
        disaggregation=spec.disaggregation,
        options=spec.options,
    )
    return spec == first


def is_version(text: str) -> bool:
    """Tell whether a text looks like an engine's release."""
    return len(text) <= 40 and _VERSION.fullmatch(text) is not None


def is_plain_path(text: str) -> bool:
    """Tell whether a text is an absolute path that climbs nowhere."""
    return text.startswith("/") and ".." not in text.split("/")


def draft_schedule_fault(draft_tokens: int, steps: Sequence[tuple[int, int]]) -> str:
    """Return what is wrong with a schedule of (batch, tokens), empty when nothing is."""
    if not steps:
        return ""
    if len(steps) > DRAFT_LENGTHS_MAX:
        return f"draft_length_by_batch has {len(steps)} steps; at most {DRAFT_LENGTHS_MAX}"
    if steps[0] != (1, draft_tokens):
        return f"draft_length_by_batch must begin at batch 1 with draft_tokens, {draft_tokens}"
    batches = [batch for batch, _ in steps]
    if batches != sorted(set(batches)):
        return f"the batches of draft_length_by_batch must rise: {batches}"
    if not all(0 <= tokens <= draft_tokens for _, tokens in steps):
        return f"the tokens of draft_length_by_batch must be in 0..{draft_tokens}"
    return ""
