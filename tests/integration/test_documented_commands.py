"""Every command in a document is run: against a fleet of its own, in the order it is written.

What cannot be run here is named with the reason, so that a new command can't slip through.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from skerry.cli import main

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/operating/running.md",
    "docs/operating/deployment-file.md",
    "docs/operating/http-api.md",
    "docs/operating/audit.md",
    "docs/operating/access.md",
    "docs/operating/api-keys.md",
    "docs/operating/projects.md",
    "docs/operating/joining.md",
    "docs/engines.md",
    "docs/scheduling.md",
    "docs/operating/profile.md",
)
TUTORIAL = "docs/tutorial.md"  # begins and ends a fleet of its own
FLEET = "/tmp/skerry-fleet"  # the directory that the documents use; a temporary one stands in
SECONDS_MAX = 120
# What starts, ends or loads a fleet, and the README's, runs as it is written; each of the others
# would import the client anew.
APART = ("up", "down", "load", "chat", "profile", "drill")
ELSEWHERE = {
    "make demo": "tests/integration/test_story.py",
    "make test": "this very run",
    "make setup": "made the environment this runs in",
    "make test-unit": "part of this very run",
    "git clone YOUR-FORK skerry && cd skerry": "needs a fork",
}


def commands(documents: Sequence[str]) -> list[tuple[str, str]]:
    """Every line of every `sh` block, with its document."""
    found = []
    for name in documents:
        text = (ROOT / name).read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            found += [(name, line) for line in block.splitlines() if line.strip()]
    return found


def test_every_shell_block_is_of_a_known_document() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with_commands = {
        name for name in listed if "```sh\n" in (ROOT / name).read_text(encoding="utf-8")
    }
    assert with_commands <= {*DOCUMENTS, TUTORIAL}, "add the document to DOCUMENTS"


# Dozens of commands against a fleet of its own, on a busy machine: 250 s were seen.
@pytest.mark.timeout(600)
def test_every_documented_command_does_what_it_says(tmp_path: Path) -> None:
    follow(DOCUMENTS, tmp_path)


# A whole life of a fleet and a drill: 170 s were seen beside other work.
@pytest.mark.timeout(400)
def test_the_tutorial_goes_from_nothing_to_a_drill_and_cleans_up(tmp_path: Path) -> None:
    follow((TUTORIAL,), tmp_path)
    assert not (tmp_path / "fleet").exists()


def follow(documents: Sequence[str], tmp_path: Path) -> None:
    """Run every command of the documents in their order, against a fleet in `tmp_path`."""
    environment = dict(os.environ)
    fleet = str(tmp_path / "fleet")
    running = False
    try:
        for document, command in commands(documents):
            if command in ELSEWHERE:
                continue
            line = command.replace(FLEET, fleet)
            if line.startswith("export ") and "$(" not in line:
                name, _, value = line.removeprefix("export ").partition("=")
                environment[name] = value
                continue
            if not running and " up " not in f"{line} " and not line.startswith("rm "):
                run(["up", "--planes", "3", "--data-dir", fleet, "--detach"], environment)
                environment["SKERRY_CONFIG"] = f"{fleet}/config.yaml"
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                environment[name] = in_shell(f"printf %s {value}", environment)
                running = True
                continue
            if re.match(r"(curl|kill|sed|rm) |printf .* \| curl ", line):
                in_shell(line, environment)
                running = not line.startswith("rm ")
                continue
            program, *arguments = shlex.split(line)
            assert program == ".venv/bin/skerry", f"{document}: {command}: name it in ELSEWHERE"
            if document == "README.md" or arguments[0] in APART:
                run(arguments, environment)
            else:
                run_here(arguments, environment)
            running = "down" not in arguments
    finally:
        if Path(fleet).exists():
            run(["down", "--data-dir", fleet], environment)


def in_shell(line: str, environment: dict[str, str]) -> str:
    """Return what a line of shell prints; it must end with 0."""
    result = subprocess.run(
        ["sh", "-c", line],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert result.returncode == 0, f"{line}:\n{result.stdout!r}\n{result.stderr!r}"
    return result.stdout.decode("utf-8", "replace")


def run_here(arguments: list[str], environment: dict[str, str]) -> None:
    """Run one skerry command in this process; it must end with 0."""
    told = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(told),
    ):
        patch.chdir(ROOT)
        for name, value in environment.items():
            patch.setenv(name, value)
        code = main.run(arguments)
    assert code == 0, f"skerry {arguments}:\n{told.getvalue()}"


def run(arguments: list[str], environment: dict[str, str]) -> None:
    """Run one skerry command; it must end with 0."""
    result = subprocess.run(
        [str(ROOT / ".venv/bin/skerry"), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert result.returncode == 0, f"skerry {arguments}:\n{result.stdout}\n{result.stderr}"
