import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from skerry.api.common.v1 import scaling_pb2 as _scaling_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ServiceLevel(_message.Message):
    __slots__ = ("name", "deployment", "ttft_seconds", "tpot_seconds", "answers", "first_token", "interval", "planes", "heard_time", "silent_planes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    TTFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TPOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    PLANES_FIELD_NUMBER: _ClassVar[int]
    HEARD_TIME_FIELD_NUMBER: _ClassVar[int]
    SILENT_PLANES_FIELD_NUMBER: _ClassVar[int]
    name: str
    deployment: str
    ttft_seconds: float
    tpot_seconds: float
    answers: _scaling_pb2.RecentAnswers
    first_token: LatencyQuantiles
    interval: LatencyQuantiles
    planes: _containers.RepeatedScalarFieldContainer[str]
    heard_time: _timestamp_pb2.Timestamp
    silent_planes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., deployment: _Optional[str] = ..., ttft_seconds: _Optional[float] = ..., tpot_seconds: _Optional[float] = ..., answers: _Optional[_Union[_scaling_pb2.RecentAnswers, _Mapping]] = ..., first_token: _Optional[_Union[LatencyQuantiles, _Mapping]] = ..., interval: _Optional[_Union[LatencyQuantiles, _Mapping]] = ..., planes: _Optional[_Iterable[str]] = ..., heard_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., silent_planes: _Optional[_Iterable[str]] = ...) -> None: ...

class LatencyQuantiles(_message.Message):
    __slots__ = ("p50_seconds", "p95_seconds", "p99_seconds")
    P50_SECONDS_FIELD_NUMBER: _ClassVar[int]
    P95_SECONDS_FIELD_NUMBER: _ClassVar[int]
    P99_SECONDS_FIELD_NUMBER: _ClassVar[int]
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    def __init__(self, p50_seconds: _Optional[float] = ..., p95_seconds: _Optional[float] = ..., p99_seconds: _Optional[float] = ...) -> None: ...
