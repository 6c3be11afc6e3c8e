"""Real engines without their accelerators: installed into one venv, asked by scripts in it.

Below `build/engines`, kept between runs: vLLM from its source distribution for no device, SGLang
from its wheel; 3 GB, ten minutes at first. Called by the tests beside this.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLACE = Path(os.environ.get("SKERRY_ENGINES_DIR", ROOT / "build" / "engines"))
REQUIREMENTS = HERE / "requirements.txt"

# The release whose parser and request models stand for a release line's.
RELEASES = {
    "vllm-0.16": "0.16.0",
    "vllm-0.33": "0.33.0",
    "sglang-0.5.9": "0.5.9",
    "sglang-0.5.23": "0.5.23",
}


def run(*words: str | Path, told: str = "", env: Mapping[str, str] | None = None) -> str:
    """Return what a command printed; fails with the end of what it said when it fails."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, input=told, env=env
    )
    assert done.returncode == 0, f"{words[:4]}: {(done.stdout + done.stderr)[-3_000:]}"
    return done.stdout


def interpreter() -> Path:
    """Return the interpreter of a venv that has what every engine's parts import."""
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


def asked(python: Path, line: str, script: str, told: object) -> list[str | None]:
    """Return what a release says, by a script beside this, of each of what it is told as JSON."""
    paths = os.pathsep.join(map(str, (installed(python, line), ROOT)))
    environment = os.environ | {"PYTHONPATH": paths}
    printed = run(python, HERE / script, told=json.dumps(told), env=environment)
    found: list[Any] = json.loads(printed.strip().splitlines()[-1])
    return found
