"""EngineSpec and its techniques, fleet <-> protobuf.

What an older release has stored lacks the newer fields; each has a value that means "not told".
"""

from skerry.api.common.v1 import engine_pb2 as pb
from skerry.fleet.engine import (
    LORA_RANK_DEFAULT,
    Batching,
    CudaGraphs,
    Disaggregation,
    DraftLength,
    EngineName,
    EngineProtocol,
    EngineSpec,
    GuidedDecoding,
    KvCache,
    Lora,
    LoraAdapter,
    Parallelism,
    PrefixCaching,
    Quantisation,
    SpeculativeDecoding,
    SpeculativeMethod,
)


def engine_to_proto(engine: EngineSpec) -> pb.EngineSpec:
    """Return the message of an engine's configuration."""
    message = pb.EngineSpec(
        name=engine.name.value,
        version=engine.version or "",
        # Left out where it is the default, so that what was stored before compares equal.
        protocol="" if engine.protocol is EngineProtocol.HTTP else engine.protocol.value,
        context_tokens=engine.context_tokens,
        concurrent_requests=engine.concurrent_requests,
        quantisation=pb.Quantisation(
            weights=engine.quantisation.weights or "", kv_cache=engine.quantisation.kv_cache or ""
        ),
        prefix_caching=_caching_to_proto(engine.prefix_caching),
        parallelism=_parallelism_to_proto(engine.parallelism),
        options=[pb.EngineOption(name=n, value=v) for n, v in engine.options],
    )
    if engine.kv_cache != KvCache():
        message.kv_cache.memory_share = engine.kv_cache.memory_share or 0.0
    if engine.batching != Batching():
        message.batching.CopyFrom(
            pb.Batching(
                tokens_max=engine.batching.tokens_max,
                chunked_prefill=engine.batching.chunked_prefill,
            )
        )
    _add_techniques(message, engine)
    return message


def engine_from_proto(message: pb.EngineSpec) -> EngineSpec:
    """Return the engine's configuration; ValueError names what is out of range."""
    return EngineSpec(
        name=EngineName(message.name),
        version=message.version or None,
        protocol=EngineProtocol(message.protocol or EngineProtocol.HTTP),
        context_tokens=message.context_tokens,
        concurrent_requests=message.concurrent_requests,
        quantisation=Quantisation(
            weights=message.quantisation.weights or None,
            kv_cache=message.quantisation.kv_cache or None,
        ),
        kv_cache=KvCache(
            memory_share=(
                message.kv_cache.memory_share if message.kv_cache.HasField("memory_share") else None
            )
        ),
        batching=_batching(message.batching),
        speculative=_speculative(message.speculative) if message.HasField("speculative") else None,
        prefix_caching=_caching(message.prefix_caching),
        parallelism=Parallelism(
            tensor=message.parallelism.tensor or 1,
            pipeline=message.parallelism.pipeline or 1,
            expert=message.parallelism.expert or 1,
            attention_data_parallel=message.parallelism.attention_data_parallel,
            data=message.parallelism.data or 1,
        ),
        disaggregation=(
            _disaggregation(message.disaggregation) if message.HasField("disaggregation") else None
        ),
        lora=_lora(message.lora) if message.HasField("lora") else None,
        guided_decoding=(
            GuidedDecoding(backend=message.guided_decoding.backend)
            if message.HasField("guided_decoding")
            else None
        ),
        cuda_graphs=_graphs(message.cuda_graphs) if message.HasField("cuda_graphs") else None,
        options=tuple((option.name, option.value) for option in message.options),
    )


def _add_techniques(message: pb.EngineSpec, engine: EngineSpec) -> None:
    """Set the parts that are left out where nothing was said of them."""
    if (drafting := engine.speculative) is not None:
        message.speculative.CopyFrom(
            pb.SpeculativeDecoding(
                method=drafting.method.value,
                draft_tokens=drafting.draft_tokens,
                draft_model_uri=drafting.draft_model_uri or "",
                draft_length_by_batch=[
                    pb.DraftLength(batch=step.batch, tokens=step.tokens)
                    for step in drafting.draft_length_by_batch
                ],
            )
        )
    if (apart := engine.disaggregation) is not None:
        message.disaggregation.CopyFrom(
            pb.Disaggregation(
                prefill_replicas=apart.prefill_replicas,
                decode_replicas=apart.decode_replicas,
                local_prefill_tokens_max=apart.local_prefill_tokens_max,
            )
        )
    if (lora := engine.lora) is not None:
        message.lora.CopyFrom(
            pb.Lora(
                adapters=[pb.LoraAdapter(name=one.name, uri=one.uri) for one in lora.adapters],
                rank_max=lora.rank_max,
                concurrent_max=lora.concurrent_max,
            )
        )
    if engine.guided_decoding is not None:
        message.guided_decoding.backend = engine.guided_decoding.backend
    if (graphs := engine.cuda_graphs) is not None:
        message.cuda_graphs.CopyFrom(
            pb.CudaGraphs(
                disabled=not graphs.enabled,
                batch_sizes=graphs.batch_sizes,
                batch_max=graphs.batch_max,
            )
        )


def _caching_to_proto(caching: PrefixCaching) -> pb.PrefixCaching:
    return pb.PrefixCaching(
        disabled=not caching.enabled,
        host_memory_bytes=caching.host_memory_bytes,
        disk_path=caching.disk_path or "",
        disk_bytes=caching.disk_bytes,
    )


def _parallelism_to_proto(parallelism: Parallelism) -> pb.Parallelism:
    return pb.Parallelism(
        tensor=parallelism.tensor,
        pipeline=parallelism.pipeline,
        expert=parallelism.expert,
        attention_data_parallel=parallelism.attention_data_parallel,
        # 0 is "not told", which is 1: what was stored before has none.
        data=0 if parallelism.data == 1 else parallelism.data,
    )


def _batching(message: pb.Batching) -> Batching:
    return Batching(
        tokens_max=message.tokens_max if message.HasField("tokens_max") else None,
        chunked_prefill=message.chunked_prefill if message.HasField("chunked_prefill") else None,
    )


def _speculative(message: pb.SpeculativeDecoding) -> SpeculativeDecoding:
    return SpeculativeDecoding(
        method=SpeculativeMethod(message.method),
        draft_tokens=message.draft_tokens,
        draft_model_uri=message.draft_model_uri or None,
        draft_length_by_batch=tuple(
            DraftLength(batch=step.batch, tokens=step.tokens)
            for step in message.draft_length_by_batch
        ),
    )


def _caching(message: pb.PrefixCaching) -> PrefixCaching:
    return PrefixCaching(
        enabled=not message.disabled,
        host_memory_bytes=(
            message.host_memory_bytes if message.HasField("host_memory_bytes") else None
        ),
        disk_path=message.disk_path or None,
        disk_bytes=message.disk_bytes if message.HasField("disk_bytes") else None,
    )


def _disaggregation(message: pb.Disaggregation) -> Disaggregation:
    return Disaggregation(
        prefill_replicas=message.prefill_replicas,
        decode_replicas=message.decode_replicas,
        local_prefill_tokens_max=message.local_prefill_tokens_max,
    )


def _lora(message: pb.Lora) -> Lora:
    return Lora(
        adapters=tuple(LoraAdapter(name=one.name, uri=one.uri) for one in message.adapters),
        # 0 is "not told".
        rank_max=message.rank_max or LORA_RANK_DEFAULT,
        concurrent_max=message.concurrent_max or 1,
    )


def _graphs(message: pb.CudaGraphs) -> CudaGraphs:
    return CudaGraphs(
        enabled=not message.disabled,
        batch_sizes=tuple(message.batch_sizes),
        batch_max=message.batch_max if message.HasField("batch_max") else None,
    )
