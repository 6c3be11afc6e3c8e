import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LoadReading(_message.Message):
    __slots__ = ("requests_total", "prompt_tokens_total", "finished_total", "output_tokens_total", "in_flight", "waiting_requests", "waiting_prompt_tokens", "judged_total", "good_total")
    REQUESTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FINISHED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    WAITING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    WAITING_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    JUDGED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    GOOD_TOTAL_FIELD_NUMBER: _ClassVar[int]
    requests_total: float
    prompt_tokens_total: float
    finished_total: float
    output_tokens_total: float
    in_flight: float
    waiting_requests: float
    waiting_prompt_tokens: float
    judged_total: float
    good_total: float
    def __init__(self, requests_total: _Optional[float] = ..., prompt_tokens_total: _Optional[float] = ..., finished_total: _Optional[float] = ..., output_tokens_total: _Optional[float] = ..., in_flight: _Optional[float] = ..., waiting_requests: _Optional[float] = ..., waiting_prompt_tokens: _Optional[float] = ..., judged_total: _Optional[float] = ..., good_total: _Optional[float] = ...) -> None: ...

class RecentAnswers(_message.Message):
    __slots__ = ("seconds", "judged", "good", "first_tokens", "intervals")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    JUDGED_FIELD_NUMBER: _ClassVar[int]
    GOOD_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    judged: float
    good: float
    first_tokens: _containers.RepeatedScalarFieldContainer[float]
    intervals: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, seconds: _Optional[float] = ..., judged: _Optional[float] = ..., good: _Optional[float] = ..., first_tokens: _Optional[_Iterable[float]] = ..., intervals: _Optional[_Iterable[float]] = ...) -> None: ...

class ScalingNeed(_message.Message):
    __slots__ = ("replicas", "exact", "work", "reserve", "queue", "saturation", "utilization", "spares")
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    SATURATION_FIELD_NUMBER: _ClassVar[int]
    UTILIZATION_FIELD_NUMBER: _ClassVar[int]
    SPARES_FIELD_NUMBER: _ClassVar[int]
    replicas: int
    exact: float
    work: float
    reserve: float
    queue: float
    saturation: float
    utilization: float
    spares: int
    def __init__(self, replicas: _Optional[int] = ..., exact: _Optional[float] = ..., work: _Optional[float] = ..., reserve: _Optional[float] = ..., queue: _Optional[float] = ..., saturation: _Optional[float] = ..., utilization: _Optional[float] = ..., spares: _Optional[int] = ...) -> None: ...

class ScalingDecision(_message.Message):
    __slots__ = ("decide_time", "sentence", "because", "target", "ready", "starting", "draining", "floor", "ceiling", "granted", "scheduled", "min_available", "need", "highest", "concurrency", "fallback")
    DECIDE_TIME_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    STARTING_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_FIELD_NUMBER: _ClassVar[int]
    MIN_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    NEED_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    decide_time: _timestamp_pb2.Timestamp
    sentence: str
    because: str
    target: int
    ready: int
    starting: int
    draining: int
    floor: int
    ceiling: int
    granted: int
    scheduled: int
    min_available: int
    need: ScalingNeed
    highest: int
    concurrency: float
    fallback: bool
    def __init__(self, decide_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sentence: _Optional[str] = ..., because: _Optional[str] = ..., target: _Optional[int] = ..., ready: _Optional[int] = ..., starting: _Optional[int] = ..., draining: _Optional[int] = ..., floor: _Optional[int] = ..., ceiling: _Optional[int] = ..., granted: _Optional[int] = ..., scheduled: _Optional[int] = ..., min_available: _Optional[int] = ..., need: _Optional[_Union[ScalingNeed, _Mapping]] = ..., highest: _Optional[int] = ..., concurrency: _Optional[float] = ..., fallback: _Optional[bool] = ...) -> None: ...
