import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from skerry.api.common.v1 import replica_pb2 as _replica_pb2
from skerry.api.common.v1 import supply_pb2 as _supply_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Plane(_message.Message):
    __slots__ = ("name", "identity", "gateway", "state", "reason", "state_time", "desired", "held", "witnesses", "nack", "gateway_faults")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Plane.State]
        STATE_CONNECTED: _ClassVar[Plane.State]
        STATE_DISCONNECTED: _ClassVar[Plane.State]
        STATE_SUSPECT: _ClassVar[Plane.State]
        STATE_LOST: _ClassVar[Plane.State]
        STATE_RECOVERING: _ClassVar[Plane.State]
    STATE_UNSPECIFIED: Plane.State
    STATE_CONNECTED: Plane.State
    STATE_DISCONNECTED: Plane.State
    STATE_SUSPECT: Plane.State
    STATE_LOST: Plane.State
    STATE_RECOVERING: Plane.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FAULTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    identity: _supply_pb2.PlaneIdentity
    gateway: _supply_pb2.GatewayAddresses
    state: Plane.State
    reason: str
    state_time: _timestamp_pb2.Timestamp
    desired: _supply_pb2.Version
    held: _supply_pb2.Version
    witnesses: _containers.RepeatedCompositeFieldContainer[Witness]
    nack: str
    gateway_faults: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., identity: _Optional[_Union[_supply_pb2.PlaneIdentity, _Mapping]] = ..., gateway: _Optional[_Union[_supply_pb2.GatewayAddresses, _Mapping]] = ..., state: _Optional[_Union[Plane.State, str]] = ..., reason: _Optional[str] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., desired: _Optional[_Union[_supply_pb2.Version, _Mapping]] = ..., held: _Optional[_Union[_supply_pb2.Version, _Mapping]] = ..., witnesses: _Optional[_Iterable[_Union[Witness, _Mapping]]] = ..., nack: _Optional[str] = ..., gateway_faults: _Optional[_Iterable[str]] = ...) -> None: ...

class Witness(_message.Message):
    __slots__ = ("plane", "verdict", "since_time", "served_until_time", "discounted")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    SERVED_UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    DISCOUNTED_FIELD_NUMBER: _ClassVar[int]
    plane: str
    verdict: _replica_pb2.PeerVerdict
    since_time: _timestamp_pb2.Timestamp
    served_until_time: _timestamp_pb2.Timestamp
    discounted: str
    def __init__(self, plane: _Optional[str] = ..., verdict: _Optional[_Union[_replica_pb2.PeerVerdict, str]] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., served_until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., discounted: _Optional[str] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("judge_time", "state", "before", "reason", "linked", "silent_seconds", "lease_seconds", "witnesses", "witnesses_needed", "witnesses_against", "grace", "frozen", "planes_counted", "planes_silent", "declared")
    JUDGE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LINKED_FIELD_NUMBER: _ClassVar[int]
    SILENT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_NEEDED_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_AGAINST_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    PLANES_COUNTED_FIELD_NUMBER: _ClassVar[int]
    PLANES_SILENT_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    judge_time: _timestamp_pb2.Timestamp
    state: Plane.State
    before: Plane.State
    reason: str
    linked: bool
    silent_seconds: float
    lease_seconds: float
    witnesses: _containers.RepeatedCompositeFieldContainer[Witness]
    witnesses_needed: int
    witnesses_against: int
    grace: bool
    frozen: bool
    planes_counted: int
    planes_silent: int
    declared: bool
    def __init__(self, judge_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[Plane.State, str]] = ..., before: _Optional[_Union[Plane.State, str]] = ..., reason: _Optional[str] = ..., linked: _Optional[bool] = ..., silent_seconds: _Optional[float] = ..., lease_seconds: _Optional[float] = ..., witnesses: _Optional[_Iterable[_Union[Witness, _Mapping]]] = ..., witnesses_needed: _Optional[int] = ..., witnesses_against: _Optional[int] = ..., grace: _Optional[bool] = ..., frozen: _Optional[bool] = ..., planes_counted: _Optional[int] = ..., planes_silent: _Optional[int] = ..., declared: _Optional[bool] = ...) -> None: ...

class PlaneExplanation(_message.Message):
    __slots__ = ("plane", "reason", "until_lost", "verdict", "history", "held_back", "ending")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNTIL_LOST_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    plane: Plane
    reason: str
    until_lost: _containers.RepeatedScalarFieldContainer[str]
    verdict: Verdict
    history: _containers.RepeatedCompositeFieldContainer[Verdict]
    held_back: _containers.RepeatedScalarFieldContainer[str]
    ending: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, plane: _Optional[_Union[Plane, _Mapping]] = ..., reason: _Optional[str] = ..., until_lost: _Optional[_Iterable[str]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., history: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., held_back: _Optional[_Iterable[str]] = ..., ending: _Optional[_Iterable[str]] = ...) -> None: ...
