"""Nothing that a deployment says of its engine is dropped: every field, for every engine.

Fields are found by looking at the values themselves, so that a new one without a renderer fails.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from skerry.fleet.engine import (
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
from tests.unit.workload_plane.engines.golden_cases import launch_of
from workload_plane.engines.catalogue import RENDERERS, refusals, render

# A spec in which every part is there, and for each field of each part another value.
_DRAFTING = SpeculativeDecoding(
    method=SpeculativeMethod.EAGLE3, draft_tokens=4, draft_model_uri="hf://maker/draft"
)
_LORA = Lora(adapters=(LoraAdapter(name="sql", uri="hf://maker/sql"),))
_APART = Disaggregation(prefill_replicas=1, decode_replicas=1)
_STEPS = (DraftLength(batch=1, tokens=4), DraftLength(batch=3, tokens=1))
_CACHED = PrefixCaching(host_memory_bytes=2**34, disk_path="/cache/kv", disk_bytes=2**35)

# field path -> (a spec's part before, the same part with that field changed)
Change = tuple[Mapping[str, Any], Mapping[str, Any]]
CHANGES: Mapping[str, Change] = {
    "version": ({}, {"version": "0.0.1"}),
    "protocol": ({}, {"protocol": EngineProtocol.OPENENGINE}),
    "context_tokens": ({}, {"context_tokens": 4096}),
    "concurrent_requests": ({}, {"concurrent_requests": 9}),
    "quantisation.weights": ({}, {"quantisation": Quantisation(weights="fp8")}),
    "quantisation.kv_cache": ({}, {"quantisation": Quantisation(kv_cache="fp8")}),
    "kv_cache.memory_share": ({}, {"kv_cache": KvCache(memory_share=0.5)}),
    "batching.tokens_max": ({}, {"batching": Batching(tokens_max=4096)}),
    "batching.chunked_prefill": ({}, {"batching": Batching(chunked_prefill=False)}),
    "speculative.method": (
        {"speculative": _DRAFTING},
        {"speculative": replace(_DRAFTING, method=SpeculativeMethod.DRAFT_MODEL)},
    ),
    "speculative.draft_tokens": (
        {"speculative": _DRAFTING},
        {"speculative": replace(_DRAFTING, draft_tokens=5)},
    ),
    "speculative.draft_model_uri": (
        {"speculative": _DRAFTING},
        {"speculative": replace(_DRAFTING, draft_model_uri="hf://maker/other")},
    ),
    "speculative.draft_length_by_batch.batch": (
        {"speculative": replace(_DRAFTING, draft_length_by_batch=_STEPS)},
        {
            "speculative": replace(
                _DRAFTING, draft_length_by_batch=(_STEPS[0], DraftLength(batch=2, tokens=1))
            )
        },
    ),
    "speculative.draft_length_by_batch.tokens": (
        {"speculative": replace(_DRAFTING, draft_length_by_batch=_STEPS)},
        {
            "speculative": replace(
                _DRAFTING, draft_length_by_batch=(_STEPS[0], DraftLength(batch=3, tokens=2))
            )
        },
    ),
    "prefix_caching.enabled": ({}, {"prefix_caching": PrefixCaching(enabled=False)}),
    "prefix_caching.host_memory_bytes": (
        {},
        {"prefix_caching": PrefixCaching(host_memory_bytes=2**35)},
    ),
    "prefix_caching.disk_path": (
        {"prefix_caching": _CACHED},
        {"prefix_caching": replace(_CACHED, disk_path="/other")},
    ),
    "prefix_caching.disk_path without disk_bytes": (
        {"prefix_caching": replace(_CACHED, disk_bytes=None)},
        {"prefix_caching": replace(_CACHED, disk_bytes=None, disk_path="/other")},
    ),
    "prefix_caching.disk_bytes": (
        {"prefix_caching": _CACHED},
        {"prefix_caching": replace(_CACHED, disk_bytes=2**36)},
    ),
    "parallelism.tensor": ({}, {"parallelism": Parallelism(tensor=2)}),
    "parallelism.pipeline": ({}, {"parallelism": Parallelism(pipeline=2)}),
    "parallelism.expert": (
        {"parallelism": Parallelism(tensor=2)},
        {"parallelism": Parallelism(tensor=2, expert=2)},
    ),
    "parallelism.attention_data_parallel": (
        {},
        {"parallelism": Parallelism(attention_data_parallel=True)},
    ),
    "parallelism.data": ({}, {"parallelism": Parallelism(data=2)}),
    "disaggregation.prefill_replicas": (
        {"disaggregation": _APART},
        {"disaggregation": replace(_APART, prefill_replicas=2)},
    ),
    "disaggregation.decode_replicas": (
        {"disaggregation": _APART},
        {"disaggregation": replace(_APART, decode_replicas=2)},
    ),
    "disaggregation.local_prefill_tokens_max": (
        {"disaggregation": _APART},
        {"disaggregation": replace(_APART, local_prefill_tokens_max=64)},
    ),
    "lora.adapters.name": (
        {"lora": _LORA},
        {"lora": replace(_LORA, adapters=(LoraAdapter(name="law", uri="hf://maker/sql"),))},
    ),
    "lora.adapters.uri": (
        {"lora": _LORA},
        {"lora": replace(_LORA, adapters=(LoraAdapter(name="sql", uri="hf://maker/law"),))},
    ),
    "lora.rank_max": ({"lora": _LORA}, {"lora": replace(_LORA, rank_max=64)}),
    "lora.concurrent_max": ({"lora": _LORA}, {"lora": replace(_LORA, concurrent_max=3)}),
    "guided_decoding.backend": (
        {"guided_decoding": GuidedDecoding(backend="xgrammar")},
        {"guided_decoding": GuidedDecoding(backend="llguidance")},
    ),
    "cuda_graphs.enabled": ({}, {"cuda_graphs": CudaGraphs(enabled=False)}),
    "cuda_graphs.batch_sizes": ({}, {"cuda_graphs": CudaGraphs(batch_sizes=(1, 2))}),
    "cuda_graphs.batch_max": ({}, {"cuda_graphs": CudaGraphs(batch_max=8)}),
    "options": ({}, {"options": (("no-such-option", "1"),)}),
}

# The whole of what a spec may hold, so that every nested value is walked into.
_FULL = EngineSpec(
    name=EngineName.SIMULATED,
    speculative=replace(_DRAFTING, draft_length_by_batch=_STEPS),
    disaggregation=_APART,
    lora=_LORA,
    guided_decoding=GuidedDecoding(backend="xgrammar"),
    cuda_graphs=CudaGraphs(),
)
RELEASES = [
    (name, version)
    for name, renderer in RENDERERS.items()
    for version in (renderer.VERSIONS or (None,))
]


def _fields(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every plain field inside a value."""
    for field in dataclasses.fields(value):
        inside = getattr(value, field.name)
        where = f"{path}{field.name}"
        if isinstance(inside, tuple) and inside and dataclasses.is_dataclass(inside[0]):
            inside = inside[0]
        if dataclasses.is_dataclass(inside):
            yield from _fields(inside, f"{where}.")
        else:
            yield where


def test_every_field_of_an_engines_configuration_has_a_change_here() -> None:
    assert set(_fields(_FULL)) - {"name"} == {path.split()[0] for path in CHANGES}


@pytest.mark.parametrize("path", sorted(CHANGES))
@pytest.mark.parametrize(("name", "version"), RELEASES)
def test_a_field_changes_what_is_rendered_or_is_refused(
    name: EngineName, version: str | None, path: str
) -> None:
    before, after = CHANGES[path]
    told = EngineSpec(**({"name": name, "version": version} | dict(after)))
    if refused := refusals(told):
        _check_path(path, [refusal.path for refusal in refused])
        return
    untold = EngineSpec(**({"name": name, "version": version} | dict(before)))
    # At one place: what differs is what the field says, not the devices that it takes.
    place = replace(launch_of(told), accelerators=())
    assert render(told, place) != render(untold, replace(launch_of(untold), accelerators=()))


def _check_path(path: str, refused: list[str]) -> None:
    """A refusal is about the field, or about the part that it is in, as the file names them."""
    names = {"speculative": "speculativeDecoding", "disk_bytes": "disk"}
    names["host_memory_bytes"] = "hostMemory"
    first, *rest = path.split()[0].split(".")
    part = f"spec.engine.{_camel(names.get(first, first))}"
    wanted = {part}
    if rest:
        wanted.add(f"{part}.{_camel(names.get(rest[0], rest[0]))}")
    # A disk tier's place and size are refused as one, and drafting with its method.
    wanted |= {f"{part}.diskPath", f"{part}.disk"} if "disk" in path else set()
    wanted |= {f"{part}.method"} if first == "speculative" else set()
    plain = {one.split("[")[0] for one in refused}
    assert plain & wanted, f"{path}: {refused}"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
