import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProfileStep(_message.Message):
    __slots__ = ("concurrency", "requests", "ttft_p50_seconds", "ttft_p99_seconds", "itl_samples", "itl_p50_seconds", "itl_p99_seconds", "tpot_p99_seconds", "output_tokens_per_second", "prompt_tokens_per_second")
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    TTFT_P50_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TTFT_P99_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ITL_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ITL_P50_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ITL_P99_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TPOT_P99_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    concurrency: int
    requests: int
    ttft_p50_seconds: float
    ttft_p99_seconds: float
    itl_samples: int
    itl_p50_seconds: float
    itl_p99_seconds: float
    tpot_p99_seconds: float
    output_tokens_per_second: float
    prompt_tokens_per_second: float
    def __init__(self, concurrency: _Optional[int] = ..., requests: _Optional[int] = ..., ttft_p50_seconds: _Optional[float] = ..., ttft_p99_seconds: _Optional[float] = ..., itl_samples: _Optional[int] = ..., itl_p50_seconds: _Optional[float] = ..., itl_p99_seconds: _Optional[float] = ..., tpot_p99_seconds: _Optional[float] = ..., output_tokens_per_second: _Optional[float] = ..., prompt_tokens_per_second: _Optional[float] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("name", "base_model", "engine", "engine_version", "configuration", "accelerator", "accelerators", "steps", "measured_at", "prompt_tokens", "output_tokens", "load_seconds", "software", "etag", "create_time", "update_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    ACCELERATORS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_AT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    base_model: str
    engine: str
    engine_version: str
    configuration: str
    accelerator: str
    accelerators: int
    steps: _containers.RepeatedCompositeFieldContainer[ProfileStep]
    measured_at: _timestamp_pb2.Timestamp
    prompt_tokens: int
    output_tokens: int
    load_seconds: float
    software: str
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., base_model: _Optional[str] = ..., engine: _Optional[str] = ..., engine_version: _Optional[str] = ..., configuration: _Optional[str] = ..., accelerator: _Optional[str] = ..., accelerators: _Optional[int] = ..., steps: _Optional[_Iterable[_Union[ProfileStep, _Mapping]]] = ..., measured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., prompt_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., load_seconds: _Optional[float] = ..., software: _Optional[str] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
