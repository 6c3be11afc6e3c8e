"""Which release of an engine is installed here, held against the line that its command is for.

The host asks before it starts the engine: a YAML of TensorRT-LLM 1.2 that 1.4 reads drafts more
under load instead of less, and says nothing. What cannot be told keeps nothing from its start.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing import logs
from skerry.plumbing.errors import Infeasible
from workload_plane.engines.catalogue import RENDERERS
from workload_plane.engines.findings import line_of, release_of
from workload_plane.replica_host.environment import without_credentials

_log = logs.get_logger(__name__)

TELL_SECONDS_MAX = 10.0  # 50 ms, and seconds from a shared disk that is cold
_SHEBANG_BYTES_MAX = 512
_DISTRIBUTIONS = {
    EngineName.TENSORRT_LLM: "tensorrt_llm",
    EngineName.VLLM: "vllm",
    EngineName.SGLANG: "sglang",
}
# Of what is installed alone: to import an engine takes half a minute, and may take an accelerator.
_TELL = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"


def check_installed(engine: EngineSpec, program: str, environment: Mapping[str, str]) -> None:
    """Raise Infeasible where another line of the engine is installed than its command is for."""
    distribution = _DISTRIBUTIONS.get(engine.name)
    if distribution is None:
        return
    found = installed_version(distribution, program, environment)
    if not found:
        _log.info("engine.release-not-told", engine=engine.name.value, program=program)
        return
    refuse_other_line(engine, found)


def refuse_other_line(engine: EngineSpec, installed: str) -> None:
    """Raise Infeasible where the installed release is of another known line than the command."""
    renderer = RENDERERS[engine.name]
    rendered = release_of(engine, renderer.VERSIONS, renderer.DEFAULT_VERSION)
    line = line_of(installed, renderer.VERSIONS)
    if line is None:  # newer than what is known here: whoever names a line says that its flags fit
        _log.warning("engine.release-unknown", installed=installed, rendered=rendered)
    elif line != rendered:
        raise Infeasible(
            f"{engine.name} {installed} is installed here, of the line {line}, and the deployment"
            f" is for {rendered}: set engine.version to {line}, or install {rendered} on this plane"
        )


def installed_version(distribution: str, program: str, environment: Mapping[str, str]) -> str:
    """Return the release that the program is of, "" when it cannot be told."""
    interpreter = _interpreter(program, environment.get("PATH", os.defpath))
    if not interpreter:
        return ""
    try:
        told = subprocess.run(
            [*interpreter, "-c", _TELL, distribution],
            env=without_credentials(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TELL_SECONDS_MAX,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.decode(errors="replace").strip()


def _interpreter(program: str, path: str) -> list[str]:
    """Return the Python that runs a program: itself, or the one that its first line names."""
    place = shutil.which(program, path=path)
    if place is None:
        return []  # its start says so
    if Path(place).name.startswith("python") or place == sys.executable:
        return [place]
    try:
        with open(place, "rb") as file:
            first = file.read(_SHEBANG_BYTES_MAX).partition(b"\n")[0]
    except OSError:
        return []
    words = first.removeprefix(b"#!").decode(errors="replace").split()
    is_python = first.startswith(b"#!") and any("python" in Path(word).name for word in words)
    return words if is_python else []
