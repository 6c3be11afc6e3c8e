"""The folder that Ray's files are in is emptied only where it is this plane's own."""

from pathlib import Path

import pytest

from skerry.plumbing.errors import Conflict
from workload_plane.replicas.ray.own_nodes import MARKER, clear_temp


def test_a_folder_that_is_not_there_is_made_and_then_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    clear_temp(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "session").mkdir()
    clear_temp(folder)
    assert [path.name for path in folder.iterdir()] == [MARKER]


def test_a_folder_that_holds_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "llama.gguf").write_bytes(b"weights")
    with pytest.raises(Conflict, match="holds files that are not Ray's"):
        clear_temp(tmp_path)
    assert (tmp_path / "llama.gguf").read_bytes() == b"weights"


def test_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "home"
    elsewhere.mkdir()
    (tmp_path / "ray").symlink_to(elsewhere)
    with pytest.raises(Conflict, match="somebody else's"):
        clear_temp(tmp_path / "ray")
