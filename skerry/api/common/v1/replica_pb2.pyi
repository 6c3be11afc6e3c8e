import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReplicaState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_STATE_UNSPECIFIED: _ClassVar[ReplicaState]
    REPLICA_STATE_STARTING: _ClassVar[ReplicaState]
    REPLICA_STATE_READY: _ClassVar[ReplicaState]
    REPLICA_STATE_DRAINING: _ClassVar[ReplicaState]
    REPLICA_STATE_FAILED: _ClassVar[ReplicaState]

class PeerVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PEER_VERDICT_UNSPECIFIED: _ClassVar[PeerVerdict]
    PEER_VERDICT_UNKNOWN: _ClassVar[PeerVerdict]
    PEER_VERDICT_SERVING: _ClassVar[PeerVerdict]
    PEER_VERDICT_REACHABLE: _ClassVar[PeerVerdict]
    PEER_VERDICT_UNREACHABLE: _ClassVar[PeerVerdict]
REPLICA_STATE_UNSPECIFIED: ReplicaState
REPLICA_STATE_STARTING: ReplicaState
REPLICA_STATE_READY: ReplicaState
REPLICA_STATE_DRAINING: ReplicaState
REPLICA_STATE_FAILED: ReplicaState
PEER_VERDICT_UNSPECIFIED: PeerVerdict
PEER_VERDICT_UNKNOWN: PeerVerdict
PEER_VERDICT_SERVING: PeerVerdict
PEER_VERDICT_REACHABLE: PeerVerdict
PEER_VERDICT_UNREACHABLE: PeerVerdict

class ObservedReplica(_message.Message):
    __slots__ = ("name", "deployment", "revision", "pool", "state", "http", "grpc", "pid", "engine_pid", "restarts", "message", "nodes", "start_seconds", "failures")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HTTP_FIELD_NUMBER: _ClassVar[int]
    GRPC_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    ENGINE_PID_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    name: str
    deployment: str
    revision: int
    pool: str
    state: ReplicaState
    http: str
    grpc: str
    pid: int
    engine_pid: int
    restarts: int
    message: str
    nodes: _containers.RepeatedScalarFieldContainer[str]
    start_seconds: float
    failures: int
    def __init__(self, name: _Optional[str] = ..., deployment: _Optional[str] = ..., revision: _Optional[int] = ..., pool: _Optional[str] = ..., state: _Optional[_Union[ReplicaState, str]] = ..., http: _Optional[str] = ..., grpc: _Optional[str] = ..., pid: _Optional[int] = ..., engine_pid: _Optional[int] = ..., restarts: _Optional[int] = ..., message: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ..., start_seconds: _Optional[float] = ..., failures: _Optional[int] = ...) -> None: ...

class PeerView(_message.Message):
    __slots__ = ("plane", "verdict", "since_time", "served_until_time", "served_until_seconds")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    SERVED_UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    SERVED_UNTIL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    plane: str
    verdict: PeerVerdict
    since_time: _timestamp_pb2.Timestamp
    served_until_time: _timestamp_pb2.Timestamp
    served_until_seconds: float
    def __init__(self, plane: _Optional[str] = ..., verdict: _Optional[_Union[PeerVerdict, str]] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., served_until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., served_until_seconds: _Optional[float] = ...) -> None: ...
