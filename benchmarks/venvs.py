"""Environments of their own for programs that are measured or used beside Skerry, under build/.

A benchmark asks for one by name; what cannot be installed is skipped loudly by its caller. Nothing
here is a dependency of Skerry.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "bench"
INSTALL_SECONDS_MAX = 900.0
_ERROR_CHARS_MAX = 300


class CannotInstall(Exception):
    """The environment is not there and could not be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A program of others: the environment's name, what is installed, and how it is asked for."""

    name: str
    requirement: str

    @property
    def folder(self) -> Path:
        """Return the environment's folder."""
        return FOLDER / self.name

    def binary(self, name: str) -> Path:
        """Return a program of the environment."""
        return self.folder / "bin" / name


PYARROW = Foreign(name="pyarrow", requirement="pyarrow>=20")


def ensure(foreign: Foreign) -> Foreign:
    """Return the environment, made now if it is not there; raises CannotInstall."""
    done = foreign.folder / ".ready"
    if done.exists() and done.read_text() == foreign.requirement:
        return foreign
    uv = Path(sys.executable).parent / "uv"
    python = foreign.binary("python")
    steps = (
        [uv, "venv", "-q", "--clear", "--python", sys.executable, foreign.folder],
        [uv, "pip", "install", "-q", "--python", python, foreign.requirement],
    )
    print(f"installing {foreign.requirement} into {foreign.folder.relative_to(ROOT)}", flush=True)
    for step in steps:
        try:
            subprocess.run(
                [str(part) for part in step],
                check=True,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS_MAX,
            )
        except subprocess.CalledProcessError as error:
            text = error.stderr.strip()[-_ERROR_CHARS_MAX:]
            raise CannotInstall(f"{foreign.requirement}: {text}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotInstall(f"{foreign.requirement}: {error}") from None
    done.write_text(foreign.requirement)
    return foreign
