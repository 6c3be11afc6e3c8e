import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from skerry.api.common.v1 import deployment_pb2 as _deployment_pb2
from skerry.api.common.v1 import replica_pb2 as _replica_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Placement(_message.Message):
    __slots__ = ("name", "deployment", "plane", "pool", "replicas", "cost_per_hour", "reason", "envelope", "replicas_ready")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_READY_FIELD_NUMBER: _ClassVar[int]
    name: str
    deployment: str
    plane: str
    pool: str
    replicas: int
    cost_per_hour: float
    reason: str
    envelope: _deployment_pb2.Envelope
    replicas_ready: int
    def __init__(self, name: _Optional[str] = ..., deployment: _Optional[str] = ..., plane: _Optional[str] = ..., pool: _Optional[str] = ..., replicas: _Optional[int] = ..., cost_per_hour: _Optional[float] = ..., reason: _Optional[str] = ..., envelope: _Optional[_Union[_deployment_pb2.Envelope, _Mapping]] = ..., replicas_ready: _Optional[int] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("name", "plane", "observed", "report_age_seconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    REPORT_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    plane: str
    observed: _replica_pb2.ObservedReplica
    report_age_seconds: float
    def __init__(self, name: _Optional[str] = ..., plane: _Optional[str] = ..., observed: _Optional[_Union[_replica_pb2.ObservedReplica, _Mapping]] = ..., report_age_seconds: _Optional[float] = ...) -> None: ...

class PlannedPlacement(_message.Message):
    __slots__ = ("deployment", "pool", "replicas_before", "replicas_after", "cost_per_hour", "reason")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_AFTER_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    pool: str
    replicas_before: int
    replicas_after: int
    cost_per_hour: float
    reason: str
    def __init__(self, deployment: _Optional[str] = ..., pool: _Optional[str] = ..., replicas_before: _Optional[int] = ..., replicas_after: _Optional[int] = ..., cost_per_hour: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("deployment", "pool", "reason")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    pool: str
    reason: str
    def __init__(self, deployment: _Optional[str] = ..., pool: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Unplaced(_message.Message):
    __slots__ = ("deployment", "replicas", "reason")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    replicas: int
    reason: str
    def __init__(self, deployment: _Optional[str] = ..., replicas: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Shed(_message.Message):
    __slots__ = ("deployment", "pool", "replicas", "taken_by", "reason")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    pool: str
    replicas: int
    taken_by: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    def __init__(self, deployment: _Optional[str] = ..., pool: _Optional[str] = ..., replicas: _Optional[int] = ..., taken_by: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ...) -> None: ...

class PlanLevel(_message.Message):
    __slots__ = ("level", "value", "bound", "unit", "gap")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    level: str
    value: float
    bound: float
    unit: str
    gap: float
    def __init__(self, level: _Optional[str] = ..., value: _Optional[float] = ..., bound: _Optional[float] = ..., unit: _Optional[str] = ..., gap: _Optional[float] = ...) -> None: ...

class PoolPrice(_message.Message):
    __slots__ = ("pool", "dollars_per_hour")
    POOL_FIELD_NUMBER: _ClassVar[int]
    DOLLARS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    pool: str
    dollars_per_hour: float
    def __init__(self, pool: _Optional[str] = ..., dollars_per_hour: _Optional[float] = ...) -> None: ...

class PlannedMove(_message.Message):
    __slots__ = ("deployment", "from_pool", "to_pool", "replicas")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    FROM_POOL_FIELD_NUMBER: _ClassVar[int]
    TO_POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    from_pool: str
    to_pool: str
    replicas: int
    def __init__(self, deployment: _Optional[str] = ..., from_pool: _Optional[str] = ..., to_pool: _Optional[str] = ..., replicas: _Optional[int] = ...) -> None: ...

class PlannedThroughput(_message.Message):
    __slots__ = ("accelerator", "tokens_per_second", "profile", "measure_time", "measured_tokens_per_second", "load_seconds")
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    MEASURE_TIME_FIELD_NUMBER: _ClassVar[int]
    MEASURED_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LOAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    accelerator: str
    tokens_per_second: float
    profile: str
    measure_time: _timestamp_pb2.Timestamp
    measured_tokens_per_second: float
    load_seconds: float
    def __init__(self, accelerator: _Optional[str] = ..., tokens_per_second: _Optional[float] = ..., profile: _Optional[str] = ..., measure_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., measured_tokens_per_second: _Optional[float] = ..., load_seconds: _Optional[float] = ...) -> None: ...

class PlannedDeployment(_message.Message):
    __slots__ = ("deployment", "replicas_before", "replicas_after", "replicas_unmet", "unmet_reason", "cost_per_hour_before", "cost_per_hour_after", "moves", "ready_in_seconds", "ready_basis", "ready_source", "throughput_source", "throughputs", "replicas_short", "short_dollars_per_hour")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_AFTER_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_UNMET_FIELD_NUMBER: _ClassVar[int]
    UNMET_REASON_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_BEFORE_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_AFTER_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    READY_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    READY_BASIS_FIELD_NUMBER: _ClassVar[int]
    READY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUT_SOURCE_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUTS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_SHORT_FIELD_NUMBER: _ClassVar[int]
    SHORT_DOLLARS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    replicas_before: int
    replicas_after: int
    replicas_unmet: int
    unmet_reason: str
    cost_per_hour_before: float
    cost_per_hour_after: float
    moves: _containers.RepeatedCompositeFieldContainer[PlannedMove]
    ready_in_seconds: float
    ready_basis: str
    ready_source: str
    throughput_source: str
    throughputs: _containers.RepeatedCompositeFieldContainer[PlannedThroughput]
    replicas_short: int
    short_dollars_per_hour: float
    def __init__(self, deployment: _Optional[str] = ..., replicas_before: _Optional[int] = ..., replicas_after: _Optional[int] = ..., replicas_unmet: _Optional[int] = ..., unmet_reason: _Optional[str] = ..., cost_per_hour_before: _Optional[float] = ..., cost_per_hour_after: _Optional[float] = ..., moves: _Optional[_Iterable[_Union[PlannedMove, _Mapping]]] = ..., ready_in_seconds: _Optional[float] = ..., ready_basis: _Optional[str] = ..., ready_source: _Optional[str] = ..., throughput_source: _Optional[str] = ..., throughputs: _Optional[_Iterable[_Union[PlannedThroughput, _Mapping]]] = ..., replicas_short: _Optional[int] = ..., short_dollars_per_hour: _Optional[float] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("placements", "rejections", "unplaced", "cost_per_hour_before", "cost_per_hour_after", "solver", "solve_seconds", "optimal", "shed", "levels", "prices", "solver_reason", "name", "state", "decide_time", "inputs", "summary", "deployments")
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    UNPLACED_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_BEFORE_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_AFTER_FIELD_NUMBER: _ClassVar[int]
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    SOLVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OPTIMAL_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    PRICES_FIELD_NUMBER: _ClassVar[int]
    SOLVER_REASON_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DECIDE_TIME_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    placements: _containers.RepeatedCompositeFieldContainer[PlannedPlacement]
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    unplaced: _containers.RepeatedCompositeFieldContainer[Unplaced]
    cost_per_hour_before: float
    cost_per_hour_after: float
    solver: str
    solve_seconds: float
    optimal: bool
    shed: _containers.RepeatedCompositeFieldContainer[Shed]
    levels: _containers.RepeatedCompositeFieldContainer[PlanLevel]
    prices: _containers.RepeatedCompositeFieldContainer[PoolPrice]
    solver_reason: str
    name: str
    state: str
    decide_time: _timestamp_pb2.Timestamp
    inputs: str
    summary: str
    deployments: _containers.RepeatedCompositeFieldContainer[PlannedDeployment]
    def __init__(self, placements: _Optional[_Iterable[_Union[PlannedPlacement, _Mapping]]] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ..., unplaced: _Optional[_Iterable[_Union[Unplaced, _Mapping]]] = ..., cost_per_hour_before: _Optional[float] = ..., cost_per_hour_after: _Optional[float] = ..., solver: _Optional[str] = ..., solve_seconds: _Optional[float] = ..., optimal: _Optional[bool] = ..., shed: _Optional[_Iterable[_Union[Shed, _Mapping]]] = ..., levels: _Optional[_Iterable[_Union[PlanLevel, _Mapping]]] = ..., prices: _Optional[_Iterable[_Union[PoolPrice, _Mapping]]] = ..., solver_reason: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., decide_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., inputs: _Optional[str] = ..., summary: _Optional[str] = ..., deployments: _Optional[_Iterable[_Union[PlannedDeployment, _Mapping]]] = ...) -> None: ...
