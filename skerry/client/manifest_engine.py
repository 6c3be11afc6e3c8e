"""The engine of a deployment file, both ways: from the schema's values and back to the file's.

Called by `manifest` and `manifest_rendering`. What equals the schema's default is left out.
"""

from typing import Any

from skerry.client import manifest_schema as schema
from skerry.client.manifest_faults import placed
from skerry.client.quantities import format_bytes
from skerry.fleet.engine import (
    Batching,
    CudaGraphs,
    Disaggregation,
    DraftLength,
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
)
from skerry.plumbing import yaml_document

Mapping = dict[str, Any]


def read_engine(part: schema.EnginePart, document: yaml_document.Document) -> EngineSpec:
    """Return the engine's configuration; faults name the line and the field."""
    with placed(document, "spec", "engine", "prefixCaching"):
        caching = PrefixCaching(
            enabled=part.prefix_caching.enabled,
            host_memory_bytes=part.prefix_caching.host_memory,
            disk_path=part.prefix_caching.disk_path,
            disk_bytes=part.prefix_caching.disk,
        )
    disaggregation = None
    if (apart := part.disaggregation) is not None:
        disaggregation = Disaggregation(
            prefill_replicas=apart.prefill_replicas,
            decode_replicas=apart.decode_replicas,
            local_prefill_tokens_max=apart.local_prefill_tokens_max,
        )
    guided = part.guided_decoding
    speculative = _speculative(part.speculative_decoding, document)
    lora = _lora(part.lora, document)
    graphs = _graphs(part.cuda_graphs, document)
    with placed(document, "spec", "engine", "version"):
        return EngineSpec(
            name=part.name,
            version=part.version,
            protocol=part.protocol,
            context_tokens=part.context_tokens,
            concurrent_requests=part.concurrent_requests,
            quantisation=Quantisation(
                weights=part.quantisation.weights, kv_cache=part.quantisation.kv_cache
            ),
            kv_cache=KvCache(memory_share=part.kv_cache.memory_share),
            batching=Batching(
                tokens_max=part.batching.tokens_max, chunked_prefill=part.batching.chunked_prefill
            ),
            speculative=speculative,
            prefix_caching=caching,
            parallelism=Parallelism(
                tensor=part.parallelism.tensor,
                pipeline=part.parallelism.pipeline,
                expert=part.parallelism.expert,
                attention_data_parallel=part.parallelism.attention_data_parallel,
                data=part.parallelism.data,
            ),
            disaggregation=disaggregation,
            lora=lora,
            guided_decoding=GuidedDecoding(backend=guided.backend) if guided else None,
            cuda_graphs=graphs,
            options=tuple((name, _option_text(value)) for name, value in part.options.items()),
        )


def render_engine(engine: EngineSpec) -> Mapping:
    """Return the engine as the plain values of a deployment file."""
    values: Mapping = {"name": engine.name.value}
    if engine.version is not None:
        values["version"] = engine.version
    if engine.protocol is not EngineProtocol.HTTP:
        values["protocol"] = engine.protocol.value
    values["contextTokens"] = engine.context_tokens
    values["concurrentRequests"] = engine.concurrent_requests
    parts: Mapping = {
        "quantisation": _present(
            {"weights": engine.quantisation.weights, "kvCache": engine.quantisation.kv_cache}
        ),
        "kvCache": _present({"memoryShare": engine.kv_cache.memory_share}),
        "batching": _present(
            {
                "tokensMax": engine.batching.tokens_max,
                "chunkedPrefill": engine.batching.chunked_prefill,
            }
        ),
        "speculativeDecoding": _render_speculative(engine.speculative),
        "prefixCaching": _render_caching(engine.prefix_caching),
        "parallelism": _render_parallelism(engine.parallelism),
        "disaggregation": _render_disaggregation(engine.disaggregation),
        "lora": _render_lora(engine.lora),
        "guidedDecoding": (
            {"backend": engine.guided_decoding.backend} if engine.guided_decoding else {}
        ),
        "options": dict(engine.options),
    }
    values |= {name: part for name, part in parts.items() if part}
    if engine.cuda_graphs is not None:  # also when all of it is the default: it was told
        values["cudaGraphs"] = _render_graphs(engine.cuda_graphs)
    return values


def _speculative(
    part: schema.SpeculativePart | None, document: yaml_document.Document
) -> SpeculativeDecoding | None:
    if part is None:
        return None
    with placed(document, "spec", "engine", "speculativeDecoding"):
        return SpeculativeDecoding(
            method=part.method,
            draft_tokens=part.draft_tokens,
            draft_model_uri=part.draft_model_uri,
            draft_length_by_batch=tuple(
                DraftLength(batch=step.batch, tokens=step.tokens)
                for step in part.draft_length_by_batch
            ),
        )


def _lora(part: schema.LoraPart | None, document: yaml_document.Document) -> Lora | None:
    if part is None:
        return None
    with placed(document, "spec", "engine", "lora"):
        return Lora(
            adapters=tuple(LoraAdapter(name=one.name, uri=one.uri) for one in part.adapters),
            rank_max=part.rank_max,
            concurrent_max=part.concurrent_max,
        )


def _graphs(
    part: schema.CudaGraphsPart | None, document: yaml_document.Document
) -> CudaGraphs | None:
    if part is None:
        return None
    with placed(document, "spec", "engine", "cudaGraphs"):
        return CudaGraphs(
            enabled=part.enabled, batch_sizes=tuple(part.batch_sizes), batch_max=part.batch_max
        )


def _option_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _render_speculative(drafting: SpeculativeDecoding | None) -> Mapping:
    if drafting is None:
        return {}
    values = _present(
        {
            "method": drafting.method.value,
            "draftTokens": drafting.draft_tokens,
            "draftModelUri": drafting.draft_model_uri,
        }
    )
    if drafting.draft_length_by_batch:
        values["draftLengthByBatch"] = [
            {"batch": step.batch, "tokens": step.tokens} for step in drafting.draft_length_by_batch
        ]
    return values


def _render_caching(caching: PrefixCaching) -> Mapping:
    if caching == PrefixCaching():
        return {}
    values: Mapping = {"enabled": caching.enabled}
    if caching.host_memory_bytes is not None:
        values["hostMemory"] = format_bytes(caching.host_memory_bytes)
    if caching.disk_path is not None:
        values["diskPath"] = caching.disk_path
    if caching.disk_bytes is not None:
        values["disk"] = format_bytes(caching.disk_bytes)
    return values


def _render_parallelism(parallelism: Parallelism) -> Mapping:
    if parallelism == Parallelism():
        return {}
    values: Mapping = {
        "tensor": parallelism.tensor,
        "pipeline": parallelism.pipeline,
        "expert": parallelism.expert,
    }
    if parallelism.attention_data_parallel:
        values["attentionDataParallel"] = True
    if parallelism.data != 1:
        values["data"] = parallelism.data
    return values


def _render_disaggregation(apart: Disaggregation | None) -> Mapping:
    if apart is None:
        return {}
    return {
        "prefillReplicas": apart.prefill_replicas,
        "decodeReplicas": apart.decode_replicas,
        "localPrefillTokensMax": apart.local_prefill_tokens_max,
    }


def _render_lora(lora: Lora | None) -> Mapping:
    if lora is None:
        return {}
    return {
        "adapters": [{"name": one.name, "uri": one.uri} for one in lora.adapters],
        "rankMax": lora.rank_max,
        "concurrentMax": lora.concurrent_max,
    }


def _render_graphs(graphs: CudaGraphs) -> Mapping:
    values: Mapping = {"enabled": graphs.enabled}
    if graphs.batch_sizes:
        values["batchSizes"] = list(graphs.batch_sizes)
    if graphs.batch_max is not None:
        values["batchMax"] = graphs.batch_max
    return values


def _present(values: Mapping) -> Mapping:
    return {name: value for name, value in values.items() if value is not None}
