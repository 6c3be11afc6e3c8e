from skerry.api.common.v1 import engine_pb2 as _engine_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FailBack(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAIL_BACK_UNSPECIFIED: _ClassVar[FailBack]
    FAIL_BACK_BEST_SCORE: _ClassVar[FailBack]
    FAIL_BACK_KEEP_ORIGINAL: _ClassVar[FailBack]
    FAIL_BACK_KEEP_REPLACEMENT: _ClassVar[FailBack]
FAIL_BACK_UNSPECIFIED: FailBack
FAIL_BACK_BEST_SCORE: FailBack
FAIL_BACK_KEEP_ORIGINAL: FailBack
FAIL_BACK_KEEP_REPLACEMENT: FailBack

class ResourceShape(_message.Message):
    __slots__ = ("accelerator", "accelerators", "host_memory_bytes", "throughput_tokens_per_second")
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    ACCELERATORS_FIELD_NUMBER: _ClassVar[int]
    HOST_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    accelerator: str
    accelerators: int
    host_memory_bytes: int
    throughput_tokens_per_second: float
    def __init__(self, accelerator: _Optional[str] = ..., accelerators: _Optional[int] = ..., host_memory_bytes: _Optional[int] = ..., throughput_tokens_per_second: _Optional[float] = ...) -> None: ...

class BaseModel(_message.Message):
    __slots__ = ("uri", "served_name")
    URI_FIELD_NUMBER: _ClassVar[int]
    SERVED_NAME_FIELD_NUMBER: _ClassVar[int]
    uri: str
    served_name: str
    def __init__(self, uri: _Optional[str] = ..., served_name: _Optional[str] = ...) -> None: ...

class ServiceObjective(_message.Message):
    __slots__ = ("ttft_seconds", "tpot_seconds")
    TTFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TPOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ttft_seconds: float
    tpot_seconds: float
    def __init__(self, ttft_seconds: _Optional[float] = ..., tpot_seconds: _Optional[float] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("number", "base_model", "engine", "shapes", "objective")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    number: int
    base_model: BaseModel
    engine: _engine_pb2.EngineSpec
    shapes: _containers.RepeatedCompositeFieldContainer[ResourceShape]
    objective: ServiceObjective
    def __init__(self, number: _Optional[int] = ..., base_model: _Optional[_Union[BaseModel, _Mapping]] = ..., engine: _Optional[_Union[_engine_pb2.EngineSpec, _Mapping]] = ..., shapes: _Optional[_Iterable[_Union[ResourceShape, _Mapping]]] = ..., objective: _Optional[_Union[ServiceObjective, _Mapping]] = ...) -> None: ...

class Scaling(_message.Message):
    __slots__ = ("min_replicas", "max_replicas", "window_seconds", "scale_down_delay_seconds", "concurrency_target", "target_utilization", "strategy", "max_scale_down_rate", "schedules", "paused", "warm_spares")
    MIN_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    MAX_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SCALE_DOWN_DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGET_UTILIZATION_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    MAX_SCALE_DOWN_RATE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    WARM_SPARES_FIELD_NUMBER: _ClassVar[int]
    min_replicas: int
    max_replicas: int
    window_seconds: float
    scale_down_delay_seconds: float
    concurrency_target: float
    target_utilization: float
    strategy: str
    max_scale_down_rate: float
    schedules: _containers.RepeatedCompositeFieldContainer[ScalingSchedule]
    paused: bool
    warm_spares: int
    def __init__(self, min_replicas: _Optional[int] = ..., max_replicas: _Optional[int] = ..., window_seconds: _Optional[float] = ..., scale_down_delay_seconds: _Optional[float] = ..., concurrency_target: _Optional[float] = ..., target_utilization: _Optional[float] = ..., strategy: _Optional[str] = ..., max_scale_down_rate: _Optional[float] = ..., schedules: _Optional[_Iterable[_Union[ScalingSchedule, _Mapping]]] = ..., paused: _Optional[bool] = ..., warm_spares: _Optional[int] = ...) -> None: ...

class ScalingSchedule(_message.Message):
    __slots__ = ("cron", "time_zone", "duration_seconds", "min_replicas")
    CRON_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MIN_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    cron: str
    time_zone: str
    duration_seconds: float
    min_replicas: int
    def __init__(self, cron: _Optional[str] = ..., time_zone: _Optional[str] = ..., duration_seconds: _Optional[float] = ..., min_replicas: _Optional[int] = ...) -> None: ...

class Spread(_message.Message):
    __slots__ = ("domain", "domains_min")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_MIN_FIELD_NUMBER: _ClassVar[int]
    domain: str
    domains_min: int
    def __init__(self, domain: _Optional[str] = ..., domains_min: _Optional[int] = ...) -> None: ...

class Tolerate(_message.Message):
    __slots__ = ("domain", "keep")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    domain: str
    keep: float
    def __init__(self, domain: _Optional[str] = ..., keep: _Optional[float] = ...) -> None: ...

class LatencyLimit(_message.Message):
    __slots__ = ("client_region", "seconds_max")
    CLIENT_REGION_FIELD_NUMBER: _ClassVar[int]
    SECONDS_MAX_FIELD_NUMBER: _ClassVar[int]
    client_region: str
    seconds_max: float
    def __init__(self, client_region: _Optional[str] = ..., seconds_max: _Optional[float] = ...) -> None: ...

class PlacementPolicy(_message.Message):
    __slots__ = ("clouds", "regions", "residency_zones", "capacity_classes", "spread", "tolerate", "priority", "cost_per_hour_max", "spot_share_max", "anti_affinity", "latency", "fail_back")
    CLOUDS_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_ZONES_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_CLASSES_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    TOLERATE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_MAX_FIELD_NUMBER: _ClassVar[int]
    SPOT_SHARE_MAX_FIELD_NUMBER: _ClassVar[int]
    ANTI_AFFINITY_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    FAIL_BACK_FIELD_NUMBER: _ClassVar[int]
    clouds: _containers.RepeatedScalarFieldContainer[str]
    regions: _containers.RepeatedScalarFieldContainer[str]
    residency_zones: _containers.RepeatedScalarFieldContainer[str]
    capacity_classes: _containers.RepeatedScalarFieldContainer[str]
    spread: Spread
    tolerate: Tolerate
    priority: int
    cost_per_hour_max: float
    spot_share_max: float
    anti_affinity: _containers.RepeatedScalarFieldContainer[str]
    latency: _containers.RepeatedCompositeFieldContainer[LatencyLimit]
    fail_back: FailBack
    def __init__(self, clouds: _Optional[_Iterable[str]] = ..., regions: _Optional[_Iterable[str]] = ..., residency_zones: _Optional[_Iterable[str]] = ..., capacity_classes: _Optional[_Iterable[str]] = ..., spread: _Optional[_Union[Spread, _Mapping]] = ..., tolerate: _Optional[_Union[Tolerate, _Mapping]] = ..., priority: _Optional[int] = ..., cost_per_hour_max: _Optional[float] = ..., spot_share_max: _Optional[float] = ..., anti_affinity: _Optional[_Iterable[str]] = ..., latency: _Optional[_Iterable[_Union[LatencyLimit, _Mapping]]] = ..., fail_back: _Optional[_Union[FailBack, str]] = ...) -> None: ...

class RoutingSpec(_message.Message):
    __slots__ = ("policy", "continuation", "queue_requests_max", "queue_seconds_max")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_REQUESTS_MAX_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SECONDS_MAX_FIELD_NUMBER: _ClassVar[int]
    policy: str
    continuation: bool
    queue_requests_max: int
    queue_seconds_max: float
    def __init__(self, policy: _Optional[str] = ..., continuation: _Optional[bool] = ..., queue_requests_max: _Optional[int] = ..., queue_seconds_max: _Optional[float] = ...) -> None: ...

class RolloutPolicySpec(_message.Message):
    __slots__ = ("soak_seconds", "ready_seconds_max", "max_surge", "max_unavailable", "on_failure")
    SOAK_SECONDS_FIELD_NUMBER: _ClassVar[int]
    READY_SECONDS_MAX_FIELD_NUMBER: _ClassVar[int]
    MAX_SURGE_FIELD_NUMBER: _ClassVar[int]
    MAX_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    soak_seconds: float
    ready_seconds_max: float
    max_surge: int
    max_unavailable: int
    on_failure: str
    def __init__(self, soak_seconds: _Optional[float] = ..., ready_seconds_max: _Optional[float] = ..., max_surge: _Optional[int] = ..., max_unavailable: _Optional[int] = ..., on_failure: _Optional[str] = ...) -> None: ...

class DeploymentSpec(_message.Message):
    __slots__ = ("project", "name", "labels", "revision", "scaling", "policy", "routing", "rollout")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    project: str
    name: str
    labels: _containers.ScalarMap[str, str]
    revision: Revision
    scaling: Scaling
    policy: PlacementPolicy
    routing: RoutingSpec
    rollout: RolloutPolicySpec
    def __init__(self, project: _Optional[str] = ..., name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., revision: _Optional[_Union[Revision, _Mapping]] = ..., scaling: _Optional[_Union[Scaling, _Mapping]] = ..., policy: _Optional[_Union[PlacementPolicy, _Mapping]] = ..., routing: _Optional[_Union[RoutingSpec, _Mapping]] = ..., rollout: _Optional[_Union[RolloutPolicySpec, _Mapping]] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("deployment", "pool", "floor", "target", "ceiling")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    pool: str
    floor: int
    target: int
    ceiling: int
    def __init__(self, deployment: _Optional[str] = ..., pool: _Optional[str] = ..., floor: _Optional[int] = ..., target: _Optional[int] = ..., ceiling: _Optional[int] = ...) -> None: ...
