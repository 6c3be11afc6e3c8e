"""What is a reference, which files are believed, and programs that fail or never end."""

import os
import signal
import sys
from pathlib import Path

import pytest

from skerry.plumbing.errors import Infeasible, InvalidInput
from skerry.plumbing.secret_references import CommandSecret, resolved, source_of

CANARY = "canaryofareference000002"


@pytest.mark.parametrize(
    "text", ["env:", "file:", "file:relative", "command:", "command:[]", 'command:["a", 1]', "x:y"]
)
def test_what_names_nothing_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(InvalidInput, match="env:NAME"):
        source_of(text, {})


def test_a_setting_that_is_no_reference_is_the_secret_itself() -> None:
    assert resolved("postgresql://fleet@db/skerry", {}) == "postgresql://fleet@db/skerry"
    assert resolved("env:URL", {"URL": "sqlite:///a.db"}) == "sqlite:///a.db"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text(CANARY)
    path.chmod(mode)
    with pytest.raises(Infeasible, match="chmod 600"):
        source_of(f"file:{path}", {}).read()


def test_a_pipe_that_nobody_writes_to_is_no_file_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Infeasible, match="is no file"):
        source_of(f"file:{tmp_path / 'pipe'}", {}).read()


@pytest.mark.integration
def test_a_program_that_fails_is_named_and_what_it_said_is_not_shown() -> None:
    script = f"import sys; print('{CANARY}'); print('{CANARY}', file=sys.stderr); sys.exit(3)"
    with pytest.raises(Infeasible, match="ended with 3") as refused:
        CommandSecret(words=(sys.executable, "-c", script)).read()
    assert CANARY not in str(refused.value)


@pytest.mark.integration
def test_a_program_that_never_ends_is_ended_with_all_that_it_started() -> None:
    # The child keeps the output open: only the end of the whole group ends the reading.
    with pytest.raises(Infeasible, match=r"in 0\.5 s"):
        CommandSecret(words=("sh", "-c", "sleep 600 & sleep 600"), seconds_max=0.5).read()


@pytest.mark.integration
def test_a_program_whose_daemon_keeps_its_output_holds_nobody_up(tmp_path: Path) -> None:
    left = tmp_path / "left"
    script = f"setsid sh -c 'echo $$ > {left}; exec sleep 60' & echo x"
    with pytest.raises(Infeasible, match=r"in 0\.5 s"):
        CommandSecret(words=("sh", "-c", script), seconds_max=0.5).read()
    os.kill(int(left.read_text()), signal.SIGKILL)
