import datetime

from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PlaneInvite(_message.Message):
    __slots__ = ("name", "expire_time", "replace", "create_time", "creator", "use_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATOR_FIELD_NUMBER: _ClassVar[int]
    USE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    expire_time: _timestamp_pb2.Timestamp
    replace: bool
    create_time: _timestamp_pb2.Timestamp
    creator: str
    use_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replace: _Optional[bool] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creator: _Optional[str] = ..., use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PlaneIdentity(_message.Message):
    __slots__ = ("name", "key_sha256", "serial_number", "join_time", "expire_time", "revoke_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_SHA256_FIELD_NUMBER: _ClassVar[int]
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    JOIN_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    key_sha256: bytes
    serial_number: str
    join_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    revoke_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., key_sha256: _Optional[bytes] = ..., serial_number: _Optional[str] = ..., join_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListPlaneInvitesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter", "order_by")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: str
    order_by: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ..., order_by: _Optional[str] = ...) -> None: ...

class ListPlaneInvitesResponse(_message.Message):
    __slots__ = ("plane_invites", "next_page_token")
    PLANE_INVITES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plane_invites: _containers.RepeatedCompositeFieldContainer[PlaneInvite]
    next_page_token: str
    def __init__(self, plane_invites: _Optional[_Iterable[_Union[PlaneInvite, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CreatePlaneInviteRequest(_message.Message):
    __slots__ = ("parent", "plane_invite_id", "plane_invite", "proof_sha256", "request_id")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PLANE_INVITE_ID_FIELD_NUMBER: _ClassVar[int]
    PLANE_INVITE_FIELD_NUMBER: _ClassVar[int]
    PROOF_SHA256_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    plane_invite_id: str
    plane_invite: PlaneInvite
    proof_sha256: bytes
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., plane_invite_id: _Optional[str] = ..., plane_invite: _Optional[_Union[PlaneInvite, _Mapping]] = ..., proof_sha256: _Optional[bytes] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreatePlaneInviteResponse(_message.Message):
    __slots__ = ("plane_invite", "authority_certificate", "join_address")
    PLANE_INVITE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    JOIN_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    plane_invite: PlaneInvite
    authority_certificate: bytes
    join_address: str
    def __init__(self, plane_invite: _Optional[_Union[PlaneInvite, _Mapping]] = ..., authority_certificate: _Optional[bytes] = ..., join_address: _Optional[str] = ...) -> None: ...

class DeletePlaneInviteRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ListPlaneIdentitiesRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter", "order_by")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: str
    order_by: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ..., order_by: _Optional[str] = ...) -> None: ...

class ListPlaneIdentitiesResponse(_message.Message):
    __slots__ = ("plane_identities", "next_page_token")
    PLANE_IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plane_identities: _containers.RepeatedCompositeFieldContainer[PlaneIdentity]
    next_page_token: str
    def __init__(self, plane_identities: _Optional[_Iterable[_Union[PlaneIdentity, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RevokePlaneRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...
