"""Virtual environments of foreign programs, made once and kept in `.venv-foreign/`.

Foreign packages never enter Skerry's own environment: what they need may contradict its lock.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_DIRECTORY = ROOT / ".venv-foreign"
_STAMP = "installed.txt"
# Wheels of some 100 MB over a slow line.
_INSTALL_SECONDS_MAX = 900


def foreign_python(name: str, packages: Sequence[str], *, without_dependencies: bool) -> Path:
    """Return the interpreter of an environment that holds exactly these pinned packages."""
    place = _DIRECTORY / name
    python = place / "bin" / "python"
    wanted = "\n".join(packages)
    stamp = place / _STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    uv = [sys.executable, "-m", "uv", "--quiet"]
    _run([*uv, "venv", "--clear", "--python", sys.executable, str(place)])
    no_deps = ["--no-deps"] if without_dependencies else []
    _run([*uv, "pip", "install", *no_deps, "--python", str(python), *packages])
    stamp.write_text(wanted)
    return python


def _run(command: Sequence[str]) -> None:
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=_INSTALL_SECONDS_MAX, check=False
    )
    assert ended.returncode == 0, f"{' '.join(command)} failed:\n{ended.stderr[-2000:]}"
