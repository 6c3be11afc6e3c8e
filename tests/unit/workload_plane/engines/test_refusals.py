"""What an engine cannot do is refused by field, engine and version, with the remedy, up front."""

from dataclasses import replace

import pytest

from skerry.fleet.engine import (
    Batching,
    CudaGraphs,
    Disaggregation,
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
from tests.unit.workload_plane.engines.golden_cases import ADAPTERS, SCHEDULE, drafting
from workload_plane.engines.catalogue import RENDERERS, refusals, render
from workload_plane.engines.port import LOOPBACK, LaunchParameters, UnsupportedTechnique

REAL = (EngineName.TENSORRT_LLM, EngineName.VLLM, EngineName.SGLANG, EngineName.LLAMACPP)
NGRAM = SpeculativeDecoding(method=SpeculativeMethod.NGRAM, draft_tokens=2)
APART = Disaggregation(prefill_replicas=1, decode_replicas=1)
ADAPTER = LoraAdapter(name="sql", uri="hf://maker/sql")
GIB = 2**30
LAUNCH = LaunchParameters(
    model_path="/m", served_name="m", host="127.0.0.1", http_port=1, config_dir="/c"
)


@pytest.mark.parametrize("name", list(EngineName))
def test_default_spec_is_taken_by_every_engine(name: EngineName) -> None:
    assert refusals(EngineSpec(name=name)) == ()


def test_disaggregation_is_tensorrt_llms_in_every_release() -> None:
    for version in RENDERERS[EngineName.TENSORRT_LLM].VERSIONS:
        assert refusals(_trtllm(version, disaggregation=APART)) == ()


@pytest.mark.parametrize("name", [EngineName.VLLM, EngineName.SGLANG, EngineName.LLAMACPP])
def test_disaggregation_without_a_proxy_of_the_engines_own_is_refused(name: EngineName) -> None:
    (refusal,) = refusals(EngineSpec(name=name, disaggregation=APART))
    assert refusal.path == "spec.engine.disaggregation"
    assert "remove it (can: tensorrt-llm 1.4)" in refusal.message


@pytest.mark.parametrize("name", REAL)
def test_unknown_formats_are_refused_with_those_there_are(name: EngineName) -> None:
    spec = EngineSpec(name=name, quantisation=Quantisation(weights="int3", kv_cache="int3"))
    weights, cache = refusals(spec)
    assert (weights.path, cache.path) == (
        "spec.engine.quantisation.weights",
        "spec.engine.quantisation.kvCache",
    )
    assert "'int3' is none of" in weights.message
    assert "," in cache.message


@pytest.mark.parametrize(
    "option", ["trust-remote-code", "trust_remote_code", "served-model-name", "middleware"]
)
@pytest.mark.parametrize("name", list(EngineName))
def test_options_off_the_allow_list_are_refused(name: EngineName, option: str) -> None:
    (refusal,) = refusals(EngineSpec(name=name, options=((option, "true"),)))
    assert refusal.path == "spec.engine.options"
    assert f"option {option!r}: not an allowed option of {name}" in refusal.message


def _trtllm(version: str = "1.2", **changes: object) -> EngineSpec:
    return EngineSpec(name=EngineName.TENSORRT_LLM, version=version, **changes)  # type: ignore[arg-type]


def _vllm(version: str = "0.33", **changes: object) -> EngineSpec:
    return EngineSpec(name=EngineName.VLLM, version=version, **changes)  # type: ignore[arg-type]


def _sglang(version: str = "0.5.23", **changes: object) -> EngineSpec:
    return EngineSpec(name=EngineName.SGLANG, version=version, **changes)  # type: ignore[arg-type]


def _llamacpp(**changes: object) -> EngineSpec:
    return EngineSpec(name=EngineName.LLAMACPP, **changes)  # type: ignore[arg-type]


def _scheduled(method: SpeculativeMethod) -> SpeculativeDecoding:
    return drafting(method, draft_length_by_batch=SCHEDULE)


def _disk(**changes: object) -> PrefixCaching:
    return PrefixCaching(disk_path="/cache", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        (_trtllm("1.3"), "version", "known are 1.2, 1.4"),
        (_vllm("0.3"), "version", "known are 0.16, 0.33"),
        (_sglang("0.5.2"), "version", "known are 0.5.9, 0.5.23"),
        (_llamacpp(version="1.0"), "version", "leave it out"),
        (_trtllm(protocol=EngineProtocol.OPENENGINE), "protocol", "set version 1.4"),
        (_trtllm(protocol=EngineProtocol.TRTLLM), "protocol", "set version 1.4"),
        (
            _trtllm("1.4", protocol=EngineProtocol.OPENENGINE, disaggregation=APART),
            "protocol",
            "over HTTP",
        ),
        (_vllm(protocol=EngineProtocol.OPENENGINE), "protocol", "the replica host translates"),
        (_vllm(protocol=EngineProtocol.TRTLLM), "protocol", "tensorrt-llm 1.4"),
        (_llamacpp(protocol=EngineProtocol.TRTLLM), "protocol", "tensorrt-llm 1.4"),
        (_llamacpp(speculative=NGRAM), "speculativeDecoding", "vllm 0.33"),
        (_llamacpp(parallelism=Parallelism(tensor=2)), "parallelism.tensor", "set it to 1"),
        (_llamacpp(kv_cache=KvCache(memory_share=0.5)), "kvCache.memoryShare", "contextTokens"),
        (_llamacpp(batching=Batching(tokens_max=8)), "batching.tokensMax", "32..16384"),
        (_llamacpp(prefix_caching=_disk()), "prefixCaching.diskPath", "no disk tier"),
        (_llamacpp(cuda_graphs=CudaGraphs()), "cudaGraphs", "remove it"),
        (_trtllm(parallelism=Parallelism(tensor=4, expert=3)), "parallelism.expert", "divide"),
        (_trtllm(parallelism=Parallelism(data=2)), "parallelism.data", "(can: vllm 0.33"),
        (_trtllm(prefix_caching=_disk(disk_bytes=GIB)), "prefixCaching.diskPath", "version 1.4"),
        (_trtllm("1.4", prefix_caching=_disk()), "prefixCaching.diskPath", "set disk"),
        (
            _trtllm("1.4", prefix_caching=_disk(disk_bytes=GIB), disaggregation=APART),
            "prefixCaching.diskPath",
            "share one directory",
        ),
        (
            _trtllm("1.4", lora=ADAPTERS),
            "lora",
            "could name any path there; leave it out (can: vllm 0.33, sglang 0.5.23)",
        ),
        (_trtllm("1.2", lora=ADAPTERS), "lora", "leave it out"),
        (_trtllm(options=(("tool_parser", "gpt"),)), "options", "must be one of deepseek_v32"),
        (
            _trtllm("1.4", protocol=EngineProtocol.TRTLLM, options=(("tool_parser", "qwen3"),)),
            "options",
            "no chat over trtllm",
        ),
        (_vllm(options=(("tool-call-parser", "gpt"),)), "options", "must be one of apertus"),
        (_vllm("0.16", options=(("reasoning-parser", "glm47"),)), "options", "must be one of"),
        (
            _vllm(options=(("enable-auto-tool-choice", "true"),)),
            "options",
            "needs 'tool-call-parser'",
        ),
        (_sglang(options=(("reasoning-parser", "r1"),)), "options", "must be one of apertus2509"),
        (
            _trtllm(speculative=_scheduled(SpeculativeMethod.EAGLE3)),
            "speculativeDecoding.draftLengthByBatch",
            "draft-model, ngram",
        ),
        (
            _trtllm("1.4", speculative=_scheduled(SpeculativeMethod.NGRAM)),
            "speculativeDecoding.draftLengthByBatch",
            "draft-model, eagle3, mtp",
        ),
        (
            _vllm("0.16", speculative=_scheduled(SpeculativeMethod.NGRAM)),
            "speculativeDecoding.draftLengthByBatch",
            "set version 0.33",
        ),
        (
            _sglang("0.5.9", speculative=_scheduled(SpeculativeMethod.EAGLE3)),
            "speculativeDecoding.draftLengthByBatch",
            "set version 0.5.23",
        ),
        (
            _sglang(speculative=_scheduled(SpeculativeMethod.NGRAM)),
            "speculativeDecoding.draftLengthByBatch",
            "eagle3, mtp",
        ),
        (
            _sglang(
                "0.5.9",
                speculative=drafting(SpeculativeMethod.EAGLE3),
                lora=Lora(adapters=(ADAPTER,)),
            ),
            "speculativeDecoding.method",
            "does not go with lora; choose ngram",
        ),
        (_vllm(parallelism=Parallelism(tensor=4, expert=2)), "parallelism.expert", "on or off"),
        (
            _vllm(parallelism=Parallelism(attention_data_parallel=True)),
            "parallelism.attentionDataParallel",
            "tensorrt-llm 1.4, sglang 0.5.23",
        ),
        (_vllm(prefix_caching=_disk()), "prefixCaching.diskPath", "set hostMemory"),
        (
            _vllm(prefix_caching=_disk(host_memory_bytes=GIB, disk_bytes=GIB)),
            "prefixCaching.disk",
            "has no bound",
        ),
        (
            _vllm(batching=Batching(tokens_max=64, chunked_prefill=False)),
            "batching.tokensMax",
            "below contextTokens",
        ),
        (
            _vllm(
                batching=Batching(chunked_prefill=False),
                options=(("max-num-batched-tokens", "64"),),
            ),
            "options",
            "'max-num-batched-tokens': 64 is below contextTokens",
        ),
        (_vllm(lora=Lora(adapters=(ADAPTER,), rank_max=1024)), "lora.rankMax", "above 512"),
        (
            _sglang(prefix_caching=PrefixCaching(host_memory_bytes=1)),
            "prefixCaching.hostMemory",
            "less than 1 GB",
        ),
        (
            _vllm(lora=Lora(adapters=(LoraAdapter(name="a", uri="https://h/a.safetensors"),))),
            "lora.adapters[0].uri",
            "hf://OWNER/NAME",
        ),
        (
            _trtllm(guided_decoding=GuidedDecoding(backend="outlines")),
            "guidedDecoding.backend",
            "xgrammar, llguidance",
        ),
        (
            _vllm(quantisation=Quantisation(weights="bitsandbytes")),
            "quantisation.weights",
            "vllm 0.33: 'bitsandbytes'",
        ),
        (
            EngineSpec(name=EngineName.SIMULATED, options=(("jitter", "nan"),)),
            "options",
            "option 'jitter'",
        ),
        (_llamacpp(options=(("threads", "2"), ("threads", "3"))), "options", "'threads'"),
        (
            _vllm(kv_cache=KvCache(memory_share=0.8), options=(("gpu-memory-utilization", "0.9"),)),
            "options",
            "says again what kvCache.memoryShare says",
        ),
    ],
)
def test_refusal_names_the_field_the_engine_and_a_way_on(
    spec: EngineSpec, path: str, words: str
) -> None:
    (refusal,) = refusals(spec)
    assert refusal.path == f"spec.engine.{path}"
    assert refusal.message.startswith(f"{spec.name}")
    assert words in refusal.message


@pytest.mark.parametrize("version", ["1.2", "1.2.1", "1.2.0rc3"])
def test_a_release_of_a_line_is_rendered_as_the_line(version: str) -> None:
    assert refusals(_trtllm(version)) == ()
    assert render(_trtllm(version), LAUNCH) == render(_trtllm("1.2"), LAUNCH)


def test_without_a_version_the_newest_that_is_released_is_meant() -> None:
    for name, renderer in RENDERERS.items():
        if renderer.VERSIONS:
            spec = EngineSpec(name=name)
            newest = EngineSpec(name=name, version=renderer.DEFAULT_VERSION)
            assert render(spec, LAUNCH) == render(newest, LAUNCH)


@pytest.mark.parametrize(
    "spec",
    [
        _sglang(prefix_caching=PrefixCaching(host_memory_bytes=32 * GIB, disk_path="/cache")),
        _vllm(prefix_caching=PrefixCaching(host_memory_bytes=32 * GIB, disk_path="/cache")),
        _trtllm(
            "1.4",
            prefix_caching=PrefixCaching(
                host_memory_bytes=32 * GIB, disk_path="/cache", disk_bytes=GIB
            ),
        ),
    ],
)
def test_prefixes_on_disk_lie_in_the_replicas_own_directory_and_nowhere_else(
    spec: EngineSpec,
) -> None:
    launch = render(spec, replace(LAUNCH, disk_path="/own/place"))
    told = (launch.argv, launch.environment, launch.files)
    assert "/own/place" in str(told)
    assert "/cache" not in str(told)


@pytest.mark.parametrize("protocol", [EngineProtocol.OPENENGINE, EngineProtocol.TRTLLM])
def test_an_engine_that_is_passed_through_listens_for_its_host_only(
    protocol: EngineProtocol,
) -> None:
    spec = _trtllm("1.4", protocol=protocol)
    launch = render(spec, replace(LAUNCH, host="10.0.0.7", worker_ports=(9001,)))
    (process,) = launch.processes(LAUNCH.http_port)
    assert (process.host, process.port) == (LOOPBACK, 9001)
    place = process.argv.index("--host")
    assert process.argv[place : place + 4] == ("--host", LOOPBACK, "--port", "9001")


@pytest.mark.parametrize(
    "uri", ["hf://maker/sql", "hf://maker/sql@v1", "file:///adapters/sql", "s3://b/a/", "gs://b/a/"]
)
def test_adapters_come_from_wherever_the_plane_fetches_directories(uri: str) -> None:
    adapters = (LoraAdapter(name="sql", uri=uri),)
    for spec in (_vllm(lora=Lora(adapters=adapters)), _sglang(lora=Lora(adapters=adapters))):
        assert refusals(spec) == ()


@pytest.mark.parametrize("uri", ["s3://b/a.safetensors", "hf://maker/sql/a.safetensors", "ftp://x"])
def test_an_adapter_of_one_file_is_refused_with_what_it_lacks(uri: str) -> None:
    (refusal,) = refusals(_vllm(lora=Lora(adapters=(LoraAdapter(name="sql", uri=uri),))))
    assert refusal.path == "spec.engine.lora.adapters[0].uri"
    assert "directory" in refusal.message


def test_rendering_a_refused_spec_tells_every_refusal() -> None:
    spec = _llamacpp(speculative=NGRAM, parallelism=Parallelism(tensor=2))
    with pytest.raises(UnsupportedTechnique, match=r"parallelism.*; .*speculative"):
        render(spec, LAUNCH)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (EngineSpec(name=EngineName.LLAMACPP), "one process on one node"),
        (EngineSpec(name=EngineName.SGLANG), "a process of its own on each node"),
        (EngineSpec(name=EngineName.TENSORRT_LLM, disaggregation=APART), "leave disaggregation"),
        (EngineSpec(name=EngineName.VLLM, parallelism=Parallelism(data=2)), "set data to 1"),
        (
            EngineSpec(name=EngineName.TENSORRT_LLM, options=(("num_postprocess_workers", "2"),)),
            "num_postprocess_workers out",
        ),
    ],
)
def test_an_engine_that_is_on_one_node_says_so_with_the_alternatives(
    spec: EngineSpec, reason: str
) -> None:
    place = replace(LAUNCH, nodes=2, worker_ports=(2, 3))
    with pytest.raises(UnsupportedTechnique, match=reason) as refused:
        render(spec, place)
    assert "a shape that fits one node" in str(refused.value)


def test_an_engine_over_nodes_is_told_no_devices_of_one_node() -> None:
    spec = EngineSpec(name=EngineName.VLLM, parallelism=Parallelism(tensor=2, pipeline=2))
    launch = render(spec, replace(LAUNCH, nodes=2, accelerators=(0, 1)))
    assert launch.environment == ()
