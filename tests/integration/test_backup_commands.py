"""`skerry backup` and `skerry restore` as they are typed, and what they say when they cannot."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from control_plane.leading.sole import sole_control_plane
from control_plane.store.schema import upgrade
from skerry.cli.backup import DATABASE_VARIABLE
from skerry.cli.main import app
from skerry.plumbing.errors import Conflict, NotFound

pytestmark = pytest.mark.integration


def skerry(*arguments: object) -> str:
    """Run a command; what it raises is raised."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_database_is_backed_up_verified_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, file = tmp_path / "skerry.db", tmp_path / "fleet.backup"
    monkeypatch.setenv(DATABASE_VARIABLE, f"sqlite:///{database}")
    with pytest.raises(NotFound, match="no database"):
        skerry("backup", file)
    upgrade(f"sqlite:///{database}")
    assert "schema" in skerry("backup", file)
    assert "is sound" in skerry("backup", file, "--verify")
    with sole_control_plane(f"sqlite:///{database}"), pytest.raises(Conflict, match="stop that"):
        skerry("restore", file)
    assert "recover status" in skerry("restore", file)
    with pytest.raises(Conflict, match="--force"):
        skerry("restore", file)  # what restores leaves a record
    skerry("restore", file, "--force")
