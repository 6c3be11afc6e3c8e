import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from skerry.api.common.v1 import scaling_pb2 as _scaling_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScalingExplanation(_message.Message):
    __slots__ = ("deployment", "sentence", "min_replicas", "max_replicas", "strategy", "paused", "decisions", "planes")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    MIN_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    MAX_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    PLANES_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    sentence: str
    min_replicas: int
    max_replicas: int
    strategy: str
    paused: bool
    decisions: _containers.RepeatedCompositeFieldContainer[FleetScalingDecision]
    planes: _containers.RepeatedCompositeFieldContainer[PlaneScaling]
    def __init__(self, deployment: _Optional[str] = ..., sentence: _Optional[str] = ..., min_replicas: _Optional[int] = ..., max_replicas: _Optional[int] = ..., strategy: _Optional[str] = ..., paused: _Optional[bool] = ..., decisions: _Optional[_Iterable[_Union[FleetScalingDecision, _Mapping]]] = ..., planes: _Optional[_Iterable[_Union[PlaneScaling, _Mapping]]] = ...) -> None: ...

class FleetScalingDecision(_message.Message):
    __slots__ = ("decide_time", "sentence", "because", "running", "total", "wanted", "unmet", "unmet_dollars_per_hour", "demand", "floor", "need", "highest", "unheard", "shares", "dollars_per_hour")
    DECIDE_TIME_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    UNMET_FIELD_NUMBER: _ClassVar[int]
    UNMET_DOLLARS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    NEED_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_FIELD_NUMBER: _ClassVar[int]
    UNHEARD_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    DOLLARS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    decide_time: _timestamp_pb2.Timestamp
    sentence: str
    because: str
    running: int
    total: int
    wanted: int
    unmet: int
    unmet_dollars_per_hour: float
    demand: int
    floor: int
    need: _scaling_pb2.ScalingNeed
    highest: int
    unheard: _containers.RepeatedScalarFieldContainer[str]
    shares: _containers.RepeatedCompositeFieldContainer[ScalingShare]
    dollars_per_hour: float
    def __init__(self, decide_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sentence: _Optional[str] = ..., because: _Optional[str] = ..., running: _Optional[int] = ..., total: _Optional[int] = ..., wanted: _Optional[int] = ..., unmet: _Optional[int] = ..., unmet_dollars_per_hour: _Optional[float] = ..., demand: _Optional[int] = ..., floor: _Optional[int] = ..., need: _Optional[_Union[_scaling_pb2.ScalingNeed, _Mapping]] = ..., highest: _Optional[int] = ..., unheard: _Optional[_Iterable[str]] = ..., shares: _Optional[_Iterable[_Union[ScalingShare, _Mapping]]] = ..., dollars_per_hour: _Optional[float] = ...) -> None: ...

class ScalingShare(_message.Message):
    __slots__ = ("plane", "running", "floor", "ceiling", "target", "dollars_per_hour", "heard")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DOLLARS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    plane: str
    running: int
    floor: int
    ceiling: int
    target: int
    dollars_per_hour: float
    heard: bool
    def __init__(self, plane: _Optional[str] = ..., running: _Optional[int] = ..., floor: _Optional[int] = ..., ceiling: _Optional[int] = ..., target: _Optional[int] = ..., dollars_per_hour: _Optional[float] = ..., heard: _Optional[bool] = ...) -> None: ...

class PlaneScaling(_message.Message):
    __slots__ = ("plane", "decision", "reading", "decisions", "costs")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    COSTS_FIELD_NUMBER: _ClassVar[int]
    plane: str
    decision: _scaling_pb2.ScalingDecision
    reading: _scaling_pb2.LoadReading
    decisions: _containers.RepeatedCompositeFieldContainer[_scaling_pb2.ScalingDecision]
    costs: _containers.RepeatedCompositeFieldContainer[MeasuredCosts]
    def __init__(self, plane: _Optional[str] = ..., decision: _Optional[_Union[_scaling_pb2.ScalingDecision, _Mapping]] = ..., reading: _Optional[_Union[_scaling_pb2.LoadReading, _Mapping]] = ..., decisions: _Optional[_Iterable[_Union[_scaling_pb2.ScalingDecision, _Mapping]]] = ..., costs: _Optional[_Iterable[_Union[MeasuredCosts, _Mapping]]] = ...) -> None: ...

class MeasuredCosts(_message.Message):
    __slots__ = ("accelerator", "prefill_seconds_per_token", "decode_seconds_per_token", "iteration_seconds")
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    PREFILL_SECONDS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DECODE_SECONDS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ITERATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    accelerator: str
    prefill_seconds_per_token: float
    decode_seconds_per_token: float
    iteration_seconds: float
    def __init__(self, accelerator: _Optional[str] = ..., prefill_seconds_per_token: _Optional[float] = ..., decode_seconds_per_token: _Optional[float] = ..., iteration_seconds: _Optional[float] = ...) -> None: ...
