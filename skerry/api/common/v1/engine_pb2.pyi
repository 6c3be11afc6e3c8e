from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Quantisation(_message.Message):
    __slots__ = ("weights", "kv_cache")
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_FIELD_NUMBER: _ClassVar[int]
    weights: str
    kv_cache: str
    def __init__(self, weights: _Optional[str] = ..., kv_cache: _Optional[str] = ...) -> None: ...

class KvCache(_message.Message):
    __slots__ = ("memory_share",)
    MEMORY_SHARE_FIELD_NUMBER: _ClassVar[int]
    memory_share: float
    def __init__(self, memory_share: _Optional[float] = ...) -> None: ...

class Batching(_message.Message):
    __slots__ = ("tokens_max", "chunked_prefill")
    TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    CHUNKED_PREFILL_FIELD_NUMBER: _ClassVar[int]
    tokens_max: int
    chunked_prefill: bool
    def __init__(self, tokens_max: _Optional[int] = ..., chunked_prefill: _Optional[bool] = ...) -> None: ...

class DraftLength(_message.Message):
    __slots__ = ("batch", "tokens")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    batch: int
    tokens: int
    def __init__(self, batch: _Optional[int] = ..., tokens: _Optional[int] = ...) -> None: ...

class SpeculativeDecoding(_message.Message):
    __slots__ = ("method", "draft_tokens", "draft_model_uri", "draft_length_by_batch")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_MODEL_URI_FIELD_NUMBER: _ClassVar[int]
    DRAFT_LENGTH_BY_BATCH_FIELD_NUMBER: _ClassVar[int]
    method: str
    draft_tokens: int
    draft_model_uri: str
    draft_length_by_batch: _containers.RepeatedCompositeFieldContainer[DraftLength]
    def __init__(self, method: _Optional[str] = ..., draft_tokens: _Optional[int] = ..., draft_model_uri: _Optional[str] = ..., draft_length_by_batch: _Optional[_Iterable[_Union[DraftLength, _Mapping]]] = ...) -> None: ...

class PrefixCaching(_message.Message):
    __slots__ = ("disabled", "host_memory_bytes", "disk_path", "disk_bytes")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    HOST_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_PATH_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    host_memory_bytes: int
    disk_path: str
    disk_bytes: int
    def __init__(self, disabled: _Optional[bool] = ..., host_memory_bytes: _Optional[int] = ..., disk_path: _Optional[str] = ..., disk_bytes: _Optional[int] = ...) -> None: ...

class Parallelism(_message.Message):
    __slots__ = ("tensor", "pipeline", "expert", "attention_data_parallel", "data")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_DATA_PARALLEL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    tensor: int
    pipeline: int
    expert: int
    attention_data_parallel: bool
    data: int
    def __init__(self, tensor: _Optional[int] = ..., pipeline: _Optional[int] = ..., expert: _Optional[int] = ..., attention_data_parallel: _Optional[bool] = ..., data: _Optional[int] = ...) -> None: ...

class Disaggregation(_message.Message):
    __slots__ = ("prefill_replicas", "decode_replicas", "local_prefill_tokens_max")
    PREFILL_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    DECODE_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_PREFILL_TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    prefill_replicas: int
    decode_replicas: int
    local_prefill_tokens_max: int
    def __init__(self, prefill_replicas: _Optional[int] = ..., decode_replicas: _Optional[int] = ..., local_prefill_tokens_max: _Optional[int] = ...) -> None: ...

class LoraAdapter(_message.Message):
    __slots__ = ("name", "uri")
    NAME_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    name: str
    uri: str
    def __init__(self, name: _Optional[str] = ..., uri: _Optional[str] = ...) -> None: ...

class Lora(_message.Message):
    __slots__ = ("adapters", "rank_max", "concurrent_max")
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    RANK_MAX_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_MAX_FIELD_NUMBER: _ClassVar[int]
    adapters: _containers.RepeatedCompositeFieldContainer[LoraAdapter]
    rank_max: int
    concurrent_max: int
    def __init__(self, adapters: _Optional[_Iterable[_Union[LoraAdapter, _Mapping]]] = ..., rank_max: _Optional[int] = ..., concurrent_max: _Optional[int] = ...) -> None: ...

class GuidedDecoding(_message.Message):
    __slots__ = ("backend",)
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    backend: str
    def __init__(self, backend: _Optional[str] = ...) -> None: ...

class CudaGraphs(_message.Message):
    __slots__ = ("disabled", "batch_sizes", "batch_max")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZES_FIELD_NUMBER: _ClassVar[int]
    BATCH_MAX_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    batch_sizes: _containers.RepeatedScalarFieldContainer[int]
    batch_max: int
    def __init__(self, disabled: _Optional[bool] = ..., batch_sizes: _Optional[_Iterable[int]] = ..., batch_max: _Optional[int] = ...) -> None: ...

class EngineOption(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class EngineSpec(_message.Message):
    __slots__ = ("name", "context_tokens", "concurrent_requests", "quantisation", "speculative", "prefix_caching", "parallelism", "disaggregation", "options", "version", "protocol", "kv_cache", "batching", "lora", "guided_decoding", "cuda_graphs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    QUANTISATION_FIELD_NUMBER: _ClassVar[int]
    SPECULATIVE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_CACHING_FIELD_NUMBER: _ClassVar[int]
    PARALLELISM_FIELD_NUMBER: _ClassVar[int]
    DISAGGREGATION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    GUIDED_DECODING_FIELD_NUMBER: _ClassVar[int]
    CUDA_GRAPHS_FIELD_NUMBER: _ClassVar[int]
    name: str
    context_tokens: int
    concurrent_requests: int
    quantisation: Quantisation
    speculative: SpeculativeDecoding
    prefix_caching: PrefixCaching
    parallelism: Parallelism
    disaggregation: Disaggregation
    options: _containers.RepeatedCompositeFieldContainer[EngineOption]
    version: str
    protocol: str
    kv_cache: KvCache
    batching: Batching
    lora: Lora
    guided_decoding: GuidedDecoding
    cuda_graphs: CudaGraphs
    def __init__(self, name: _Optional[str] = ..., context_tokens: _Optional[int] = ..., concurrent_requests: _Optional[int] = ..., quantisation: _Optional[_Union[Quantisation, _Mapping]] = ..., speculative: _Optional[_Union[SpeculativeDecoding, _Mapping]] = ..., prefix_caching: _Optional[_Union[PrefixCaching, _Mapping]] = ..., parallelism: _Optional[_Union[Parallelism, _Mapping]] = ..., disaggregation: _Optional[_Union[Disaggregation, _Mapping]] = ..., options: _Optional[_Iterable[_Union[EngineOption, _Mapping]]] = ..., version: _Optional[str] = ..., protocol: _Optional[str] = ..., kv_cache: _Optional[_Union[KvCache, _Mapping]] = ..., batching: _Optional[_Union[Batching, _Mapping]] = ..., lora: _Optional[_Union[Lora, _Mapping]] = ..., guided_decoding: _Optional[_Union[GuidedDecoding, _Mapping]] = ..., cuda_graphs: _Optional[_Union[CudaGraphs, _Mapping]] = ...) -> None: ...
