from skerry.api.common.v1 import supply_pb2 as _supply_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Pool(_message.Message):
    __slots__ = ("name", "plane", "shape", "terms", "accelerators_placed", "etag", "effective_terms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    ACCELERATORS_PLACED_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_TERMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    plane: str
    shape: _supply_pb2.PoolShape
    terms: PoolTerms
    accelerators_placed: int
    etag: str
    effective_terms: PoolTerms
    def __init__(self, name: _Optional[str] = ..., plane: _Optional[str] = ..., shape: _Optional[_Union[_supply_pb2.PoolShape, _Mapping]] = ..., terms: _Optional[_Union[PoolTerms, _Mapping]] = ..., accelerators_placed: _Optional[int] = ..., etag: _Optional[str] = ..., effective_terms: _Optional[_Union[PoolTerms, _Mapping]] = ...) -> None: ...

class PoolTerms(_message.Message):
    __slots__ = ("capacity_class", "price_per_accelerator_hour", "cordoned")
    CAPACITY_CLASS_FIELD_NUMBER: _ClassVar[int]
    PRICE_PER_ACCELERATOR_HOUR_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    capacity_class: str
    price_per_accelerator_hour: float
    cordoned: bool
    def __init__(self, capacity_class: _Optional[str] = ..., price_per_accelerator_hour: _Optional[float] = ..., cordoned: _Optional[bool] = ...) -> None: ...
