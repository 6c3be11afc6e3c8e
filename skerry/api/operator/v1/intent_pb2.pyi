from skerry.api.operator.v1 import accelerator_kind_pb2 as _accelerator_kind_pb2
from skerry.api.operator.v1 import base_model_pb2 as _base_model_pb2
from skerry.api.operator.v1 import cloud_pb2 as _cloud_pb2
from skerry.api.operator.v1 import pool_pb2 as _pool_pb2
from skerry.api.operator.v1 import price_pb2 as _price_pb2
from skerry.api.operator.v1 import region_pb2 as _region_pb2
from skerry.api.operator.v1 import reservation_pb2 as _reservation_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Intent(_message.Message):
    __slots__ = ("pool", "accelerator_kind", "base_model", "reservation", "price", "cloud", "region", "cordon")
    POOL_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_KIND_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    CORDON_FIELD_NUMBER: _ClassVar[int]
    pool: _pool_pb2.Pool
    accelerator_kind: _accelerator_kind_pb2.AcceleratorKind
    base_model: _base_model_pb2.BaseModel
    reservation: _reservation_pb2.Reservation
    price: _price_pb2.Price
    cloud: _cloud_pb2.Cloud
    region: _region_pb2.Region
    cordon: CordonIntent
    def __init__(self, pool: _Optional[_Union[_pool_pb2.Pool, _Mapping]] = ..., accelerator_kind: _Optional[_Union[_accelerator_kind_pb2.AcceleratorKind, _Mapping]] = ..., base_model: _Optional[_Union[_base_model_pb2.BaseModel, _Mapping]] = ..., reservation: _Optional[_Union[_reservation_pb2.Reservation, _Mapping]] = ..., price: _Optional[_Union[_price_pb2.Price, _Mapping]] = ..., cloud: _Optional[_Union[_cloud_pb2.Cloud, _Mapping]] = ..., region: _Optional[_Union[_region_pb2.Region, _Mapping]] = ..., cordon: _Optional[_Union[CordonIntent, _Mapping]] = ...) -> None: ...

class CordonIntent(_message.Message):
    __slots__ = ("name", "reason", "draining")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    draining: bool
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., draining: _Optional[bool] = ...) -> None: ...
