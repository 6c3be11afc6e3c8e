"""vLLM's and SGLang's own argument parsers take every golden command line of their release.

No accelerator. `make test-engines` runs it; nothing else does.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.releases import RELEASES, asked
from tests.unit.workload_plane.engines.golden_cases import GOLDEN

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3_600)]

# A flag or value of each that the other line has, so that a parser that takes all is noticed.
WRONG = {
    "vllm-0.16": ["--kv-cache-dtype", "nvfp4"],
    "vllm-0.33": ["--quantization-of-nothing"],
    "sglang-0.5.9": ["--attn-dp-size", "4"],
    "sglang-0.5.23": ["--cuda-graph-max-bs", "many"],
}


def faults(python: Path, line: str, cases: list[dict[str, Any]]) -> list[str | None]:
    """Return what the release's parser says against each case's command line."""
    told = [case["argv"] for case in cases] if line.startswith("vllm") else cases
    return asked(python, line, f"parse_{line.split('-')[0]}.py", told)


@pytest.mark.parametrize("line", sorted(RELEASES))
def test_engines_own_parser_takes_every_golden_command_line(python: Path, line: str) -> None:
    paths = sorted((GOLDEN / line).glob("*.json"))
    cases = [case for path in paths for case in json.loads(path.read_text())]
    assert len(cases) == len(paths) > 15
    refused = zip(paths, faults(python, line, cases), strict=True)
    assert {path.stem: fault for path, fault in refused if fault is not None} == {}


@pytest.mark.parametrize("line", sorted(RELEASES))
def test_engines_own_parser_refuses_what_it_does_not_know(python: Path, line: str) -> None:
    (plain,) = json.loads((GOLDEN / line / "plain.json").read_text())
    wrong = plain | {"argv": [*plain["argv"], *WRONG[line]]}
    taken, refused = faults(python, line, [plain, wrong])
    assert taken is None
    assert refused is not None
