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

class SpeculativeDecoding(_message.Message):
    __slots__ = ("method", "draft_tokens", "draft_model_uri")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_MODEL_URI_FIELD_NUMBER: _ClassVar[int]
    method: str
    draft_tokens: int
    draft_model_uri: str
    def __init__(self, method: _Optional[str] = ..., draft_tokens: _Optional[int] = ..., draft_model_uri: _Optional[str] = ...) -> None: ...

class PrefixCaching(_message.Message):
    __slots__ = ("disabled", "host_memory_bytes")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    HOST_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    host_memory_bytes: int
    def __init__(self, disabled: _Optional[bool] = ..., host_memory_bytes: _Optional[int] = ...) -> None: ...

class Parallelism(_message.Message):
    __slots__ = ("tensor", "pipeline", "expert", "attention_data_parallel")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_DATA_PARALLEL_FIELD_NUMBER: _ClassVar[int]
    tensor: int
    pipeline: int
    expert: int
    attention_data_parallel: bool
    def __init__(self, tensor: _Optional[int] = ..., pipeline: _Optional[int] = ..., expert: _Optional[int] = ..., attention_data_parallel: _Optional[bool] = ...) -> None: ...

class Disaggregation(_message.Message):
    __slots__ = ("prefill_replicas", "decode_replicas", "local_prefill_tokens_max")
    PREFILL_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    DECODE_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_PREFILL_TOKENS_MAX_FIELD_NUMBER: _ClassVar[int]
    prefill_replicas: int
    decode_replicas: int
    local_prefill_tokens_max: int
    def __init__(self, prefill_replicas: _Optional[int] = ..., decode_replicas: _Optional[int] = ..., local_prefill_tokens_max: _Optional[int] = ...) -> None: ...

class EngineOption(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class EngineSpec(_message.Message):
    __slots__ = ("name", "context_tokens", "concurrent_requests", "quantisation", "speculative", "prefix_caching", "parallelism", "disaggregation", "options")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    QUANTISATION_FIELD_NUMBER: _ClassVar[int]
    SPECULATIVE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_CACHING_FIELD_NUMBER: _ClassVar[int]
    PARALLELISM_FIELD_NUMBER: _ClassVar[int]
    DISAGGREGATION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    context_tokens: int
    concurrent_requests: int
    quantisation: Quantisation
    speculative: SpeculativeDecoding
    prefix_caching: PrefixCaching
    parallelism: Parallelism
    disaggregation: Disaggregation
    options: _containers.RepeatedCompositeFieldContainer[EngineOption]
    def __init__(self, name: _Optional[str] = ..., context_tokens: _Optional[int] = ..., concurrent_requests: _Optional[int] = ..., quantisation: _Optional[_Union[Quantisation, _Mapping]] = ..., speculative: _Optional[_Union[SpeculativeDecoding, _Mapping]] = ..., prefix_caching: _Optional[_Union[PrefixCaching, _Mapping]] = ..., parallelism: _Optional[_Union[Parallelism, _Mapping]] = ..., disaggregation: _Optional[_Union[Disaggregation, _Mapping]] = ..., options: _Optional[_Iterable[_Union[EngineOption, _Mapping]]] = ...) -> None: ...
