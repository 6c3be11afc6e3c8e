"""A base model's URI reaches what it may reach and nothing else."""

from pathlib import Path

import pytest

from skerry.plumbing.errors import Denied, Infeasible, InvalidInput, NotFound
from workload_plane.models.sources import resolve


@pytest.fixture
def models(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    directory.mkdir()
    (directory / "tiny.gguf").write_bytes(b"weights")
    (tmp_path / "secret.gguf").write_bytes(b"secret")
    return directory


def test_a_builtin_model_is_found_by_name(models: Path) -> None:
    found = resolve("builtin://tiny", (models.parent, models))
    assert (found.path, found.size_bytes) == (models / "tiny.gguf", 7)


def test_a_simulated_model_needs_no_file() -> None:
    found = resolve("simulated://llama-70b", ())
    assert found.path is None


def test_a_missing_model_says_where_to_put_it(models: Path) -> None:
    with pytest.raises(NotFound, match=r"no big\.gguf .*put it there"):
        resolve("builtin://big", (models,))


@pytest.mark.parametrize("name", ["../secret", "a/b", "", "tiny\0", "TINY"])
def test_a_builtin_name_is_no_path(models: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        resolve(f"builtin://{name}", (models,))


def test_a_file_must_lie_under_a_model_directory(models: Path) -> None:
    assert resolve(f"file://{models}/tiny.gguf", (models,)).path == models / "tiny.gguf"
    for path in (f"{models}/../secret.gguf", "/etc/hostname"):
        with pytest.raises(Denied, match="model_dirs"):
            resolve(f"file://{path}", (models,))


def test_a_link_is_no_way_out(models: Path) -> None:
    (models / "link.gguf").symlink_to(models.parent / "secret.gguf")
    for uri in ("builtin://link", f"file://{models}/link.gguf"):
        with pytest.raises(Denied):
            resolve(uri, (models,))


def test_a_file_that_is_absent_relative_or_a_directory_is_refused(models: Path) -> None:
    with pytest.raises(NotFound):
        resolve(f"file://{models}/absent.gguf", (models,))
    with pytest.raises(InvalidInput):
        resolve("file://elsewhere/tiny.gguf", (models,))
    with pytest.raises(InvalidInput):
        resolve(f"file://{models}", (models,))


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.ckpt", "link.safetensors"])
def test_a_pickle_is_taken_only_where_the_plane_allows_it(models: Path, name: str) -> None:
    (models / "model.bin").write_bytes(b"pickle")
    (models / "link.safetensors").symlink_to(models / "model.bin")
    (models / name).touch()
    with pytest.raises(Denied, match=r"may be a pickle.*allow_pickle"):
        resolve(f"file://{models}/{name}", (models,))
    found = resolve(f"file://{models}/{name}", (models,), allow_pickle=True)
    assert found.path == (models / name).resolve()
    # A directory of nothing else is as bad.
    (models / "whole").mkdir()
    (models / "whole" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(Denied, match="may be a pickle"):
        resolve(f"file://{models}/whole", (models,))
    assert resolve(f"file://{models}/whole", (models,), allow_pickle=True).size_bytes == 6


def test_a_file_that_holds_no_weights_is_no_base_model(models: Path) -> None:
    (models / "notes.txt").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"\.safetensors or \.gguf"):
        resolve(f"file://{models}/notes.txt", (models,), allow_pickle=True)


@pytest.mark.parametrize("uri", ["hf://org/name", "s3://bucket/key", "http://169.254.169.254/"])
def test_remote_sources_are_refused_with_the_remedy(uri: str) -> None:
    with pytest.raises(Infeasible, match="model directory"):
        resolve(uri, ())


@pytest.mark.parametrize(
    "uri", ["", "tiny", "gopher://x", "/abs/path", "http://[:1e9", "file://[::*1]/x", "hf://[a/b"]
)
def test_what_is_no_known_uri_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput):
        resolve(uri, ())
