"""Files that are whole, kept twice, and repaired before a start."""

import json
from pathlib import Path

import pytest

from workload_plane.gateway.files import (
    apply_step,
    load_published,
    published_versions,
    repair,
    version_of,
)
from workload_plane.gateway.order import CLUSTERS, LISTENERS, RemoveFile, WriteFile

OLD = ({"name": "old"},)
NEW = ({"name": "new"},)


def write(folder: Path, resources: tuple[dict[str, str], ...], path: str = LISTENERS) -> bool:
    return apply_step(folder, WriteFile(path=path, resources=resources))


def on_disk(folder: Path, path: str = LISTENERS) -> object:
    return json.loads((folder / path).read_text())


def test_a_file_carries_the_digest_of_what_it_holds(tmp_path: Path) -> None:
    assert write(tmp_path, NEW)
    assert on_disk(tmp_path) == {"version_info": version_of(NEW), "resources": [{"name": "new"}]}
    assert published_versions(tmp_path) == {LISTENERS: version_of(NEW)}


def test_unchanged_resources_are_not_written_again(tmp_path: Path) -> None:
    write(tmp_path, NEW)
    before = (tmp_path / LISTENERS).stat()
    assert not write(tmp_path, NEW)
    assert (tmp_path / LISTENERS).stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "damage", [b"", b'{"version_info": "x", "resou', b"\x00" * 64, b'{"resources": []}', b"[]"]
)
def test_a_damaged_file_is_put_back_as_it_was(tmp_path: Path, damage: bytes) -> None:
    write(tmp_path, OLD)
    write(tmp_path, NEW)
    (tmp_path / LISTENERS).write_bytes(damage)
    assert repair(tmp_path) == (LISTENERS,)
    assert published_versions(tmp_path) == {LISTENERS: version_of(NEW)}
    assert repair(tmp_path) == ()


def test_a_bit_that_flipped_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, NEW)
    file = tmp_path / LISTENERS
    file.write_bytes(file.read_bytes().replace(b'"new"', b'"nex"'))
    assert repair(tmp_path) == (LISTENERS,)
    assert published_versions(tmp_path) == {LISTENERS: version_of(NEW)}


def test_with_both_copies_damaged_the_state_before_is_used(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    write(tmp_path, NEW)
    for file in (tmp_path / LISTENERS, tmp_path / "copies" / LISTENERS):
        file.write_bytes(b"torn")
    assert repair(tmp_path) == (LISTENERS,)
    assert published_versions(tmp_path) == {LISTENERS: version_of(OLD)}


def test_copies_lie_outside_of_the_watched_folders(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    write(tmp_path, NEW)
    assert [path.name for path in (tmp_path / LISTENERS).parent.iterdir()] == ["listeners.json"]


def test_lost_endpoints_become_empty_ones_so_that_clusters_load(tmp_path: Path) -> None:
    write(tmp_path, ({"name": "http/chat", "type": "EDS"},), CLUSTERS)
    assert repair(tmp_path) == ("endpoints/chat/http.json",)
    assert load_published(tmp_path) is None


def test_a_removed_file_does_not_come_back_by_repair(tmp_path: Path) -> None:
    path = "endpoints/chat/http.json"
    write(tmp_path, OLD, path)
    assert apply_step(tmp_path, RemoveFile(path=path))
    assert repair(tmp_path) == ()
    assert not (tmp_path / "endpoints/chat").exists()
    assert not apply_step(tmp_path, RemoveFile(path=path))
