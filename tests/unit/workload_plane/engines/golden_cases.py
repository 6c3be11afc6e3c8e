"""The configurations whose rendering is held in `golden/`, for each engine and release.

`python -m tests.unit.workload_plane.engines.golden_cases` writes the files anew.
`make test-engines` puts their command lines through the engines' own argument parsers.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

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
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import EngineLaunch, LaunchParameters, worker_ports_wanted
from workload_plane.engines.showing import processes_of

GOLDEN = Path(__file__).with_name("golden")
GIB = 2**30
CONFIG_DIR = "/replica/config"

DRAFT = "hf://maker/draft"
SCHEDULE = (
    DraftLength(batch=1, tokens=4),
    DraftLength(batch=8, tokens=2),
    DraftLength(batch=32, tokens=0),
)
TOOLS = {
    EngineName.TENSORRT_LLM: (("reasoning_parser", "qwen3"), ("tool_parser", "qwen3_coder")),
    EngineName.VLLM: (
        ("enable-auto-tool-choice", "true"),
        ("reasoning-parser", "qwen3"),
        ("tool-call-parser", "qwen3_coder"),
    ),
    EngineName.SGLANG: (("reasoning-parser", "qwen3"), ("tool-call-parser", "qwen3_coder")),
}
ADAPTERS = Lora(
    adapters=(
        LoraAdapter(name="sql", uri="hf://maker/sql-adapter"),
        LoraAdapter(name="legal", uri="file:///adapters/legal,v=2"),
    ),
    rank_max=24,
    concurrent_max=2,
)


def drafting(method: SpeculativeMethod, **changes: object) -> SpeculativeDecoding:
    """Return drafting by a method, with a draft model where it needs one."""
    needs = method in (SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.EAGLE3)
    values: dict[str, object] = {
        "method": method,
        "draft_tokens": 4,
        "draft_model_uri": DRAFT if needs else None,
    }
    return SpeculativeDecoding(**(values | changes))  # type: ignore[arg-type]


def launch_of(spec: EngineSpec) -> LaunchParameters:
    """Return the place at which the cases are rendered, with ports and devices as they need."""
    return LaunchParameters(
        model_path="/models/llama-70b",
        served_name="llama-70b",
        host="127.0.0.1",
        http_port=8001,
        config_dir=CONFIG_DIR,
        python="python3",
        accelerators=tuple(range(spec.accelerators)),
        worker_ports=tuple(range(8101, 8101 + worker_ports_wanted(spec))),
    )


def _large(name: EngineName, version: str, **changes: object) -> EngineSpec:
    values: dict[str, object] = {
        "version": version,
        "context_tokens": 8192,
        "concurrent_requests": 64,
    }
    return EngineSpec(name=name, **(values | changes))  # type: ignore[arg-type]


def _of_all(name: EngineName, version: str) -> dict[str, EngineSpec]:
    """Return what every accelerator engine has in every release."""
    large = _large(name, version)
    graphs = CudaGraphs(batch_sizes=(1, 2, 4, 8, 16, 32, 64))
    cases = {
        "plain": EngineSpec(name=name, version=version),
        "memory": replace(
            large,
            kv_cache=KvCache(memory_share=0.85),
            quantisation=Quantisation(weights="fp8", kv_cache="fp8"),
            prefix_caching=PrefixCaching(host_memory_bytes=32 * GIB),
            parallelism=Parallelism(tensor=2),
        ),
        "no-prefix-caching": replace(large, prefix_caching=PrefixCaching(enabled=False)),
        "chunked": replace(large, batching=Batching(tokens_max=2048, chunked_prefill=True)),
        "unchunked": replace(large, batching=Batching(tokens_max=16384, chunked_prefill=False)),
        "experts": replace(large, parallelism=Parallelism(tensor=4, pipeline=2, expert=4)),
        "guided": replace(large, guided_decoding=GuidedDecoding(backend="llguidance")),
        "graphs": replace(large, cuda_graphs=graphs),
        "graphs-max": replace(large, cuda_graphs=CudaGraphs(batch_max=32)),
        "no-graphs": replace(large, cuda_graphs=CudaGraphs(enabled=False)),
    }
    for method in SpeculativeMethod:
        cases[f"speculative-{method}"] = replace(large, speculative=drafting(method))
    if name is not EngineName.TENSORRT_LLM:
        cases["lora"] = replace(large, lora=ADAPTERS)
    cases["tools"] = replace(large, options=TOOLS[name])
    return cases


def _scheduled(
    name: EngineName, version: str, *methods: SpeculativeMethod
) -> dict[str, EngineSpec]:
    return {
        f"scheduled-{method}": _large(
            name, version, speculative=drafting(method, draft_length_by_batch=SCHEDULE)
        )
        for method in methods
    }


def _trtllm(version: str) -> dict[str, EngineSpec]:
    name = EngineName.TENSORRT_LLM
    apart = Disaggregation(prefill_replicas=2, decode_replicas=1)
    conditional = replace(apart, local_prefill_tokens_max=512)
    return _of_all(name, version) | {
        "attention-dp": _large(
            name,
            version,
            parallelism=Parallelism(tensor=4, expert=4, attention_data_parallel=True),
        ),
        "options": _large(
            name,
            version,
            options=(
                ("load_format", "dummy"),
                ("kv_cache_config.free_gpu_memory_fraction", "0.8"),
                ("scheduler_config.capacity_scheduler_policy", "MAX_UTILIZATION"),
            ),
        ),
        "disaggregated": _large(
            name, version, disaggregation=apart, parallelism=Parallelism(tensor=2)
        ),
        "disaggregated-conditional": _large(name, version, disaggregation=conditional),
    }


def _trtllm_12() -> dict[str, EngineSpec]:
    return _trtllm("1.2") | _scheduled(
        EngineName.TENSORRT_LLM, "1.2", SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.NGRAM
    )


def _trtllm_14() -> dict[str, EngineSpec]:
    name = EngineName.TENSORRT_LLM
    methods = (SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.EAGLE3, SpeculativeMethod.MTP)
    return (
        _trtllm("1.4")
        | _scheduled(name, "1.4", *methods)
        | {
            "openengine": _large(name, "1.4", protocol=EngineProtocol.OPENENGINE),
            "trtllm": _large(name, "1.4", protocol=EngineProtocol.TRTLLM),
            "disk": _large(
                name,
                "1.4",
                prefix_caching=PrefixCaching(
                    host_memory_bytes=32 * GIB, disk_path="/cache/kv", disk_bytes=512 * GIB
                ),
                parallelism=Parallelism(tensor=2),
            ),
        }
    )


def _vllm(version: str) -> dict[str, EngineSpec]:
    name = EngineName.VLLM
    return _of_all(name, version) | {
        "data-parallel": _large(name, version, parallelism=Parallelism(tensor=2, data=4, expert=8)),
        "dtype": _large(name, version, quantisation=Quantisation(weights="bf16", kv_cache="auto")),
        "nvfp4": _large(name, version, quantisation=Quantisation(weights="nvfp4")),
        "options": _large(
            name,
            version,
            options=(("gpu-memory-utilization", "0.9"), ("enforce-eager", "true")),
        ),
    }


def _vllm_033() -> dict[str, EngineSpec]:
    spilled = PrefixCaching(host_memory_bytes=32 * GIB, disk_path="/cache/kv")
    return (
        _vllm("0.33")
        | _scheduled(EngineName.VLLM, "0.33", *SpeculativeMethod)
        | {"disk": _large(EngineName.VLLM, "0.33", prefix_caching=spilled)}
    )


def _vllm_016() -> dict[str, EngineSpec]:
    four_bits = Quantisation(weights="bitsandbytes")
    return _vllm("0.16") | {"bitsandbytes": _large(EngineName.VLLM, "0.16", quantisation=four_bits)}


def _sglang(version: str) -> dict[str, EngineSpec]:
    name = EngineName.SGLANG
    spilled = PrefixCaching(host_memory_bytes=32 * GIB, disk_path="/cache/kv")
    return _of_all(name, version) | {
        "attention-dp": _large(
            name,
            version,
            parallelism=Parallelism(tensor=4, expert=4, attention_data_parallel=True),
        ),
        "data-parallel": _large(name, version, parallelism=Parallelism(tensor=2, data=2)),
        "disk": _large(name, version, prefix_caching=spilled),
        "dtype": _large(name, version, quantisation=Quantisation(weights="fp16", kv_cache="auto")),
        "nvfp4": _large(name, version, quantisation=Quantisation(weights="nvfp4")),
        "options": _large(
            name,
            version,
            options=(("mem-fraction-static", "0.9"), ("chunked-prefill-size", "4096")),
        ),
    }


def _sglang_0523() -> dict[str, EngineSpec]:
    name = EngineName.SGLANG
    bounded = PrefixCaching(host_memory_bytes=32 * GIB, disk_path="/cache/kv", disk_bytes=512 * GIB)
    return (
        _sglang("0.5.23")
        | _scheduled(name, "0.5.23", SpeculativeMethod.EAGLE3, SpeculativeMethod.MTP)
        | {
            "disk-bounded": _large(
                name, "0.5.23", prefix_caching=bounded, parallelism=Parallelism(tensor=2)
            ),
            "lora-drafted": _large(
                name, "0.5.23", lora=ADAPTERS, speculative=drafting(SpeculativeMethod.EAGLE3)
            ),
        }
    )


def _own(name: EngineName) -> dict[str, EngineSpec]:
    """Return the cases of an engine that comes with the plane."""
    spilled = PrefixCaching(host_memory_bytes=GIB)
    return {
        "plain": EngineSpec(name=name),
        "memory": EngineSpec(
            name=name,
            batching=Batching(tokens_max=1024),
            prefix_caching=spilled,
            quantisation=Quantisation(weights="q8_0", kv_cache="q8_0"),
        ),
    }


# By directory below golden/: ENGINE-RELEASE.
CASES: Mapping[str, Mapping[str, EngineSpec]] = {
    "tensorrt-llm-1.2": _trtllm_12(),
    "tensorrt-llm-1.4": _trtllm_14(),
    "vllm-0.16": _vllm_016(),
    "vllm-0.33": _vllm_033(),
    "sglang-0.5.9": _sglang("0.5.9"),
    "sglang-0.5.23": _sglang_0523(),
    "llamacpp": _own(EngineName.LLAMACPP),
    "simulated": _own(EngineName.SIMULATED)
    | {
        "techniques": EngineSpec(
            name=EngineName.SIMULATED,
            speculative=drafting(SpeculativeMethod.EAGLE3, draft_length_by_batch=SCHEDULE),
            disaggregation=Disaggregation(prefill_replicas=1, decode_replicas=1),
            lora=ADAPTERS,
        )
    },
}


# Beside them: two nodes of eight accelerators, where an engine goes over nodes.
NODES = 2
OVER_NODES: Mapping[str, EngineSpec] = {
    f"{name}-{version}" if version else str(name): replace(
        EngineSpec(name=name) if not version else _large(name, version),
        parallelism=Parallelism(tensor=8, pipeline=NODES),
    )
    for name, versions in (
        (EngineName.TENSORRT_LLM, ("1.2", "1.4")),
        (EngineName.VLLM, ("0.16", "0.33")),
        (EngineName.SIMULATED, ("",)),
    )
    for version in versions
}


def over_nodes(spec: EngineSpec) -> LaunchParameters:
    """Return the place of a replica over nodes: its accelerators are those of the first one."""
    whole = launch_of(spec)
    return replace(
        whole, nodes=NODES, accelerators=whole.accelerators[: spec.accelerators // NODES]
    )


def text_of(launch: EngineLaunch, parameters: LaunchParameters) -> str:
    """Return the golden file of a launch: as `skerry engine render` has it, files by line."""
    shown = [
        {
            "process": one.name,
            "argv": list(one.argv),
            "env": dict(one.env),
            "files": {name: text.splitlines() for name, text in one.files.items()},
        }
        for one in processes_of(launch, parameters)
    ]
    return json.dumps(shown, indent=1) + "\n"


def rendered() -> dict[str, str]:
    """Return every golden file's path below golden/ and its text."""
    return {
        f"{directory}/{case}.json": text_of(render(spec, launch_of(spec)), launch_of(spec))
        for directory, cases in CASES.items()
        for case, spec in cases.items()
    } | {
        f"{directory}/over-nodes.json": text_of(render(spec, over_nodes(spec)), over_nodes(spec))
        for directory, spec in OVER_NODES.items()
    }


def write() -> None:
    """Write all files anew, and remove those of cases that are no more."""
    wanted = rendered()
    for path in GOLDEN.rglob("*.json"):
        if path.relative_to(GOLDEN).as_posix() not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = GOLDEN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    write()
