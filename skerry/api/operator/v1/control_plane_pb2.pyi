import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ControlPlane(_message.Message):
    __slots__ = ("name", "role", "epoch", "address", "link_address", "http_address", "software", "since", "heard_at")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ROLE_UNSPECIFIED: _ClassVar[ControlPlane.Role]
        ROLE_LEADING: _ClassVar[ControlPlane.Role]
        ROLE_STANDING_BY: _ClassVar[ControlPlane.Role]
        ROLE_SILENT: _ClassVar[ControlPlane.Role]
    ROLE_UNSPECIFIED: ControlPlane.Role
    ROLE_LEADING: ControlPlane.Role
    ROLE_STANDING_BY: ControlPlane.Role
    ROLE_SILENT: ControlPlane.Role
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LINK_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HTTP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    HEARD_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: ControlPlane.Role
    epoch: int
    address: str
    link_address: str
    http_address: str
    software: str
    since: _timestamp_pb2.Timestamp
    heard_at: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., role: _Optional[_Union[ControlPlane.Role, str]] = ..., epoch: _Optional[int] = ..., address: _Optional[str] = ..., link_address: _Optional[str] = ..., http_address: _Optional[str] = ..., software: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., heard_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
