"""An engine's message is refused by the fields of the deployment file, before it is a value."""

import pytest

from control_plane.api.violations import violations_of
from skerry.api.common.v1 import deployment_pb2, engine_pb2


def a_spec(engine: engine_pb2.EngineSpec, accelerators: int = 1) -> deployment_pb2.DeploymentSpec:
    spec = deployment_pb2.DeploymentSpec(name="chat")
    spec.revision.base_model.uri = "hf://maker/llama"
    spec.revision.base_model.served_name = "chat"
    spec.revision.engine.CopyFrom(engine)
    spec.revision.engine.name = engine.name or "vllm"
    spec.revision.engine.context_tokens = 2048
    spec.revision.engine.concurrent_requests = 4
    spec.revision.shapes.add(accelerator="H100-80G", accelerators=accelerators)
    return spec


def paths_of(engine: engine_pb2.EngineSpec) -> list[str]:
    return [fault.path.removeprefix("spec.engine.") for fault in violations_of(a_spec(engine))]


@pytest.mark.parametrize(
    ("engine", "path"),
    [
        (engine_pb2.EngineSpec(version="newest"), "version"),
        (engine_pb2.EngineSpec(protocol="smoke"), "protocol"),
        (
            engine_pb2.EngineSpec(kv_cache=engine_pb2.KvCache(memory_share=1.5)),
            "kvCache.memoryShare",
        ),
        (
            engine_pb2.EngineSpec(kv_cache=engine_pb2.KvCache(memory_share=float("nan"))),
            "kvCache.memoryShare",
        ),
        (engine_pb2.EngineSpec(batching=engine_pb2.Batching(tokens_max=0)), "batching.tokensMax"),
        (
            engine_pb2.EngineSpec(prefix_caching=engine_pb2.PrefixCaching(disk_path="a/../b")),
            "prefixCaching.diskPath",
        ),
        (
            engine_pb2.EngineSpec(prefix_caching=engine_pb2.PrefixCaching(disk_bytes=1)),
            "prefixCaching.disk",
        ),
        (engine_pb2.EngineSpec(lora=engine_pb2.Lora()), "lora.adapters"),
        (
            engine_pb2.EngineSpec(
                lora=engine_pb2.Lora(adapters=[engine_pb2.LoraAdapter(name="a=b", uri="hf://a/b")])
            ),
            "lora.adapters[0].name",
        ),
        (
            engine_pb2.EngineSpec(guided_decoding=engine_pb2.GuidedDecoding()),
            "guidedDecoding.backend",
        ),
        (
            engine_pb2.EngineSpec(cuda_graphs=engine_pb2.CudaGraphs(batch_sizes=[0])),
            "cudaGraphs.batchSizes[0]",
        ),
        (
            engine_pb2.EngineSpec(cuda_graphs=engine_pb2.CudaGraphs(batch_sizes=[4, 2])),
            "cudaGraphs",
        ),
        (
            engine_pb2.EngineSpec(
                speculative=engine_pb2.SpeculativeDecoding(
                    method="ngram",
                    draft_tokens=4,
                    draft_length_by_batch=[engine_pb2.DraftLength(batch=1, tokens=9)],
                )
            ),
            "speculativeDecoding.draftLengthByBatch",
        ),
        (
            engine_pb2.EngineSpec(
                disaggregation=engine_pb2.Disaggregation(prefill_replicas=99, decode_replicas=1)
            ),
            "disaggregation.prefillReplicas",
        ),
    ],
)
def test_a_fault_is_told_at_its_field(engine: engine_pb2.EngineSpec, path: str) -> None:
    assert path in paths_of(engine)


def test_what_is_not_told_is_no_fault() -> None:
    assert paths_of(engine_pb2.EngineSpec()) == []


def test_a_replica_needs_room_for_every_server_of_it() -> None:
    engine = engine_pb2.EngineSpec(
        parallelism=engine_pb2.Parallelism(tensor=2, data=2),
        disaggregation=engine_pb2.Disaggregation(prefill_replicas=1, decode_replicas=1),
    )
    (fault,) = violations_of(a_spec(engine, accelerators=4))
    assert fault.path == "spec.resources[0].count"
    assert "= 8;" in fault.message
    assert list(violations_of(a_spec(engine, accelerators=8))) == []
