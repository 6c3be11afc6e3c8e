"""An engine's configuration says the same after every way that it takes: file, wire and replica."""

import dataclasses
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skerry.client.manifest import read_manifests
from skerry.client.manifest_rendering import render_text
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision
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
from skerry.wire.engines import engine_from_proto, engine_to_proto
from tests.properties.fleet_intents import BYTES, TEXTS
from workload_plane.engines.catalogue import RENDERERS, refusals, render
from workload_plane.engines.port import LaunchParameters, worker_ports_wanted
from workload_plane.replica_host.spec import engine_from_json

COUNTS = st.integers(1, 64)
URIS = st.sampled_from(("hf://maker/model", "file:///models/a", "s3://bucket/a"))
WORDS = st.sampled_from(("fp8", "nvfp4", "bf16", "q8_0", "auto", "int3"))


def _optional(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.none(), strategy)


@st.composite
def speculations(draw: st.DrawFn) -> SpeculativeDecoding:
    tokens = draw(st.integers(1, 8))
    batches = sorted(draw(st.sets(st.integers(2, 256), max_size=4)))
    steps = [DraftLength(batch=1, tokens=tokens)] if draw(st.booleans()) else []
    steps += [
        DraftLength(batch=batch, tokens=draw(st.integers(0, tokens)))
        for batch in (batches if steps else ())
    ]
    return SpeculativeDecoding(
        method=draw(st.sampled_from(SpeculativeMethod)),
        draft_tokens=tokens,
        draft_model_uri=draw(URIS),
        draft_length_by_batch=tuple(steps),
    )


def cachings() -> st.SearchStrategy[PrefixCaching]:
    disk: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.just({}),
        st.fixed_dictionaries(
            {"disk_path": st.sampled_from(("/cache", "/a b/c")), "disk_bytes": _optional(BYTES)}
        ),
    )
    return st.builds(
        lambda enabled, host, spill: PrefixCaching(
            enabled=enabled, host_memory_bytes=host, **spill
        ),
        st.booleans(),
        _optional(BYTES),
        disk,
    )


def loras() -> st.SearchStrategy[Lora]:
    names = st.lists(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
        min_size=1,
        max_size=3,
        unique=True,
    )
    return st.builds(
        lambda names, uri, rank, mixed: Lora(
            adapters=tuple(LoraAdapter(name=name, uri=uri) for name in names),
            rank_max=rank,
            concurrent_max=mixed,
        ),
        names,
        URIS,
        COUNTS,
        COUNTS,
    )


def graphs() -> st.SearchStrategy[CudaGraphs]:
    sizes = st.sets(COUNTS, min_size=1, max_size=4).map(lambda found: tuple(sorted(found)))
    return st.one_of(
        st.builds(CudaGraphs, enabled=st.booleans()),
        st.builds(CudaGraphs, batch_sizes=sizes),
        st.builds(CudaGraphs, batch_max=COUNTS),
    )


def engines() -> st.SearchStrategy[EngineSpec]:
    return st.builds(
        EngineSpec,
        name=st.sampled_from(EngineName),
        version=_optional(st.sampled_from(("1.2", "1.4.0rc1", "0.33.0", "0.5.9.post1", "0.16"))),
        protocol=st.sampled_from(EngineProtocol),
        context_tokens=st.integers(1, 2**20),
        concurrent_requests=COUNTS,
        quantisation=st.builds(Quantisation, weights=_optional(WORDS), kv_cache=_optional(WORDS)),
        kv_cache=st.builds(KvCache, memory_share=_optional(st.floats(1e-3, 1.0))),
        batching=st.builds(
            Batching, tokens_max=_optional(COUNTS), chunked_prefill=_optional(st.booleans())
        ),
        speculative=_optional(speculations()),
        prefix_caching=cachings(),
        parallelism=st.builds(
            Parallelism,
            tensor=st.integers(1, 8),
            pipeline=st.integers(1, 4),
            expert=st.integers(1, 8),
            data=st.integers(1, 4),
            attention_data_parallel=st.booleans(),
        ),
        disaggregation=_optional(
            st.builds(
                Disaggregation,
                prefill_replicas=st.integers(1, 4),
                decode_replicas=st.integers(1, 4),
                local_prefill_tokens_max=st.integers(0, 4096),
            )
        ),
        lora=_optional(loras()),
        guided_decoding=_optional(
            st.builds(GuidedDecoding, backend=st.sampled_from(("xgrammar", "outlines", "own")))
        ),
        cuda_graphs=_optional(graphs()),
        options=st.dictionaries(TEXTS, TEXTS, max_size=2).map(lambda o: tuple(sorted(o.items()))),
    )


@given(engines())
def test_a_deployment_file_written_back_reads_as_the_same_engine(engine: EngineSpec) -> None:
    deployment = Deployment(
        name="chat",
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="hf://maker/model", served_name="chat"),
            engine=engine,
            shapes=(ResourceShape(accelerator="H100-80G", accelerators=engine.accelerators),),
        ),
    )
    assert read_manifests(render_text([deployment]).encode(), "x.yaml") == (deployment,)


@given(engines())
def test_the_wire_keeps_every_field(engine: EngineSpec) -> None:
    message = engine_to_proto(engine)
    again = type(message).FromString(message.SerializeToString())
    assert engine_from_proto(again) == engine


@given(engines())
def test_a_replicas_file_keeps_every_field(engine: EngineSpec) -> None:
    assert engine_from_json(json.loads(json.dumps(dataclasses.asdict(engine)))) == engine


@given(engines())
def test_a_configuration_is_refused_by_field_or_rendered(engine: EngineSpec) -> None:
    refused = refusals(engine)
    assert all(one.path.startswith("spec.engine.") for one in refused)
    assert all(one.message.startswith(engine.name.value) for one in refused)
    servers = worker_ports_wanted(engine)
    place = LaunchParameters(
        model_path="/m",
        served_name="chat",
        host="127.0.0.1",
        http_port=8000,
        config_dir="/c",
        accelerators=tuple(range(engine.accelerators)),
        worker_ports=tuple(range(9000, 9000 + servers)),
    )
    if not refused:
        launch = render(engine, place)
        assert len({one.port for one in launch.processes(8000)}) == 1 + len(launch.workers)
        assert all(isinstance(word, str) and word for word in launch.argv)


def test_every_engine_has_a_renderer() -> None:
    assert set(RENDERERS) == set(EngineName)
