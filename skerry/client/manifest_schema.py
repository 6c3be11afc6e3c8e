"""The shape of a deployment file (`apiVersion: skerry/v1`, `kind: Deployment`), field by field.

Only `skerry.client.manifest` reads through it. Fields are camelCase in the file; unknown ones
are refused, and numbers are not guessed from text.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from skerry.client.quantities import parse_bytes, parse_duration
from skerry.fleet.autoscaling.cron import CHARACTERS_MAX as CRON_CHARACTERS_MAX
from skerry.fleet.deployment import PRIORITY_CLASSES, REPLICAS_MAX, FailBack, FailureDomain
from skerry.fleet.engine import (
    ADAPTERS_MAX,
    DRAFT_LENGTHS_MAX,
    GRAPH_SIZES_MAX,
    LORA_RANK_DEFAULT,
    EngineName,
    EngineProtocol,
    SpeculativeMethod,
)
from skerry.fleet.names import NAME_CHARACTERS_MAX
from skerry.fleet.pool import CapacityClass
from skerry.fleet.rollout import READY_SECONDS_MAX, SOAK_SECONDS_MAX, SURGE_MAX, OnFailure
from skerry.fleet.routing import QUEUE_REQUESTS_MAX, QUEUE_SECONDS_MAX, RoutingPolicy
from skerry.fleet.scaling import (
    CONCURRENCY_MAX,
    CONCURRENCY_MIN,
    DEFAULT_ZONE,
    SCALE_DOWN_DELAY_SECONDS_MAX,
    SCHEDULE_SECONDS_MAX,
    SCHEDULE_SECONDS_MIN,
    SCHEDULES_MAX,
    UTILIZATION_MIN,
    WINDOW_SECONDS_MAX,
    WINDOW_SECONDS_MIN,
    ZONE_CHARACTERS_MAX,
    Strategy,
)

_INT32_MAX = 2**31 - 1
_LIST_ITEMS_MAX = 64  # clouds, regions, kinds: nobody lists more by hand
_LABELS_MAX = 64
_OPTIONS_MAX = 128
_TEXT_CHARS_MAX = 2_048  # as the API has it: what it took must come back from an export
_URI_CHARS_MAX = 2_048

# In a file a quantity is a number or a text with its unit; editors are told both.
_Bytes = BeforeValidator(parse_bytes, json_schema_input_type=int | str)
_Seconds = BeforeValidator(parse_duration, json_schema_input_type=float | str)
Memory = Annotated[int, _Bytes]
Duration = Annotated[float, _Seconds]
DurationAboveZero = Annotated[float, _Seconds, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=_INT32_MAX)]
CountOrZero = Annotated[int, Field(ge=0, le=_INT32_MAX)]
Replicas = Annotated[int, Field(ge=0, le=REPLICAS_MAX)]
Share = Annotated[float, Field(gt=0, le=1)]
# More servers than one node has accelerators are several replicas.
Servers = Annotated[int, Field(ge=1, le=32)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Printable only: a control character in a name would reach terminals and headers.
Text = Annotated[
    str, Field(min_length=1, max_length=_TEXT_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
]
Uri = Annotated[
    str, Field(max_length=_URI_CHARS_MAX, pattern=r"^[a-z][a-z0-9+.-]*://[^\s\x00-\x1f\x7f-\x9f]+$")
]
LabelValue = Annotated[str, Field(max_length=_TEXT_CHARS_MAX, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Texts = Annotated[list[Text], Field(max_length=_LIST_ITEMS_MAX)]
Scalar = str | int | float | bool


class Part(BaseModel):
    """What every mapping of the file has in common: known fields only, in camelCase, as typed."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
    )


class Metadata(Part):
    """Who the deployment is."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX)]
    labels: Annotated[dict[Text, LabelValue], Field(max_length=_LABELS_MAX)] = {}


class BaseModelPart(Part):
    """The weights, and the name that users ask for (default: the deployment's)."""

    uri: Uri
    served_name: Text | None = None


class QuantisationPart(Part):
    """Number formats, by the engine-neutral names: fp8, nvfp4, int4-awq ..."""

    weights: Text | None = None
    kv_cache: Text | None = None


class KvCachePart(Part):
    """How much accelerator memory the KV cache may take, in the engine's own measure."""

    memory_share: Share | None = None


class BatchingPart(Part):
    """How much one step of the engine takes on."""

    tokens_max: Count | None = None
    chunked_prefill: bool | None = None


class DraftLengthPart(Part):
    """From `batch` running requests on, `tokens` are drafted ahead; 0 drafts none."""

    batch: Count
    tokens: CountOrZero


class SpeculativePart(Part):
    """How tokens are drafted ahead, and how many fewer under load."""

    method: Annotated[SpeculativeMethod, Field(strict=False)]
    draft_tokens: Count
    draft_model_uri: Uri | None = None
    draft_length_by_batch: Annotated[
        list[DraftLengthPart], Field(max_length=DRAFT_LENGTHS_MAX)
    ] = []


class PrefixCachingPart(Part):
    """Reuse of KV blocks between requests; what is too much spills to host memory and to disk."""

    enabled: bool = True
    host_memory: Memory | None = None
    disk_path: Text | None = None
    disk: Memory | None = None


class ParallelismPart(Part):
    """Degrees of parallelism inside one replica."""

    tensor: Count = 1
    pipeline: Count = 1
    expert: Count = 1
    attention_data_parallel: bool = False
    data: Count = 1


class DisaggregationPart(Part):
    """Prefill and decode apart."""

    prefill_replicas: Servers
    decode_replicas: Servers
    local_prefill_tokens_max: CountOrZero = 0


class AdapterPart(Part):
    """A LoRA adapter: the name that requests choose it by, and where it is."""

    name: Text
    uri: Uri


class LoraPart(Part):
    """Adapters over the base model, and how many of them one batch may mix."""

    adapters: Annotated[list[AdapterPart], Field(min_length=1, max_length=ADAPTERS_MAX)]
    rank_max: Count = LORA_RANK_DEFAULT
    concurrent_max: Count = 1


class GuidedDecodingPart(Part):
    """The library that holds answers to a grammar or schema."""

    backend: Text


class CudaGraphsPart(Part):
    """Capture of decoding steps: off, for some batch sizes, or for all up to one."""

    enabled: bool = True
    batch_sizes: Annotated[list[Count], Field(max_length=GRAPH_SIZES_MAX)] = []
    batch_max: Count | None = None


class EnginePart(Part):
    """The engine, its release line and its techniques."""

    name: Annotated[EngineName, Field(strict=False)]
    version: Text | None = None
    protocol: Annotated[EngineProtocol, Field(strict=False)] = EngineProtocol.HTTP
    context_tokens: Count = 2048
    concurrent_requests: Count = 4
    quantisation: QuantisationPart = QuantisationPart()
    kv_cache: KvCachePart = KvCachePart()
    batching: BatchingPart = BatchingPart()
    speculative_decoding: SpeculativePart | None = None
    prefix_caching: PrefixCachingPart = PrefixCachingPart()
    parallelism: ParallelismPart = ParallelismPart()
    disaggregation: DisaggregationPart | None = None
    lora: LoraPart | None = None
    guided_decoding: GuidedDecodingPart | None = None
    cuda_graphs: CudaGraphsPart | None = None
    options: Annotated[dict[Text, Scalar], Field(max_length=_OPTIONS_MAX)] = {}


class ResourcePart(Part):
    """What one replica takes on one accelerator kind."""

    accelerator: Text
    count: Count = 1
    host_memory: Memory = 0
    throughput_tokens_per_second: Amount | None = None


class ObjectivePart(Part):
    """What users are promised."""

    ttft: DurationAboveZero = 2.0
    tpot: DurationAboveZero = 0.2


class SchedulePart(Part):
    """At least so many replicas from each moment that the cron names, for so long."""

    cron: Annotated[Text, Field(max_length=CRON_CHARACTERS_MAX)]
    time_zone: Annotated[Text, Field(max_length=ZONE_CHARACTERS_MAX)] = DEFAULT_ZONE
    duration: Annotated[Duration, Field(ge=SCHEDULE_SECONDS_MIN, le=SCHEDULE_SECONDS_MAX)]
    min_replicas: Replicas


class ScalingPart(Part):
    """Bounds and pace of scaling; without `scaleDownDelay` and rate it is the strategy's own."""

    min_replicas: Replicas = 1
    max_replicas: Replicas | None = None
    window: Annotated[Duration, Field(ge=WINDOW_SECONDS_MIN, le=WINDOW_SECONDS_MAX)] = 60.0
    scale_down_delay: Annotated[Duration, Field(le=SCALE_DOWN_DELAY_SECONDS_MAX)] | None = None
    concurrency_target: Annotated[float, Field(ge=CONCURRENCY_MIN, le=CONCURRENCY_MAX)] = 1.0
    target_utilization: Annotated[float, Field(ge=UTILIZATION_MIN, le=1)] = 0.7
    max_scale_down_rate: Annotated[float, Field(ge=UTILIZATION_MIN, le=1)] | None = None
    strategy: Annotated[Strategy, Field(strict=False)] = Strategy.TOKEN_WORK
    schedules: Annotated[list[SchedulePart], Field(max_length=SCHEDULES_MAX)] = []
    warm_spares: Replicas = 0
    paused: bool = False


class SpreadPart(Part):
    """Over how many domains replicas are spread at least."""

    domain: Annotated[FailureDomain, Field(strict=False)]
    domains_min: Count


class ToleratePart(Part):
    """What may be lost, and the fraction of the demand that must still be met."""

    domain: Annotated[FailureDomain, Field(strict=False)]
    keep: Annotated[float, Field(gt=0, le=1)]


class LatencyPart(Part):
    """How far from a client region replicas may be."""

    from_: Annotated[Text, Field(alias="from")]
    max: DurationAboveZero


class PlacementPart(Part):
    """Where replicas may go."""

    clouds: Texts = []
    regions: Texts = []
    residency_zones: Texts = []
    capacity_classes: Annotated[
        list[Annotated[CapacityClass, Field(strict=False)]], Field(max_length=3)
    ] = []
    spread: SpreadPart | None = None
    tolerate: ToleratePart | None = None
    priority: Annotated[int, Field(ge=0, lt=PRIORITY_CLASSES)] = 1
    cost_per_hour_max: Amount | None = None
    spot_share_max: Annotated[float, Field(ge=0, le=1)] | None = None
    anti_affinity: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX)]],
        Field(max_length=_LIST_ITEMS_MAX),
    ] = []
    latency: Annotated[list[LatencyPart], Field(max_length=_LIST_ITEMS_MAX)] = []
    fail_back: Annotated[FailBack, Field(strict=False)] | None = None


class QueuePart(Part):
    """How many requests may wait for a replica, and for how long."""

    requests_max: Annotated[int, Field(ge=0, le=QUEUE_REQUESTS_MAX)] = 128
    seconds_max: Annotated[float, Field(gt=0, le=QUEUE_SECONDS_MAX)] = 30.0


class RoutingPart(Part):
    """How requests find a replica."""

    policy: Annotated[RoutingPolicy, Field(strict=False)] = RoutingPolicy.PREFIX_TOKENS
    continuation: bool = False
    queue: QueuePart = QueuePart()


class RolloutPart(Part):
    """How a new revision reaches the planes."""

    soak: Annotated[Duration, Field(le=SOAK_SECONDS_MAX)] = 60.0
    ready_max: Annotated[Duration, Field(le=READY_SECONDS_MAX)] = 0.0
    max_surge: Annotated[int, Field(ge=1, le=SURGE_MAX)] = 1
    max_unavailable: Annotated[int, Field(ge=0, le=SURGE_MAX)] = 1
    on_failure: Annotated[OnFailure, Field(strict=False)] = OnFailure.ROLLBACK


class Spec(Part):
    """What is wanted."""

    base_model: BaseModelPart
    engine: EnginePart
    resources: Annotated[list[ResourcePart], Field(min_length=1, max_length=_LIST_ITEMS_MAX)]
    objective: ObjectivePart = ObjectivePart()
    scaling: ScalingPart = ScalingPart()
    placement: PlacementPart = PlacementPart()
    routing: RoutingPart = RoutingPart()
    rollout: RolloutPart = RolloutPart()


class DeploymentFile(Part):
    """One document of a deployment file."""

    api_version: Literal["skerry/v1"]
    kind: Literal["Deployment"]
    metadata: Metadata
    spec: Spec
