import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Price(_message.Message):
    __slots__ = ("pool", "valid_from", "price_per_accelerator_hour")
    POOL_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_FIELD_NUMBER: _ClassVar[int]
    PRICE_PER_ACCELERATOR_HOUR_FIELD_NUMBER: _ClassVar[int]
    pool: str
    valid_from: _timestamp_pb2.Timestamp
    price_per_accelerator_hour: float
    def __init__(self, pool: _Optional[str] = ..., valid_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., price_per_accelerator_hour: _Optional[float] = ...) -> None: ...
