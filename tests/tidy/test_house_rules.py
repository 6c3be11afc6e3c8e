"""The house rules hold over the whole tree."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.integration
def test_the_tree_keeps_the_house_rules() -> None:
    result = subprocess.run(
        [sys.executable, "tools/tidy.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
