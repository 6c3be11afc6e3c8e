"""What is wrong with the engine of a DeploymentSpec taken by itself, beyond its single fields.

`violations` calls it; what an engine cannot do is its renderer's to say (`ports.EngineCheck`).
"""

from collections.abc import Iterator

from skerry.api.common.v1 import deployment_pb2, engine_pb2
from skerry.fleet.engine import (
    CudaGraphs,
    LoraAdapter,
    SpeculativeMethod,
    draft_schedule_fault,
    is_plain_path,
    is_version,
)
from skerry.plumbing.errors import FieldViolation

_ROOT = "spec.engine"


def engine_faults(spec: deployment_pb2.DeploymentSpec) -> Iterator[FieldViolation]:
    """Yield the faults between the fields of the engine."""
    engine = spec.revision.engine
    if engine.version and not is_version(engine.version):
        yield _fault("version", f"{engine.version[:40]!r} must look like 1.2 or 0.33.0")
    if engine.HasField("speculative"):
        yield from _speculative_faults(engine.speculative)
    yield from _caching_faults(engine.prefix_caching)
    if engine.HasField("lora"):
        yield from _lora_faults(engine.lora)
    if engine.HasField("guided_decoding") and not engine.guided_decoding.backend:
        yield _fault("guidedDecoding.backend", "name the library, such as xgrammar")
    if engine.HasField("cuda_graphs"):
        yield from _graph_faults(engine.cuda_graphs)


def accelerators_of(engine: engine_pb2.EngineSpec) -> int:
    """Return how many accelerators one replica takes; 0 is "not told", which is 1."""
    parallelism = engine.parallelism
    degree = max(parallelism.tensor, 1) * max(parallelism.pipeline, 1) * max(parallelism.data, 1)
    if not engine.HasField("disaggregation"):
        return degree
    apart = engine.disaggregation
    return degree * (max(apart.prefill_replicas, 1) + max(apart.decode_replicas, 1))


def _speculative_faults(drafts: engine_pb2.SpeculativeDecoding) -> Iterator[FieldViolation]:
    needs_model = (SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.EAGLE3)
    if drafts.method in needs_model and not drafts.draft_model_uri:
        path = "speculativeDecoding.draftModelUri"
        yield _fault(path, f"method {drafts.method} needs a draft model")
    steps = [(step.batch, step.tokens) for step in drafts.draft_length_by_batch]
    if fault := draft_schedule_fault(drafts.draft_tokens, steps):
        yield _fault("speculativeDecoding.draftLengthByBatch", fault)


def _caching_faults(caching: engine_pb2.PrefixCaching) -> Iterator[FieldViolation]:
    if caching.disk_path and not is_plain_path(caching.disk_path):
        yield _fault("prefixCaching.diskPath", "must be an absolute path without `..`")
    if caching.HasField("disk_bytes") and not caching.disk_path:
        yield _fault("prefixCaching.disk", "needs diskPath: the directory that holds them")


def _lora_faults(lora: engine_pb2.Lora) -> Iterator[FieldViolation]:
    if not lora.adapters:
        yield _fault("lora.adapters", "name at least one adapter")
    names: set[str] = set()
    for index, adapter in enumerate(lora.adapters):
        where = f"lora.adapters[{index}].name"
        try:
            LoraAdapter(name=adapter.name, uri=adapter.uri)
        except ValueError as error:
            yield _fault(where, str(error))
        if adapter.name in names:
            yield _fault(where, "appears twice")
        names.add(adapter.name)


def _graph_faults(graphs: engine_pb2.CudaGraphs) -> Iterator[FieldViolation]:
    try:
        CudaGraphs(
            enabled=not graphs.disabled,
            batch_sizes=tuple(graphs.batch_sizes),
            batch_max=graphs.batch_max if graphs.HasField("batch_max") else None,
        )
    except ValueError as error:
        yield _fault("cudaGraphs", str(error))


def _fault(path: str, message: str) -> FieldViolation:
    return FieldViolation(path=f"{_ROOT}.{path}", message=message)
