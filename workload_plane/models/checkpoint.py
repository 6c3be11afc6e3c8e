"""What format a base model's weights have by its own word, held against what a deployment says.

A GGUF file says it in its header, a directory of safetensors in `hf_quant_config.json` or
`config.json`. Who looks for base models reads it, in threads of its own; the applier asks what was
found before a start. A base model that says nothing, or nothing known here, is started: its engine
will tell.
"""

import json
import struct
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.errors import Infeasible
from workload_plane.models.selection import GGUF

HEADER_BYTES_MAX = 256 * 1024 * 1024  # with the largest vocabularies it has some 20 MB
JSON_BYTES_MAX = 4 * 1024 * 1024
KEY_BYTES_MAX = 64 * 1024

_FILE_TYPE = b"general.file_type"
_GUESSED = 1024  # whoever wrote the file was not sure
# llama.cpp's numbers of what most tensors of a file are.
_GGUF_WORDS = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    7: "q8_0",
    8: "q5_0",
    9: "q5_1",
    10: "q2_k",
    11: "q3_k_s",
    12: "q3_k_m",
    13: "q3_k_l",
    14: "q4_k_s",
    15: "q4_k_m",
    16: "q5_k_s",
    17: "q5_k_m",
    18: "q6_k",
    32: "bf16",
}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
# Bytes of a GGUF value by the number of its type: whole numbers, fractions and truths.
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _NUMBER_TYPES = 8, 9, (4, 5)

# ModelOpt's algorithms and the hub's methods, by our words.
_ALGORITHMS = {
    "FP8": "fp8",
    "FP8_PB_WO": "fp8",
    "FP8_BLOCK_SCALES": "fp8",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "W4A16_AWQ": "int4-awq",
    "W4A8_AWQ": "w4a8-awq",
}
_METHODS = {
    "fp8": "fp8",
    "awq": "int4-awq",
    "gptq": "gptq",
    "mxfp4": "mxfp4",
    "bitsandbytes": "bitsandbytes",
}
_PLAIN = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_SAME = {"awq": "int4-awq"}
# What these engines make of plain weights themselves, while they load them.
_CONVERTING = frozenset({EngineName.VLLM, EngineName.SGLANG})
_CONVERTED = frozenset({"bf16", "fp16", "fp8", "bitsandbytes"})


def refuse_other_weights(engine: EngineSpec, held: str | None) -> None:
    """Raise Infeasible where weights that are `held` cannot be what the spec says of them."""
    said = engine.quantisation.weights
    if said is None or held is None or _SAME.get(said, said) == _SAME.get(held, held):
        return
    is_plain = held in _PLAIN.values()
    if engine.name in _CONVERTING and is_plain and said in _CONVERTED:
        return
    raise Infeasible(
        f"quantisation.weights says {said}, and the base model says of itself that it is {held};"
        f" correct the one to {held}, leave it out, or name another base model"
    )


def held_weights(path: Path) -> str | None:
    """Return the format of a base model's weights in our words, None when it does not tell."""
    try:
        if path.name.endswith(GGUF):
            with path.open("rb") as file:
                return _of_gguf(file)
        if not path.is_dir():
            return None
        return _of_modelopt(path) if (path / _MODELOPT).exists() else _of_config(path)
    except (OSError, ValueError, struct.error):
        return None  # damaged: its engine will say how


def header_files(path: Path) -> tuple[Path, ...]:
    """Return the files in which a base model says it, whether they are there or not."""
    return (path,) if path.is_file() else (path / _MODELOPT, path / _CONFIG)


def _of_gguf(file: BufferedReader) -> str | None:
    """Return what the header's file type says; ValueError for what is no GGUF header."""
    if file.read(4) != b"GGUF" or _u32(file) not in (2, 3):
        raise ValueError("no GGUF file of a known version")
    _u64(file)  # how many tensors there are
    for _ in range(_u64(file)):
        key, kind = file.read(_length(_u64(file), KEY_BYTES_MAX)), _u32(file)
        if key == _FILE_TYPE and kind in _NUMBER_TYPES:
            number = _u32(file)
            return None if number & _GUESSED else _GGUF_WORDS.get(number)
        _skip(file, kind)
    return None


def _skip(file: BufferedReader, kind: int) -> None:
    """Go past one value."""
    if kind == _STRING:
        _forward(file, _u64(file))
    elif kind == _ARRAY:
        of, count = _u32(file), _u64(file)
        if of == _ARRAY:
            raise ValueError("arrays in an array")  # which nobody writes
        if of in _WIDTHS:
            _forward(file, count * _WIDTHS[of])
            return
        for _ in range(_length(count, HEADER_BYTES_MAX)):
            _skip(file, of)
    else:
        _forward(file, _WIDTHS.get(kind, HEADER_BYTES_MAX + 1))


def _forward(file: BufferedReader, count: int) -> None:
    file.seek(_length(count, HEADER_BYTES_MAX), 1)
    _length(file.tell(), HEADER_BYTES_MAX)


def _length(count: int, most: int) -> int:
    if count > most:
        raise ValueError(f"{count} bytes of a header")
    return count


def _u32(file: BufferedReader) -> int:
    return int(_U32.unpack(file.read(_U32.size))[0])


def _u64(file: BufferedReader) -> int:
    return int(_U64.unpack(file.read(_U64.size))[0])


_MODELOPT, _CONFIG = "hf_quant_config.json", "config.json"


def _of_modelopt(directory: Path) -> str | None:
    told = _mapping(_read(directory / _MODELOPT).get("quantization"))
    return _ALGORITHMS.get(str(told.get("quant_algo")))


def _of_config(directory: Path) -> str | None:
    config = _read(directory / _CONFIG)
    quantised = _mapping(config.get("quantization_config"))
    if quantised:
        algorithm = _ALGORITHMS.get(str(quantised.get("quant_algo")))
        return algorithm or _METHODS.get(str(quantised.get("quant_method")))
    return _PLAIN.get(str(config.get("torch_dtype") or config.get("dtype")))


def _read(path: Path) -> Mapping[str, object]:
    with path.open("rb") as file:
        return _mapping(json.loads(file.read(JSON_BYTES_MAX)))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
