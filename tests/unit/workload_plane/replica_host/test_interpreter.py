"""An engine is run by the interpreter that has it, and never by Skerry's own for want of a word."""

import sys

import pytest

from skerry.fleet.engine import EngineName
from workload_plane.replica_host.main import PYTHON_VARIABLE, engine_python


@pytest.mark.parametrize("name", [EngineName.SIMULATED, EngineName.LLAMACPP])
def test_engines_of_skerrys_own_are_run_by_its_own_interpreter(name: EngineName) -> None:
    assert engine_python(name, {PYTHON_VARIABLE: "/opt/sglang/bin/python"}) == sys.executable


def test_every_other_engine_is_run_by_the_planes_python3_or_the_one_that_is_named() -> None:
    assert engine_python(EngineName.SGLANG, {}) == "python3"
    assert engine_python(EngineName.SGLANG, {PYTHON_VARIABLE: ""}) == "python3"
    named = {PYTHON_VARIABLE: "/opt/sglang/bin/python"}
    assert engine_python(EngineName.SGLANG, named) == "/opt/sglang/bin/python"
