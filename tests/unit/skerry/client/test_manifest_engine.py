"""The engine of a deployment file: every technique is read, and every fault has its place."""

import pytest

from skerry.client.manifest import read_manifests
from skerry.fleet.engine import (
    Batching,
    CudaGraphs,
    DraftLength,
    EngineProtocol,
    EngineSpec,
    GuidedDecoding,
    KvCache,
    Lora,
    LoraAdapter,
)
from skerry.plumbing.errors import InvalidInput

HEAD = """\
apiVersion: skerry/v1
kind: Deployment
metadata:
  name: chat
spec:
  baseModel:
    uri: hf://maker/llama
  resources:
    - {accelerator: H100-80G, count: 4}
  engine:
    name: tensorrt-llm
"""
FULL = """\
    version: "1.4"
    protocol: openengine
    kvCache: {memoryShare: 0.85}
    batching: {tokensMax: 8192, chunkedPrefill: true}
    prefixCaching: {hostMemory: 32GiB, diskPath: /cache/kv, disk: 512GiB}
    parallelism: {tensor: 2, data: 2}
    speculativeDecoding:
      method: eagle3
      draftTokens: 4
      draftModelUri: hf://maker/draft
      draftLengthByBatch:
        - {batch: 1, tokens: 4}
        - {batch: 16, tokens: 0}
    lora:
      adapters:
        - {name: sql, uri: hf://maker/sql}
      rankMax: 32
      concurrentMax: 2
    guidedDecoding: {backend: xgrammar}
    cudaGraphs: {batchSizes: [1, 2, 4]}
"""
LATE_SCHEDULE = """\
    speculativeDecoding:
      method: ngram
      draftTokens: 4
      draftLengthByBatch: [{batch: 2, tokens: 4}]
"""


def engine_of(text: str) -> EngineSpec:
    (deployment,) = read_manifests((HEAD + text).encode(), "x.yaml")
    return deployment.revision.engine


def test_every_technique_is_read() -> None:
    engine = engine_of(FULL)
    assert (engine.version, engine.protocol) == ("1.4", EngineProtocol.OPENENGINE)
    assert engine.kv_cache == KvCache(memory_share=0.85)
    assert engine.batching == Batching(tokens_max=8192, chunked_prefill=True)
    assert engine.prefix_caching.disk_bytes == 512 * 2**30
    assert engine.accelerators == 4
    assert engine.speculative is not None
    assert engine.speculative.draft_length_by_batch[1] == DraftLength(batch=16, tokens=0)
    adapters = (LoraAdapter(name="sql", uri="hf://maker/sql"),)
    assert engine.lora == Lora(adapters=adapters, rank_max=32, concurrent_max=2)
    assert engine.guided_decoding == GuidedDecoding(backend="xgrammar")
    assert engine.cuda_graphs == CudaGraphs(batch_sizes=(1, 2, 4))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("    kvCach: {}\n", "unknown field; did you mean kvCache?"),
        ("    kvCache: {memoryShar: 1}\n", "did you mean memoryShare?"),
        ("    kvCache: {memoryShare: 1.5}\n", "spec.engine.kvCache.memoryShare: must be at most 1"),
        ("    version: 1.4\n", "spec.engine.version: must be text"),
        ("    version: next\n", "spec.engine.version: version 'next' must look like 1.2"),
        ("    cudaGraphs: {batchSizes: [4, 2]}\n", "spec.engine.cudaGraphs: batch_sizes must rise"),
        ("    prefixCaching: {disk: 1GiB}\n", "spec.engine.prefixCaching: disk_bytes needs"),
        ("    lora: {adapters: []}\n", "spec.engine.lora.adapters: needs at least 1 entry"),
        (
            "    lora: {adapters: [{name: a=b, uri: 'hf://m/a'}]}\n",
            "spec.engine.lora: adapter name 'a=b' must be",
        ),
        (
            LATE_SCHEDULE,
            "spec.engine.speculativeDecoding: draft_length_by_batch must begin at batch 1",
        ),
        (
            "    disaggregation: {prefillReplicas: 2, decodeReplicas: 1}\n",
            "cannot hold tensor x pipeline x data x disaggregated servers = 3",
        ),
    ],
)
def test_a_fault_names_its_line_and_field(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        engine_of(text)
    assert said in refused.value.message
    assert refused.value.message.startswith("x.yaml:")
