import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from skerry.api.common.v1 import deployment_pb2 as _deployment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Deployment(_message.Message):
    __slots__ = ("name", "spec", "status", "etag", "create_time", "update_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: _deployment_pb2.DeploymentSpec
    status: DeploymentStatus
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[_Union[_deployment_pb2.DeploymentSpec, _Mapping]] = ..., status: _Optional[_Union[DeploymentStatus, _Mapping]] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DeploymentStatus(_message.Message):
    __slots__ = ("replicas_placed", "replicas_ready", "replicas_wanted", "cost_per_hour", "pending", "deleting", "replicas_needed", "replicas_short", "short_dollars_per_hour")
    REPLICAS_PLACED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_READY_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_WANTED_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    DELETING_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_NEEDED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_SHORT_FIELD_NUMBER: _ClassVar[int]
    SHORT_DOLLARS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    replicas_placed: int
    replicas_ready: int
    replicas_wanted: int
    cost_per_hour: float
    pending: _containers.RepeatedScalarFieldContainer[str]
    deleting: bool
    replicas_needed: int
    replicas_short: int
    short_dollars_per_hour: float
    def __init__(self, replicas_placed: _Optional[int] = ..., replicas_ready: _Optional[int] = ..., replicas_wanted: _Optional[int] = ..., cost_per_hour: _Optional[float] = ..., pending: _Optional[_Iterable[str]] = ..., deleting: _Optional[bool] = ..., replicas_needed: _Optional[int] = ..., replicas_short: _Optional[int] = ..., short_dollars_per_hour: _Optional[float] = ...) -> None: ...

class DeploymentRevision(_message.Message):
    __slots__ = ("name", "revision", "create_time", "current")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: _deployment_pb2.Revision
    create_time: _timestamp_pb2.Timestamp
    current: bool
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[_Union[_deployment_pb2.Revision, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., current: _Optional[bool] = ...) -> None: ...
