"""No agent imports Ray, whatever its runtime; only its children do."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

_LOOK = (
    "import sys, workload_plane.main, workload_plane.replicas.ray.runtime, skerry.cli.up;"
    "sys.exit(any(name == 'ray' or name.startswith('ray.') for name in sys.modules))"
)


def test_no_agent_imports_ray() -> None:
    root = Path(__file__).parents[4]
    assert subprocess.run([sys.executable, "-c", _LOOK], cwd=root, timeout=60).returncode == 0
