"""The interpreter that real engines' parts are asked with."""

from pathlib import Path

import pytest

from tests.engines.releases import interpreter


@pytest.fixture(scope="session")
def python() -> Path:
    """The venv's own, made on first use."""
    return interpreter()
