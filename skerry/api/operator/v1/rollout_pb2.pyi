import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Rollout(_message.Message):
    __slots__ = ("name", "deployment", "revision", "stable_revision", "state", "stage", "since", "reason", "plane", "pool", "planes_done", "broken_revisions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STABLE_REVISION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    PLANES_DONE_FIELD_NUMBER: _ClassVar[int]
    BROKEN_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    deployment: str
    revision: int
    stable_revision: int
    state: str
    stage: str
    since: _timestamp_pb2.Timestamp
    reason: str
    plane: str
    pool: str
    planes_done: _containers.RepeatedScalarFieldContainer[str]
    broken_revisions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., deployment: _Optional[str] = ..., revision: _Optional[int] = ..., stable_revision: _Optional[int] = ..., state: _Optional[str] = ..., stage: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., plane: _Optional[str] = ..., pool: _Optional[str] = ..., planes_done: _Optional[_Iterable[str]] = ..., broken_revisions: _Optional[_Iterable[int]] = ...) -> None: ...
