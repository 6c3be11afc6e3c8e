from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class PlaneIdentity(_message.Message):
    __slots__ = ("name", "cloud", "region", "zone", "residency_zones", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_ZONES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    cloud: str
    region: str
    zone: str
    residency_zones: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., cloud: _Optional[str] = ..., region: _Optional[str] = ..., zone: _Optional[str] = ..., residency_zones: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PoolShape(_message.Message):
    __slots__ = ("name", "accelerator", "accelerator_memory_bytes", "nodes", "accelerators_per_node", "host_memory_bytes", "interconnect")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    ACCELERATORS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    HOST_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTERCONNECT_FIELD_NUMBER: _ClassVar[int]
    name: str
    accelerator: str
    accelerator_memory_bytes: int
    nodes: int
    accelerators_per_node: int
    host_memory_bytes: int
    interconnect: str
    def __init__(self, name: _Optional[str] = ..., accelerator: _Optional[str] = ..., accelerator_memory_bytes: _Optional[int] = ..., nodes: _Optional[int] = ..., accelerators_per_node: _Optional[int] = ..., host_memory_bytes: _Optional[int] = ..., interconnect: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "pool", "accelerators", "ready", "message")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ACCELERATORS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    pool: str
    accelerators: int
    ready: bool
    message: str
    def __init__(self, name: _Optional[str] = ..., pool: _Optional[str] = ..., accelerators: _Optional[int] = ..., ready: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class GatewayAddresses(_message.Message):
    __slots__ = ("http", "grpc", "peer")
    HTTP_FIELD_NUMBER: _ClassVar[int]
    GRPC_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    http: str
    grpc: str
    peer: str
    def __init__(self, http: _Optional[str] = ..., grpc: _Optional[str] = ..., peer: _Optional[str] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("epoch", "generation")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    generation: int
    def __init__(self, epoch: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...
