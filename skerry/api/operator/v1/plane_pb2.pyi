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
    __slots__ = ("plane", "verdict")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    plane: str
    verdict: _replica_pb2.PeerVerdict
    def __init__(self, plane: _Optional[str] = ..., verdict: _Optional[_Union[_replica_pb2.PeerVerdict, str]] = ...) -> None: ...
