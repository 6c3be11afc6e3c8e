"""An engine of another line than its command is for is not started."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.errors import Infeasible
from workload_plane.replica_host import installed
from workload_plane.replica_host.installed import (
    check_installed,
    installed_version,
    refuse_other_line,
)


@pytest.mark.parametrize(
    ("name", "asked", "found", "line"),
    [
        (EngineName.TENSORRT_LLM, None, "1.4.0rc1", "1.4"),
        (EngineName.TENSORRT_LLM, "1.4", "1.2.1", "1.2"),
        (EngineName.VLLM, None, "0.16.0+cu129", "0.16"),
        (EngineName.SGLANG, "0.5.23", "0.5.9.post1", "0.5.9"),
    ],
)
def test_another_line_is_refused_with_both(
    name: EngineName, asked: str | None, found: str, line: str
) -> None:
    with pytest.raises(
        Infeasible, match=rf"{re.escape(found)} .* line {line}, .*set engine.version to {line}"
    ):
        refuse_other_line(EngineSpec(name=name, version=asked), found)


@pytest.mark.parametrize(
    ("name", "asked", "found"),
    [
        (EngineName.TENSORRT_LLM, None, "1.2.1"),
        (EngineName.TENSORRT_LLM, "1.4.0rc1", "1.4.0rc3"),
        (EngineName.VLLM, None, "0.33.1.dev3"),
        (EngineName.VLLM, "0.33", "0.40.0"),  # nobody here knows it; the operator says it fits
    ],
)
def test_the_same_line_and_one_that_nobody_knows_are_started(
    name: EngineName, asked: str | None, found: str
) -> None:
    refuse_other_line(EngineSpec(name=name, version=asked), found)


def _program(path: Path, first: str) -> str:
    path.write_text(f"{first}\nraise SystemExit('not to be run')\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.integration
def test_a_program_is_asked_by_the_python_of_its_first_line(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path)}
    _program(tmp_path / "serve", f"#!{sys.executable}")
    assert installed_version("pytest", "serve", environment) == version("pytest")
    assert installed_version("pytest", sys.executable, environment) == version("pytest")


@pytest.mark.integration
@pytest.mark.parametrize("first", ["#!/bin/sh", "", "#!/nowhere/python3"])
def test_what_cannot_be_told_keeps_nothing_from_its_start(tmp_path: Path, first: str) -> None:
    program = _program(tmp_path / "vllm", first)
    environment = {"PATH": "/usr/bin:/bin"}
    for one in (program, "no-such-program", sys.executable):
        assert installed_version("skerry-no-such-engine", one, environment) == ""
        check_installed(EngineSpec(name=EngineName.VLLM), one, environment)


def test_engines_that_come_with_the_plane_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(installed, "installed_version")
    for name in (EngineName.LLAMACPP, EngineName.SIMULATED):
        check_installed(EngineSpec(name=name), "anything", {})
