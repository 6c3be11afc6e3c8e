"""Prefixes on disk: a directory of the replica's own, with room for it, gone with its engine."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.fleet.engine import EngineName, EngineSpec, PrefixCaching
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Exhausted, InvalidInput, Unavailable
from tests.unit.workload_plane.replica_host.test_values import a_spec
from workload_plane.replica_host import prefix_disk
from workload_plane.replica_host.prefix_disk import PrefixPlace, sweep_prefixes, take_place
from workload_plane.replica_host.spec import ReplicaSpec

MIB = 1024**2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


def with_disk(root: Path, name: str, disk_bytes: int = MIB, below: str = "") -> ReplicaSpec:
    caching = PrefixCaching(disk_path=str(root / below), disk_bytes=disk_bytes)
    engine = EngineSpec(name=EngineName.TENSORRT_LLM, version="1.4", prefix_caching=caching)
    return a_spec(root.parent, name=name, engine=engine, prefix_disk_dir=root)


def taken(spec: ReplicaSpec) -> PrefixPlace:
    place = take_place(spec)
    assert place is not None
    return place


def test_each_replica_has_a_directory_of_its_own_that_others_cannot_read(root: Path) -> None:
    first, second = (taken(with_disk(root, name)) for name in ("one", "two"))
    assert first.blocks != second.blocks
    for path in (root, first.directory, first.blocks):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert list(first.blocks.iterdir()) == []


async def test_it_is_gone_with_its_replica_and_nobody_elses(root: Path) -> None:
    first, second = (taken(with_disk(root, name)) for name in ("one", "two"))
    (first.blocks / "block").write_bytes(b"x")
    assert await first.give_back(SystemClock())
    assert os.listdir(root) == [second.directory.name]


def test_what_a_killed_host_left_is_swept_by_the_next_one(root: Path) -> None:
    left = taken(with_disk(root, "one", below="nvme0"))
    os.close(left.lock)
    interrupted = root / "three.prefixes.left"  # a sweep that was killed
    interrupted.mkdir()
    stranger = root / "notes"
    stranger.mkdir()
    place = taken(with_disk(root, "two"))
    assert sorted(root.iterdir()) == [root / "notes", root / "nvme0", place.directory]
    assert list((root / "nvme0").iterdir()) == []


def test_a_sweep_where_no_prefixes_are_kept_does_nothing(root: Path) -> None:
    assert sweep_prefixes(None) == 0
    assert sweep_prefixes(root) == 0
    assert not root.exists()


@pytest.mark.parametrize("path", ["/elsewhere", "{root}/../other", "{root}/a/b/c/d"])
def test_a_place_that_is_not_the_planes_is_refused(root: Path, path: str) -> None:
    spec = with_disk(root, "one")
    caching = PrefixCaching(disk_path="/x", disk_bytes=MIB)
    object.__setattr__(caching, "disk_path", path.format(root=root))
    spec = replace(spec, engine=replace(spec.engine, prefix_caching=caching))
    with pytest.raises(InvalidInput, match="prefix_disk_dir"):
        take_place(spec)
    with pytest.raises(InvalidInput, match="of which it has none"):
        take_place(replace(spec, prefix_disk_dir=None))


def test_a_link_does_not_lead_out_of_the_planes_directory(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="prefix_disk_dir"):
        take_place(with_disk(root, "one", below="out"))


def test_too_little_room_is_told_with_what_there_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_disk, "FREE_BYTES_MIN", 0)
    root.mkdir()
    told = os.statvfs(root)
    free = told.f_bavail * told.f_frsize
    with pytest.raises(Exhausted, match=r"too little room .* lower prefixCaching\.disk"):
        take_place(with_disk(root, "large", disk_bytes=2 * free))
    assert list(root.iterdir()) == []
    # What is promised to one is not there for the next, written or not.
    first = taken(with_disk(root, "first", disk_bytes=free * 2 // 3))
    with pytest.raises(Exhausted, match="promised to other replicas"):
        take_place(with_disk(root, "second", disk_bytes=free * 2 // 3))
    os.close(first.lock)
    assert take_place(with_disk(root, "second", disk_bytes=free * 2 // 3)) is not None


def test_what_is_written_already_is_promised_no_more(root: Path) -> None:
    place = taken(with_disk(root, "one", disk_bytes=3 * MIB))
    (place.blocks / "rank-0").mkdir()
    (place.blocks / "rank-0" / "block").write_bytes(os.urandom(MIB))
    assert prefix_disk._promised_bytes(root, root) == 2 * MIB


def test_a_place_that_cannot_be_made_says_what_to_do(root: Path) -> None:
    root.write_text("in the way")
    with pytest.raises(Unavailable, match="leave diskPath out"):
        take_place(with_disk(root, "one"))


def test_the_next_engine_of_a_replica_finds_nothing_of_the_last(root: Path) -> None:
    place = taken(with_disk(root, "one"))
    (place.blocks / "block").write_bytes(b"x")
    place.empty()
    assert list(place.blocks.iterdir()) == []
    assert stat.S_IMODE(place.blocks.stat().st_mode) == 0o700


def test_the_simulated_engine_needs_no_place(root: Path) -> None:
    spec = with_disk(root, "one")
    engine = EngineSpec(name=EngineName.SIMULATED, prefix_caching=spec.engine.prefix_caching)
    assert take_place(replace(spec, engine=engine)) is None
    assert take_place(a_spec(root.parent)) is None
    assert not root.exists()
