"""A download of the base-model cache that is killed, or whose disk is full, loses nothing."""

import asyncio
import contextlib
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.plumbing.errors import Exhausted
from tests.contract.model_cache_world import (
    CLOCK,
    SIZE,
    hasty_settings,
    read,
    running,
    serving_five,
    weights,
)
from tests.contract.model_servers import Fault, ModelServer
from workload_plane.models.limits import CacheSettings

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CacheSettings:
    return hasty_settings(tmp_path, monkeypatch)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with serving_five() as server:
        yield server


async def run_fetcher(directory: Path, uri: str, file_bytes_max: int | None = None) -> str:
    process = await start_fetcher(directory, uri, file_bytes_max)
    output, _ = await process.communicate()
    return output.decode().strip().splitlines()[-1]


async def start_fetcher(
    directory: Path, uri: str, file_bytes_max: int | None = None
) -> asyncio.subprocess.Process:
    def limit() -> None:
        if file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contract.model_fetcher",
        str(directory),
        uri,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=limit,
    )


async def test_a_killed_download_goes_on_and_was_never_a_base_model(
    server: ModelServer, tmp_path: Path
) -> None:
    directory, uri = tmp_path / "models", f"{server.url}/files/m1.gguf"
    server.faults.extend([Fault.SLOW, Fault.SLOW])
    process = await start_fetcher(directory, uri)
    async with asyncio.timeout(30):
        while not any(f.stat().st_size >= SIZE // 2 for f in directory.rglob("*.part")):
            await CLOCK.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert not list((directory / "trees").iterdir())
    assert not list((directory / "blobs").iterdir())
    assert read(await run_fetcher(directory, uri)) == weights(1)
    (asked,) = [r for r in server.gets("m1.gguf") if r]
    assert 0 < int(asked.removeprefix("bytes=").removesuffix("-")) <= SIZE // 2


async def test_a_full_disk_keeps_what_came_and_says_so(server: ModelServer, tmp_path: Path) -> None:
    directory, uri = tmp_path / "models", f"{server.url}/files/m1.gguf"
    line = await run_fetcher(directory, uri, file_bytes_max=SIZE // 2)
    assert line.startswith("FAILED")
    assert "what came is kept; free some space" in line
    (part,) = directory.rglob("*.part")
    assert part.stat().st_size == SIZE // 2
    assert not list((directory / "trees").iterdir())
    assert read(await run_fetcher(directory, uri)) == weights(1)
    assert server.gets("m1.gguf")[-1] == f"bytes={SIZE // 2}-"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount(8) here: what a full disk does to a download was not tried")
    if done.returncode:
        why = done.stderr.decode().strip()
        pytest.skip(f"may not mount, so a full disk was not tried: {why}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_disk_that_fills_up_meanwhile_keeps_what_came_and_goes_on(
    server: ModelServer, settings: CacheSettings, small_disk: Path
) -> None:
    server.files["big.gguf"] = weights(60, 1_200_000)
    there = replace(settings, directory=small_disk / "models")
    async with running(server, there) as plane:
        (small,) = await plane.fetch("m1.gguf")
        server.faults.extend([Fault.SLOW, Fault.SLOW])
        plane.want("m1.gguf", "big.gguf")
        uri = plane.uri("big.gguf")
        await plane.until(lambda: "0.6 of 1.2 MB" in plane.cache.waits([uri]))
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while file.write(bytes(4096)):
                file.flush()
        server.release.set()
        await plane.settle("big.gguf")
        with pytest.raises(Exhausted, match="free some space"):
            plane.cache.path(uri)
        assert small.read_bytes() == weights(1)
        (part,) = (small_disk / "models").rglob("*.part")
        assert part.stat().st_size >= 500_000
        filler.unlink()
        await plane.until(lambda: bool(plane.cache.waits([uri])))
        await plane.settle("big.gguf")
        assert plane.cache.path(uri).read_bytes() == weights(60, 1_200_000)
        assert server.gets("big.gguf")[-1].startswith("bytes=")
