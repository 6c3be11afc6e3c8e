"""The base-model cache with a real disk and a real server: once, whole, and no more than it may."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.plumbing.errors import (
    Conflict,
    Corrupt,
    Denied,
    Exhausted,
    NotFound,
    Unavailable,
)
from skerry.plumbing.ids import SystemIds
from tests.contract.model_cache_world import (
    CLOCK,
    LIMITS,
    SIZE,
    Plane,
    hasty_settings,
    running,
    serving_five,
    weights,
)
from tests.contract.model_servers import Fault, ModelServer
from workload_plane.models import cache as cache_module
from workload_plane.models.cache import ModelCache
from workload_plane.models.limits import CacheSettings
from workload_plane.models.store import ModelStore, tree_digest
from workload_plane.models.wanted import WantedModel

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CacheSettings:
    return hasty_settings(tmp_path, monkeypatch)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with serving_five() as server:
        yield server


@pytest.fixture
async def plane(server: ModelServer, settings: CacheSettings) -> AsyncIterator[Plane]:
    async with running(server, settings) as plane:
        yield plane


async def test_a_wanted_model_comes_and_is_kept_by_its_content(plane: Plane) -> None:
    (path,) = await plane.fetch("m1.gguf")
    assert path.read_bytes() == weights(1)
    assert path.name == "m1.gguf"
    blob = plane.settings.directory / "blobs" / hashlib.sha256(weights(1)).hexdigest()
    assert blob.samefile(path)
    assert not os.access(path, os.W_OK) or os.geteuid() == 0
    assert not list((plane.settings.directory / "partial").iterdir())


async def test_two_replicas_that_want_one_model_download_it_once(plane: Plane) -> None:
    await plane.fetch("m1.gguf")
    for _ in range(3):
        plane.want("m1.gguf", due=False)
        await plane.fetch("m1.gguf")
    # One answer for the listing, one for the file.
    assert len(plane.server.gets("m1.gguf")) == 2


async def test_what_is_here_is_found_again_without_asking_anybody(
    plane: Plane, server: ModelServer
) -> None:
    before = await plane.fetch("m1.gguf")
    server.asked.clear()
    await plane.end()
    async with running(server, plane.settings) as again:
        assert await again.fetch("m1.gguf") == before
    assert server.asked == []


async def test_one_content_by_two_names_lies_on_the_disk_once(plane: Plane) -> None:
    plane.server.files["copy.gguf"] = weights(1)
    first, second = await plane.fetch("m1.gguf", "copy.gguf")
    assert first != second
    assert first.samefile(second)


async def test_progress_is_told_while_it_comes_and_others_go_on(plane: Plane) -> None:
    plane.server.faults.append(Fault.SLOW)
    plane.server.files["slow.gguf"] = weights(9, 3_000_000)
    uri = plane.uri("slow.gguf")
    plane.cache.want((WantedModel(uri=uri, due=True),))
    # The listing meets the fault first; the download has to meet it, too.
    plane.server.faults.append(Fault.SLOW)
    await plane.until(lambda: "downloading 1.5 of 3.0 MB" in plane.cache.waits([uri]))
    assert plane.cache.waits([uri]).endswith(f"MB/s) from {uri}")
    other = plane.uri("m2.gguf")
    plane.cache.want((WantedModel(uri=uri, due=True), WantedModel(uri=other, due=True)))
    await plane.settle("m2.gguf")
    assert plane.cache.path(other).read_bytes() == weights(2)
    assert plane.cache.waits([uri])
    plane.server.release.set()
    await plane.settle("slow.gguf")
    assert plane.cache.path(uri).read_bytes() == weights(9, 3_000_000)


async def test_what_is_due_does_not_wait_for_what_is_fetched_ahead(plane: Plane) -> None:
    plane.server.faults.extend([Fault.SLOW] * 4)
    ahead = [WantedModel(uri=plane.uri(f"m{i}.gguf"), due=False) for i in (1, 2)]
    plane.cache.want(tuple(ahead))
    await plane.until(lambda: len(plane.server.asked) >= 4)
    due = WantedModel(uri=plane.uri("m3.gguf"), due=True)
    plane.cache.want((due, *ahead))
    await plane.settle("m3.gguf")
    assert plane.cache.path(due.uri).read_bytes() == weights(3)
    plane.server.release.set()
    await plane.settle("m1.gguf", "m2.gguf")


async def test_a_given_up_download_goes_on_from_where_it_was(plane: Plane) -> None:
    plane.server.faults.extend([Fault.SLOW, Fault.SLOW])
    plane.want("m1.gguf")
    uri = plane.uri("m1.gguf")
    await plane.until(lambda: "0.2 of 0.4 MB" in plane.cache.waits([uri]))
    plane.want()
    await plane.until(lambda: not plane.cache._tasks)
    (path,) = await plane.fetch("m1.gguf")
    assert path.read_bytes() == weights(1)
    assert plane.server.gets("m1.gguf")[-1] == f"bytes={SIZE // 2}-"


async def test_a_download_that_goes_on_mixes_no_two_files(plane: Plane) -> None:
    plane.server.faults.extend([Fault.SLOW, Fault.SLOW])
    plane.want("m1.gguf")
    uri = plane.uri("m1.gguf")
    await plane.until(lambda: "0.2 of 0.4 MB" in plane.cache.waits([uri]))
    plane.want()
    await plane.until(lambda: not plane.cache._tasks)
    plane.server.files["m1.gguf"] = weights(77)  # of the same length
    (path,) = await plane.fetch("m1.gguf")
    assert path.read_bytes() == weights(77)


async def test_what_is_absent_is_told_and_tried_again(plane: Plane) -> None:
    plane.want("late.gguf")
    await plane.settle("late.gguf")
    with pytest.raises(NotFound, match="correct the base model's URI"):
        plane.cache.path(plane.uri("late.gguf"))
    plane.server.files["late.gguf"] = weights(7)

    def is_here() -> bool:
        try:
            return plane.cache.path(plane.uri("late.gguf")).is_file()
        except Exception:
            return False

    await plane.until(is_here)


async def test_a_digest_in_the_uri_is_kept_to(plane: Plane) -> None:
    right = plane.uri("m1.gguf") + f"#sha256={hashlib.sha256(weights(1)).hexdigest()}"
    wrong = plane.uri("m1.gguf") + f"#sha256={'0' * 64}"
    plane.cache.want((WantedModel(uri=right, due=True), WantedModel(uri=wrong, due=True)))
    await plane.until(lambda: not plane.cache.waits([right, wrong]))
    assert plane.cache.path(right).read_bytes() == weights(1)
    with pytest.raises(Corrupt, match="nothing of it is used"):
        plane.cache.path(wrong)


async def test_a_uri_keeps_the_content_that_came_first(plane: Plane) -> None:
    settings = replace(plane.settings, bytes_max=int(SIZE * 1.5))
    await plane.end()
    async with running(plane.server, settings) as small:
        await small.fetch("m1.gguf")
        await small.fetch("m2.gguf")  # the first one gives way
        plane.server.files["m1.gguf"] = weights(99)
        small.want("m1.gguf")
        await small.settle("m1.gguf")
        with pytest.raises(Corrupt, match=r"pins/.*\.json|nothing of it is used"):
            small.cache.path(small.uri("m1.gguf"))
        plane.server.files["m1.gguf"] = weights(1)
        await small.until(lambda: bool(small.cache.waits([small.uri("m1.gguf")])))
        await small.settle("m1.gguf")
        assert small.cache.path(small.uri("m1.gguf")).read_bytes() == weights(1)


async def test_the_least_recently_used_gives_way_and_what_runs_never_does(
    plane: Plane, tmp_path: Path
) -> None:
    settings = replace(plane.settings, bytes_max=3 * SIZE)
    await plane.end()
    async with running(plane.server, settings) as small:
        trees = {}
        for age, name in enumerate(("m0.gguf", "m1.gguf", "m2.gguf")):
            (path,) = await small.fetch(name)
            trees[name] = path
            for pin in (settings.directory / "pins").iterdir():
                if name in pin.read_text():
                    os.utime(pin, (1_000 + age, 1_000 + age))
        await small.fetch("m0.gguf")
        await small.cache.hold("demo-r1-abc", [small.uri("m0.gguf")])
        os.utime(
            next(p for p in (settings.directory / "pins").iterdir() if "m0.gguf" in p.read_text()),
            (1, 1),
        )
        await small.fetch("m3.gguf")
        there = {name for name, path in trees.items() if path.exists()}
        assert there == {"m0.gguf", "m2.gguf"}
        blobs = sum(p.stat().st_size for p in (settings.directory / "blobs").iterdir())
        assert blobs <= 3 * SIZE
        small.cache.keep_for(frozenset())
        await small.fetch("m3.gguf", "m4.gguf")
        assert not trees["m2.gguf"].exists() or not trees["m0.gguf"].exists()


async def test_what_is_fetched_ahead_gives_way_for_what_is_due_and_not_otherwise(
    plane: Plane,
) -> None:
    settings = replace(plane.settings, bytes_max=2 * SIZE)
    await plane.end()
    async with running(plane.server, settings) as small:
        (first,) = await small.fetch("m0.gguf")
        ahead = [WantedModel(uri=small.uri(name), due=False) for name in ("m1.gguf", "m2.gguf")]
        here = WantedModel(uri=small.uri("m0.gguf"), due=True)
        small.cache.want((here, ahead[0]))
        await small.settle("m1.gguf")
        second = small.cache.path(ahead[0].uri)
        small.cache.want((here, *ahead))
        await small.settle("m2.gguf")
        with pytest.raises(Exhausted):
            small.cache.path(ahead[1].uri)
        assert first.exists()
        assert second.exists()
        due = WantedModel(uri=small.uri("m3.gguf"), due=True)
        small.cache.want((here, due, *ahead))
        await small.until(lambda: not small.cache.waits([due.uri]))
        assert small.cache.path(due.uri).read_bytes() == weights(3)
        assert first.exists()
        assert not second.exists()


async def test_a_run_that_is_ended_while_it_takes_the_directory_leaves_it_to_the_next(
    plane: Plane,
) -> None:
    await plane.end()
    for _ in range(20):
        cache = ModelCache(plane.settings, {}, asyncio.Event(), CLOCK, SystemIds(CLOCK), LIMITS)
        run = asyncio.ensure_future(cache.run())  # noqa: TID251
        await asyncio.sleep(0)  # noqa: TID251  (until it waits for the disk, not for longer)
        run.cancel()
        await asyncio.wait([run])
        assert run.cancelled()
    async with running(plane.server, plane.settings) as last:
        await last.fetch("m1.gguf")


async def test_what_does_not_fit_evicts_nothing_and_says_what_lacks(plane: Plane) -> None:
    settings = replace(plane.settings, bytes_max=SIZE + 10)
    await plane.end()
    async with running(plane.server, settings) as small:
        (path,) = await small.fetch("m1.gguf")
        plane.server.files["big.gguf"] = weights(50, 3 * SIZE)
        small.want("big.gguf")
        await small.settle("big.gguf")
        with pytest.raises(Exhausted, match=r"needs 1\.2 MB and 0\.8 MB are lacking"):
            small.cache.path(small.uri("big.gguf"))
        assert path.exists()


async def test_the_disk_keeps_what_the_settings_reserve(plane: Plane) -> None:
    settings = replace(plane.settings, free_bytes_min=1 << 60)
    await plane.end()
    async with running(plane.server, settings) as full:
        full.want("m1.gguf")
        await full.settle("m1.gguf")
        with pytest.raises(Exhausted, match="are lacking"):
            full.cache.path(full.uri("m1.gguf"))


async def test_a_directory_of_another_plane_is_left_alone_and_told(plane: Plane) -> None:
    await plane.fetch("m1.gguf")
    await plane.cache.hold("first-r1-abc", [plane.uri("m1.gguf")])
    uses = plane.settings.directory / "uses"
    other = ModelCache(plane.settings, {}, asyncio.Event(), CLOCK, SystemIds(CLOCK), LIMITS)
    uri = plane.uri("m1.gguf")
    other.want((WantedModel(uri=uri, due=True),))
    other.keep_for(frozenset({"second-r1-abc"}))
    with pytest.raises(Conflict, match=r"model_cache\.directory of its own"):
        await other.run()
    assert f"process {os.getpid()}; give each plane" in other.waits([uri])
    with pytest.raises(Unavailable):
        await other.hold("second-r1-abc", [uri])
    assert [path.name.partition(".")[0] for path in uses.iterdir()] == ["first-r1-abc"]
    await plane.end()
    async with running(plane.server, plane.settings) as again:  # the first one's end frees it
        await again.fetch("m1.gguf")


async def test_a_disk_that_hangs_keeps_starts_and_nothing_else(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.fetch("m1.gguf")
    hangs, go_on = threading.Event(), threading.Event()
    there = cache_module._is_there

    def hang(path: Path) -> bool:
        hangs.set()
        assert go_on.wait(20)
        return there(path)

    monkeypatch.setattr(cache_module, "DISK_SECONDS_MAX", 0.2)
    monkeypatch.setattr(cache_module, "_is_there", hang)
    uri = plane.uri("m1.gguf")
    try:
        assert await asyncio.to_thread(hangs.wait, 20)
        # Each of these is called on every turn of the convergence loop.
        await plane.until(lambda: "does not answer" in plane.cache.waits([uri]))
        plane.cache.want((WantedModel(uri=uri, due=False),))
        plane.cache.keep_for(frozenset({"a-r1-abc"}))
        with pytest.raises(Unavailable, match="not answered within"):
            await plane.cache.hold("b-r1-abc", [uri])
    finally:
        go_on.set()
    await plane.settle("m1.gguf")
    await plane.cache.hold("b-r1-abc", [uri])


async def test_an_end_that_could_not_be_noted_is_noted_later(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.fetch("m1.gguf")
    await plane.cache.hold("a-r1-abc", [plane.uri("m1.gguf")])
    failed: list[bool] = []
    release = ModelStore.release

    def fail_once(self: ModelStore, is_over: Callable[[str], bool]) -> None:
        if not failed:
            failed.append(True)
            raise OSError(28, "No space left on device")
        release(self, is_over)

    monkeypatch.setattr(ModelStore, "release", fail_once)
    plane.cache.keep_for(frozenset({"b-r1-abc"}))
    uses = plane.settings.directory / "uses"
    await plane.until(lambda: not list(uses.iterdir()))
    assert failed == [True]


async def test_what_goes_from_the_disk_is_fetched_again(plane: Plane) -> None:
    (path,) = await plane.fetch("m1.gguf")
    plane.cache._store.evict([path.parent.name])
    await plane.until(lambda: len(plane.server.gets("m1.gguf")) == 4)
    await plane.settle("m1.gguf")
    assert plane.cache.path(plane.uri("m1.gguf")).read_bytes() == weights(1)


async def test_other_schemes_and_pickles_are_refused_with_the_remedy(plane: Plane) -> None:
    plane.server.files["old.bin"] = b"pickle"
    for uri, remedy in (
        ("s3://bucket/x.gguf", "model_cache.schemes"),
        (plane.uri("old.bin"), "model_cache.allow_pickle"),
    ):
        plane.cache.want((WantedModel(uri=uri, due=True),))
        await plane.until(lambda uri=uri: not plane.cache.waits([uri]))  # type: ignore[misc]
        with pytest.raises(Denied, match=remedy):
            plane.cache.path(uri)


async def test_a_hubs_model_is_a_directory_without_its_pickles(
    server: ModelServer, settings: CacheSettings
) -> None:
    server.files = {
        "config.json": b"{}",
        "model.safetensors": weights(1),
        "pytorch_model.bin": weights(2),
        "modeling_custom.py": b"print()",
        "original/consolidated.00.pth": weights(3),
    }
    uri = "hf://org/model@v1"
    async with running(server, replace(settings, hub_endpoint=server.url)) as plane:
        plane.cache.want((WantedModel(uri=uri, due=True),))
        await plane.until(lambda: not plane.cache.waits([uri]))
        path = plane.cache.path(uri)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))
    assert names == ["config.json", "model.safetensors"]
    pin = plane.cache._store.pin(next((settings.directory / "pins").iterdir()).stem)
    assert pin is not None
    assert (pin.revision, tree_digest(pin.files)) == ("a" * 40, path.name)


async def test_a_directory_keeps_the_files_that_came_first(
    server: ModelServer, settings: CacheSettings
) -> None:
    server.files = {"config.json": b"{}", "model.safetensors": weights(1)}
    wanted = (WantedModel(uri="hf://org/model", due=True),)
    hub = replace(settings, hub_endpoint=server.url)
    async with running(server, hub) as plane:
        plane.cache.want(wanted)
        await plane.until(lambda: not plane.cache.waits(["hf://org/model"]))
        tree = plane.cache.path("hf://org/model")
    plane.cache._store.evict([tree.name])
    server.files["model-2.safetensors"] = weights(2)
    async with running(server, hub) as plane:
        plane.cache.want(wanted)
        await plane.until(lambda: not plane.cache.waits(["hf://org/model"]))
        with pytest.raises(Corrupt, match="is no more what it was when this plane first fetched"):
            plane.cache.path("hf://org/model")
    assert not tree.exists()


async def test_a_damaged_pin_is_told_and_not_overruled(plane: Plane) -> None:
    await plane.fetch("m1.gguf")
    (pin,) = (plane.settings.directory / "pins").iterdir()
    pin.write_bytes(pin.read_bytes()[:-20])
    await plane.end()
    async with running(plane.server, plane.settings) as again:
        again.want("m1.gguf")
        await again.settle("m1.gguf")
        with pytest.raises(Corrupt, match="remove it to pin anew"):
            again.cache.path(again.uri("m1.gguf"))


async def test_a_directory_that_cannot_be_used_is_told_and_stops_nothing(
    server: ModelServer, settings: CacheSettings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    broken = replace(settings, directory=tmp_path / "file" / "models")
    cache = ModelCache(broken, {}, asyncio.Event(), CLOCK, SystemIds(CLOCK), LIMITS)
    cache.want((WantedModel(uri="http://x/y.gguf", due=True),))
    with pytest.raises(OSError):
        await cache.run()
    assert "can't be used for base models" in cache.waits(["http://x/y.gguf"])
    cache.keep_for(frozenset())
