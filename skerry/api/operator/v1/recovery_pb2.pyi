import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetRecoveryRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ApproveRecoveryRequest(_message.Message):
    __slots__ = ("name", "request_id", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class Recovery(_message.Message):
    __slots__ = ("name", "state", "reason", "start_time", "planes", "differences", "quarantined", "waits_for", "next_epoch", "etag")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Recovery.State]
        STATE_NONE: _ClassVar[Recovery.State]
        STATE_RECOVERING: _ClassVar[Recovery.State]
    STATE_UNSPECIFIED: Recovery.State
    STATE_NONE: Recovery.State
    STATE_RECOVERING: Recovery.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PLANES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    NEXT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: Recovery.State
    reason: str
    start_time: _timestamp_pb2.Timestamp
    planes: _containers.RepeatedCompositeFieldContainer[RecoveringPlane]
    differences: _containers.RepeatedCompositeFieldContainer[RecoveryDifference]
    quarantined: _containers.RepeatedCompositeFieldContainer[QuarantinedReplicas]
    waits_for: _containers.RepeatedScalarFieldContainer[str]
    next_epoch: int
    etag: str
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[Recovery.State, str]] = ..., reason: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., planes: _Optional[_Iterable[_Union[RecoveringPlane, _Mapping]]] = ..., differences: _Optional[_Iterable[_Union[RecoveryDifference, _Mapping]]] = ..., quarantined: _Optional[_Iterable[_Union[QuarantinedReplicas, _Mapping]]] = ..., waits_for: _Optional[_Iterable[str]] = ..., next_epoch: _Optional[int] = ..., etag: _Optional[str] = ...) -> None: ...

class RecoveringPlane(_message.Message):
    __slots__ = ("plane", "heard", "held_version", "known_version", "replicas", "note")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    HELD_VERSION_FIELD_NUMBER: _ClassVar[int]
    KNOWN_VERSION_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    plane: str
    heard: bool
    held_version: str
    known_version: str
    replicas: int
    note: str
    def __init__(self, plane: _Optional[str] = ..., heard: _Optional[bool] = ..., held_version: _Optional[str] = ..., known_version: _Optional[str] = ..., replicas: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...

class RecoveryDifference(_message.Message):
    __slots__ = ("subject", "resolution", "message", "outcome")
    class Resolution(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        RESOLUTION_UNSPECIFIED: _ClassVar[RecoveryDifference.Resolution]
        RESOLUTION_ADOPT: _ClassVar[RecoveryDifference.Resolution]
        RESOLUTION_CONFLICT: _ClassVar[RecoveryDifference.Resolution]
    RESOLUTION_UNSPECIFIED: RecoveryDifference.Resolution
    RESOLUTION_ADOPT: RecoveryDifference.Resolution
    RESOLUTION_CONFLICT: RecoveryDifference.Resolution
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    subject: str
    resolution: RecoveryDifference.Resolution
    message: str
    outcome: str
    def __init__(self, subject: _Optional[str] = ..., resolution: _Optional[_Union[RecoveryDifference.Resolution, str]] = ..., message: _Optional[str] = ..., outcome: _Optional[str] = ...) -> None: ...

class QuarantinedReplicas(_message.Message):
    __slots__ = ("plane", "deployment", "revision", "replicas")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    plane: str
    deployment: str
    revision: int
    replicas: int
    def __init__(self, plane: _Optional[str] = ..., deployment: _Optional[str] = ..., revision: _Optional[int] = ..., replicas: _Optional[int] = ...) -> None: ...
