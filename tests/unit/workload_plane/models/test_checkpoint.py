"""What a base model says of its weights, and which starts that keeps."""

import json
import struct
from pathlib import Path

import gguf
import pytest

from skerry.fleet.engine import EngineName, EngineSpec, Quantisation
from skerry.plumbing.errors import Infeasible
from workload_plane.engines.catalogue import refusals
from workload_plane.models import checkpoint
from workload_plane.models.checkpoint import held_weights, refuse_other_weights

TINY = Path(__file__).parents[4] / "examples" / "models" / "skerry-tiny.gguf"


def a_gguf(path: Path, file_type: int | None) -> Path:
    """Write a header as the `gguf` package does, with a vocabulary before the file type."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"word-{i}" for i in range(1_000)])
    writer.add_token_scores([0.5] * 1_000)
    writer.add_array("nested.words", ["a", "b"])
    writer.add_bool("yes", True)
    if file_type is not None:
        writer.add_file_type(file_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def a_directory(path: Path, **files: object) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def an_engine(name: EngineName, weights: str | None) -> EngineSpec:
    return EngineSpec(name=name, quantisation=Quantisation(weights=weights))


def test_a_gguf_file_says_its_type_in_its_header(tmp_path: Path) -> None:
    for number, word in checkpoint._GGUF_WORDS.items():
        assert held_weights(a_gguf(tmp_path / f"{number}.gguf", number)) == word
    # As llama.cpp's own names have it: MOSTLY_Q4_K_M.
    theirs = {one.value: one.name.rpartition("MOSTLY_")[2] for one in gguf.LlamaFileType}
    ours = {number: word.upper() for number, word in checkpoint._GGUF_WORDS.items()}
    assert {number: theirs[number].removeprefix("ALL_") for number in ours} == ours


def test_the_model_of_the_examples_is_read(tmp_path: Path) -> None:
    field = gguf.GGUFReader(TINY).fields.get("general.file_type")
    expected = checkpoint._GGUF_WORDS[int(field.parts[-1][0])] if field else None
    assert held_weights(TINY) == expected


def test_what_does_not_say_or_is_damaged_is_unknown(tmp_path: Path) -> None:
    assert held_weights(a_gguf(tmp_path / "silent.gguf", None)) is None
    assert held_weights(a_gguf(tmp_path / "guessed.gguf", 1024 + 15)) is None
    assert held_weights(a_gguf(tmp_path / "newer.gguf", 99)) is None
    whole = a_gguf(tmp_path / "whole.gguf", 15).read_bytes()
    for name, data in (
        ("empty", b""),
        ("other", b"GGML" + whole[4:]),
        ("cut", whole[:200]),
        ("huge", whole[:24] + struct.pack("<Q", 2**63) + whole[32:]),
        # One value of arrays in arrays, without an end.
        (
            "deep",
            whole[:16] + struct.pack("<QQcI", 1, 1, b"k", 9) + struct.pack("<IQ", 9, 1) * 5_000,
        ),
    ):
        (tmp_path / f"{name}.gguf").write_bytes(data)
        assert held_weights(tmp_path / f"{name}.gguf") is None
    assert held_weights(tmp_path / "absent.gguf") is None
    assert held_weights(a_directory(tmp_path / "bare")) is None
    assert held_weights(a_directory(tmp_path / "list", config=[1])) is None


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"config": {"torch_dtype": "bfloat16"}}, "bf16"),
        ({"config": {"dtype": "float16"}}, "fp16"),
        (
            {"config": {"dtype": "bfloat16", "quantization_config": {"quant_method": "fp8"}}},
            "fp8",
        ),
        ({"config": {"quantization_config": {"quant_method": "awq", "bits": 4}}}, "int4-awq"),
        ({"config": {"quantization_config": {"quant_method": "compressed-tensors"}}}, None),
        (
            {
                "config": {
                    "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}
                }
            },
            "nvfp4",
        ),
        (
            {
                "config": {"torch_dtype": "bfloat16"},
                "hf_quant_config": {"quantization": {"quant_algo": "W4A8_AWQ"}},
            },
            "w4a8-awq",
        ),
        (
            {
                "config": {"torch_dtype": "bfloat16"},
                "hf_quant_config": {"quantization": {"quant_algo": "MIXED_PRECISION"}},
            },
            None,
        ),
    ],
)
def test_a_directory_says_it_in_its_configuration(
    tmp_path: Path, files: dict[str, object], word: str | None
) -> None:
    assert held_weights(a_directory(tmp_path / "model", **files)) == word


@pytest.mark.parametrize(
    ("engine", "said", "held"),
    [
        (EngineName.LLAMACPP, "q4_k_m", "q8_0"),
        (EngineName.TENSORRT_LLM, "fp8", "bf16"),
        (EngineName.TENSORRT_LLM, "nvfp4", "fp8"),
        (EngineName.VLLM, "bf16", "fp8"),
        (EngineName.VLLM, "awq", "bf16"),
        (EngineName.SGLANG, "gptq", "int4-awq"),
    ],
)
def test_other_weights_than_said_are_refused_with_both_words(
    engine: EngineName, said: str, held: str
) -> None:
    spec = an_engine(engine, said)
    assert not [one for one in refusals(spec) if one.path.endswith("weights")]
    with pytest.raises(Infeasible, match=rf"says {said}, and .* it is {held}; correct"):
        refuse_other_weights(spec, held)


@pytest.mark.parametrize(
    ("engine", "said", "held"),
    [
        (EngineName.LLAMACPP, None, "q8_0"),
        (EngineName.LLAMACPP, "q8_0", None),
        (EngineName.LLAMACPP, "q8_0", "q8_0"),
        (EngineName.VLLM, "awq", "int4-awq"),
        # They make these of plain weights while they load them.
        (EngineName.VLLM, "fp8", "bf16"),
        (EngineName.SGLANG, "fp16", "bf16"),
        (EngineName.VLLM, "bitsandbytes", "fp16"),
    ],
)
def test_what_is_said_or_is_not_known_is_started(
    engine: EngineName, said: str | None, held: str | None
) -> None:
    refuse_other_weights(an_engine(engine, said), held)
