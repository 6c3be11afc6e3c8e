"""What an engine cannot do is refused by the technique's name, with the remedy, before a start."""

import pytest

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
from workload_plane.engines.catalogue import refusals, render
from workload_plane.engines.port import LaunchParameters, UnsupportedTechnique

REAL = (EngineName.TENSORRT_LLM, EngineName.VLLM, EngineName.SGLANG, EngineName.LLAMACPP)
NGRAM = SpeculativeDecoding(method=SpeculativeMethod.NGRAM, draft_tokens=2)
MTP = SpeculativeDecoding(method=SpeculativeMethod.MTP, draft_tokens=2)


@pytest.mark.parametrize("name", list(EngineName))
def test_default_spec_is_taken_by_every_engine(name: EngineName) -> None:
    assert refusals(EngineSpec(name=name)) == ()


@pytest.mark.parametrize("name", REAL)
def test_disaggregation_is_refused_inside_one_replica(name: EngineName) -> None:
    split = Disaggregation(prefill_replicas=1, decode_replicas=1)
    (refusal,) = refusals(EngineSpec(name=name, disaggregation=split))
    assert refusal.startswith("disaggregation: ")
    assert "remove it" in refusal


@pytest.mark.parametrize("name", REAL)
def test_unknown_formats_are_refused_with_those_there_are(name: EngineName) -> None:
    spec = EngineSpec(name=name, quantisation=Quantisation(weights="int3", kv_cache="int3"))
    weights, cache = refusals(spec)
    assert weights.startswith("quantisation of weights 'int3'")
    assert cache.startswith("quantisation of the KV cache 'int3'")
    assert "," in weights
    assert "," in cache


@pytest.mark.parametrize(
    "option", ["trust-remote-code", "trust_remote_code", "served-model-name", "middleware"]
)
@pytest.mark.parametrize("name", list(EngineName))
def test_options_off_the_allow_list_are_refused(name: EngineName, option: str) -> None:
    (refusal,) = refusals(EngineSpec(name=name, options=((option, "true"),)))
    assert refusal.startswith(f"option {option!r}: not an allowed option of {name}")


@pytest.mark.parametrize(
    ("spec", "technique"),
    [
        (EngineSpec(name=EngineName.LLAMACPP, speculative=NGRAM), "speculative decoding by ngram"),
        (EngineSpec(name=EngineName.LLAMACPP, parallelism=Parallelism(tensor=2)), "parallelism"),
        (EngineSpec(name=EngineName.SGLANG, speculative=MTP), "speculative decoding by mtp"),
        (
            EngineSpec(name=EngineName.TENSORRT_LLM, parallelism=Parallelism(tensor=4, expert=3)),
            "expert parallelism 3",
        ),
        (
            EngineSpec(name=EngineName.VLLM, parallelism=Parallelism(tensor=4, expert=2)),
            "expert parallelism 2",
        ),
        (
            EngineSpec(name=EngineName.VLLM, parallelism=Parallelism(attention_data_parallel=True)),
            "attention data parallelism",
        ),
        (
            EngineSpec(name=EngineName.VLLM, prefix_caching=PrefixCaching(host_memory_bytes=1)),
            "prefix caching in host memory",
        ),
        (
            EngineSpec(name=EngineName.SIMULATED, options=(("jitter", "nan"),)),
            "option 'jitter'",
        ),
        (
            EngineSpec(name=EngineName.LLAMACPP, options=(("threads", "2"), ("threads", "3"))),
            "option 'threads'",
        ),
    ],
)
def test_refusal_names_the_technique(spec: EngineSpec, technique: str) -> None:
    (refusal,) = refusals(spec)
    assert refusal.startswith(f"{technique}:")


def test_rendering_a_refused_spec_tells_every_refusal() -> None:
    launch = LaunchParameters(
        model_path="/m", served_name="m", host="127.0.0.1", http_port=1, config_dir="/c"
    )
    spec = EngineSpec(
        name=EngineName.LLAMACPP, speculative=NGRAM, parallelism=Parallelism(tensor=2)
    )
    with pytest.raises(UnsupportedTechnique, match=r"speculative.*; parallelism"):
        render(spec, launch)
