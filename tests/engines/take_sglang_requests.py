"""Runs in the venv that has SGLang: puts bodies of `/generate` through its own request models.

Reads a JSON list of bodies and prints, for each, what was wrong with it or null: what its HTTP
server does with one before any accelerator is asked.
"""

import dataclasses
import json
import sys
from typing import Any

from tests.engines.hollow import install

install("torchvision", "sgl_kernel")

from pydantic import TypeAdapter  # noqa: E402
from sglang.srt.managers.io_struct import GenerateReqInput  # noqa: E402
from sglang.srt.sampling.sampling_params import SamplingParams  # noqa: E402

try:
    from sglang.srt.entrypoints.api_contract import generate_contract_error
except ImportError:  # 0.5.9 has no schema beside its classes

    def generate_contract_error(body: Any) -> str | None:
        """Find nothing wrong."""
        return None


VOCABULARY = 32_000


class _Tokenizer:
    """Counts the tokens of stop texts, which is all that is asked of it."""

    def encode(self, text: str, **_: object) -> list[int]:
        return [0] * len(text)


def fault_of(body: dict[str, Any]) -> str | None:
    """Return what SGLang says against a body; None when it takes it."""
    if (fault := generate_contract_error(body)) is not None:
        return str(fault)
    # It would leave out what it does not know.
    if unknown := set(body) - {field.name for field in dataclasses.fields(GenerateReqInput)}:
        return f"unknown fields: {sorted(unknown)}"
    try:
        asked = TypeAdapter(GenerateReqInput).validate_python(body)
        asked.normalize_batch_and_arguments()
        of_each = asked.sampling_params
        for values in of_each if isinstance(of_each, list) else [of_each]:
            sampling = SamplingParams(**values)
            sampling.normalize(_Tokenizer())
            sampling.verify(VOCABULARY)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    print(json.dumps([fault_of(body) for body in json.load(sys.stdin)]))
