"""EngineSpec and its techniques, fleet <-> protobuf."""

from skerry.api.common.v1 import engine_pb2
from skerry.fleet.engine import (
    Disaggregation,
    EngineName,
    EngineSpec,
    Parallelism,
    PrefixCaching,
    Quantisation,
    SpeculativeDecoding,
    SpeculativeMethod,
)


def engine_to_proto(engine: EngineSpec) -> engine_pb2.EngineSpec:
    """Return the message of an engine's configuration."""
    message = engine_pb2.EngineSpec(
        name=engine.name.value,
        context_tokens=engine.context_tokens,
        concurrent_requests=engine.concurrent_requests,
        quantisation=engine_pb2.Quantisation(
            weights=engine.quantisation.weights or "", kv_cache=engine.quantisation.kv_cache or ""
        ),
        prefix_caching=engine_pb2.PrefixCaching(
            disabled=not engine.prefix_caching.enabled,
            host_memory_bytes=engine.prefix_caching.host_memory_bytes,
        ),
        parallelism=engine_pb2.Parallelism(
            tensor=engine.parallelism.tensor,
            pipeline=engine.parallelism.pipeline,
            expert=engine.parallelism.expert,
            attention_data_parallel=engine.parallelism.attention_data_parallel,
        ),
        options=[engine_pb2.EngineOption(name=n, value=v) for n, v in engine.options],
    )
    if engine.speculative is not None:
        message.speculative.method = engine.speculative.method.value
        message.speculative.draft_tokens = engine.speculative.draft_tokens
        message.speculative.draft_model_uri = engine.speculative.draft_model_uri or ""
    if engine.disaggregation is not None:
        message.disaggregation.prefill_replicas = engine.disaggregation.prefill_replicas
        message.disaggregation.decode_replicas = engine.disaggregation.decode_replicas
        message.disaggregation.local_prefill_tokens_max = (
            engine.disaggregation.local_prefill_tokens_max
        )
    return message


def engine_from_proto(message: engine_pb2.EngineSpec) -> EngineSpec:
    """Return the engine's configuration; ValueError names what is out of range."""
    caching = message.prefix_caching
    parallelism = message.parallelism
    return EngineSpec(
        name=EngineName(message.name),
        context_tokens=message.context_tokens,
        concurrent_requests=message.concurrent_requests,
        quantisation=Quantisation(
            weights=message.quantisation.weights or None,
            kv_cache=message.quantisation.kv_cache or None,
        ),
        speculative=_speculative(message) if message.HasField("speculative") else None,
        prefix_caching=PrefixCaching(
            enabled=not caching.disabled,
            host_memory_bytes=(
                caching.host_memory_bytes if caching.HasField("host_memory_bytes") else None
            ),
        ),
        parallelism=Parallelism(
            tensor=parallelism.tensor or 1,
            pipeline=parallelism.pipeline or 1,
            expert=parallelism.expert or 1,
            attention_data_parallel=parallelism.attention_data_parallel,
        ),
        disaggregation=_disaggregation(message) if message.HasField("disaggregation") else None,
        options=tuple((option.name, option.value) for option in message.options),
    )


def _speculative(message: engine_pb2.EngineSpec) -> SpeculativeDecoding:
    return SpeculativeDecoding(
        method=SpeculativeMethod(message.speculative.method),
        draft_tokens=message.speculative.draft_tokens,
        draft_model_uri=message.speculative.draft_model_uri or None,
    )


def _disaggregation(message: engine_pb2.EngineSpec) -> Disaggregation:
    return Disaggregation(
        prefill_replicas=message.disaggregation.prefill_replicas,
        decode_replicas=message.disaggregation.decode_replicas,
        local_prefill_tokens_max=message.disaggregation.local_prefill_tokens_max,
    )
