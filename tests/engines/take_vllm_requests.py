"""Runs in the venv that has vLLM: puts bodies of `/v1/completions` through its own request model.

Reads a JSON list of bodies and prints, for each, what was wrong with it or null.
"""

import json
import sys
from typing import Any

import vllm.platforms as platforms
from vllm.platforms.cpu import CpuPlatform

# The model asks which accelerator there is; a build for none would find none.
platforms._current_platform = CpuPlatform()

try:
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
except ImportError:
    from vllm.entrypoints.openai.protocol import CompletionRequest


def fault_of(body: dict[str, Any]) -> str | None:
    """Return what vLLM says against a body; None when it takes it and knows all of it."""
    try:
        asked = CompletionRequest.model_validate(body)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    # It keeps what it does not know, and does nothing with it.
    unknown = sorted(asked.model_extra or {})
    return f"unknown fields: {unknown}" if unknown else None


if __name__ == "__main__":
    print(json.dumps([fault_of(body) for body in json.load(sys.stdin)]))
