"""vLLM's and SGLang's own argument parsers take every golden command line of their release.

Installs them into a venv below `build/engines`, kept between runs: vLLM from its source
distribution for no device, SGLang from its wheel; 3 GB, ten minutes at first. No accelerator.
`make test-engines` runs it; nothing else does.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.workload_plane.engines.golden_cases import GOLDEN

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3_600)]

HERE = Path(__file__).parent
PLACE = Path(os.environ.get("SKERRY_ENGINES_DIR", HERE.parents[1] / "build" / "engines"))
REQUIREMENTS = HERE / "requirements.txt"

# The release whose parser stands for a release line's.
RELEASES = {
    "vllm-0.16": "0.16.0",
    "vllm-0.33": "0.33.0",
    "sglang-0.5.9": "0.5.9",
    "sglang-0.5.23": "0.5.23",
}
# A flag or value of each that the other line has, so that a parser that takes all is noticed.
WRONG = {
    "vllm-0.16": ["--kv-cache-dtype", "nvfp4"],
    "vllm-0.33": ["--quantization-of-nothing"],
    "sglang-0.5.9": ["--attn-dp-size", "4"],
    "sglang-0.5.23": ["--cuda-graph-max-bs", "many"],
}


def run(*words: str | Path, told: str = "", env: Mapping[str, str] | None = None) -> str:
    """Return what a command printed; fails with the end of what it said when it fails."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, input=told, env=env
    )
    assert done.returncode == 0, f"{words[:4]}: {(done.stdout + done.stderr)[-3_000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of a venv that has what both parsers import."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    venv, ready = PLACE / "venv", PLACE / "venv" / f".ready-{digest[:12]}"
    found = venv / "bin" / "python"
    if not ready.exists():
        run(sys.executable, "-m", "venv", "--clear", venv)
        # All of it is named there, so that nobody's requirements bring a build for accelerators.
        run(found, "-m", "pip", "install", "-q", "--no-deps", "-r", REQUIREMENTS)
        ready.touch()
    return found


def installed(python: Path, line: str) -> Path:
    """Return the directory that holds the release of a line, installed on first use."""
    engine, version = line.split("-")[0], RELEASES[line]
    target = PLACE / f"{engine}-{version}"
    if not (target / ".ready").exists():
        built_for_none = {"VLLM_TARGET_DEVICE": "empty", "VLLM_VERSION_OVERRIDE": version}
        how = ["--only-binary", ":all:"]
        if engine == "vllm":
            how = ["--no-build-isolation", "--no-binary", "vllm"]
        pip = (str(python), "-m", "pip", "install", "-q", "--no-deps", "--target", str(target))
        run(*pip, *how, f"{engine}=={version}", env=os.environ | built_for_none)
        (target / ".ready").touch()
    return target


def faults(python: Path, line: str, cases: list[dict[str, Any]]) -> list[str | None]:
    """Return what the release's parser says against each case's command line."""
    script = HERE / f"parse_{line.split('-')[0]}.py"
    told = [case["argv"] for case in cases] if line.startswith("vllm") else cases
    environment = os.environ | {"PYTHONPATH": str(installed(python, line))}
    printed = run(python, script, told=json.dumps(told), env=environment)
    found: list[str | None] = json.loads(printed.strip().splitlines()[-1])
    return found


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
