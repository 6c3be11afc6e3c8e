"""What lies on the machine is started only with the content that is asked for."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.fleet.digests import split_digest
from skerry.plumbing.errors import Corrupt, Infeasible, NotFound, Unavailable
from tests.fakes.clock import FakeClock
from workload_plane.models import local_checks
from workload_plane.models.limits import DISK_SECONDS_MAX
from workload_plane.models.local_checks import LocalChecks
from workload_plane.models.sources import BaseModelFile, resolve

WEIGHTS = hashlib.sha256(b"weights").hexdigest()
URI = f"builtin://tiny#sha256={WEIGHTS}"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "tiny.gguf").write_bytes(b"weights")
    return tmp_path


@pytest_asyncio.fixture
async def wake() -> asyncio.Event:
    return asyncio.Event()


@pytest_asyncio.fixture
async def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def checks(models: Path, wake: asyncio.Event, clock: FakeClock) -> AsyncIterator[LocalChecks]:
    found = LocalChecks((models,), wake, clock)
    yield found
    found.close()


async def until_read(checks: LocalChecks, wake: asyncio.Event, uri: str) -> None:
    # What was found before stands until the next look has ended, as between two turns of the loop.
    async with asyncio.timeout(20):
        checks.want([uri])
        await asyncio.wrap_future(checks._looks[uri].seen)
        while checks.waits([uri]):
            await wake.wait()
            wake.clear()


async def test_nothing_is_started_before_its_content_is_known(
    checks: LocalChecks, wake: asyncio.Event
) -> None:
    with pytest.raises(Unavailable, match="not known yet"):
        checks.path(URI)
    checks.want([URI])
    assert checks.waits([URI]) == "looking for builtin://tiny on the disk"
    await until_read(checks, wake, URI)
    checks.path(URI)
    assert checks.waits(["builtin://tiny", URI]) == ""


async def test_another_content_is_refused_with_both_digests(
    checks: LocalChecks, wake: asyncio.Event
) -> None:
    other = f"builtin://tiny#sha256={'ab' * 32}"
    await until_read(checks, wake, other)
    with pytest.raises(Corrupt, match=f"builtin://tiny has the SHA-256 {WEIGHTS}, not abab"):
        checks.path(other)


async def test_what_asks_for_no_content_is_not_read(
    checks: LocalChecks, wake: asyncio.Event, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, given_up: object) -> str:
        raise AssertionError("read")

    monkeypatch.setattr(local_checks, "_file_digest", refuse)
    await until_read(checks, wake, "builtin://tiny")
    assert checks.path("builtin://tiny") == models / "tiny.gguf"
    nothing = "simulated://x#sha256=" + WEIGHTS
    await until_read(checks, wake, nothing)
    assert checks.path(nothing) is None


async def test_a_disk_that_hangs_keeps_its_own_starts_and_no_turn(
    checks: LocalChecks,
    wake: asyncio.Event,
    clock: FakeClock,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await until_read(checks, wake, URI)
    hangs, go_on = threading.Event(), threading.Event()

    def hang(uri: str, model_dirs: Sequence[Path], *, allow_pickle: bool) -> BaseModelFile:
        if "other" not in uri:
            hangs.set()
            assert go_on.wait(20)
        return resolve(uri, model_dirs, allow_pickle=allow_pickle)

    monkeypatch.setattr(local_checks, "resolve", hang)
    (models / "new.gguf").write_bytes(b"new")
    try:
        for _ in range(3):  # turns of the convergence loop
            checks.want([URI, "builtin://new"])
        assert await asyncio.to_thread(hangs.wait, 20)
        checks.want([URI, "builtin://new"])
        assert checks.waits([URI]) == ""
        assert checks.path(URI) == models / "tiny.gguf"
        assert checks.waits(["builtin://new"]) == "looking for builtin://new on the disk"
        # From then on nothing that is there is started from it: its start would only hang, too.
        clock.advance(DISK_SECONDS_MAX + 1)
        for uri in (URI, "builtin://new"):
            assert checks.waits([uri]) == f"the disk of {split_digest(uri)[0]} does not answer"
            with pytest.raises(Unavailable, match="its disk does not answer"):
                checks.path(uri)
        # What lies elsewhere is found meanwhile.
        (models / "other.gguf").write_bytes(b"other")
        await until_read(checks, wake, "builtin://other")
        assert checks.path("builtin://other") == models / "other.gguf"
    finally:
        go_on.set()
    await until_read(checks, wake, "builtin://new")
    assert checks.path("builtin://new") == models / "new.gguf"


async def test_a_file_that_was_written_since_is_read_anew(
    checks: LocalChecks, wake: asyncio.Event, models: Path
) -> None:
    await until_read(checks, wake, URI)
    (models / "tiny.gguf").write_bytes(b"weighty")
    os.utime(models / "tiny.gguf", ns=(1, 1))
    await until_read(checks, wake, URI)
    with pytest.raises(Corrupt):
        checks.path(URI)


async def test_a_directory_has_the_digest_that_the_manual_computes(
    checks: LocalChecks, wake: asyncio.Event, models: Path
) -> None:
    folder = models / "llama"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "sub" / "config.json").write_bytes(b"{}")
    empty = hashlib.sha256(b"{}").hexdigest()
    told = f"{WEIGHTS}  model.safetensors\n{empty}  sub/config.json\n"
    uri = f"file://{folder}#sha256={hashlib.sha256(told.encode()).hexdigest()}"
    await until_read(checks, wake, uri)
    checks.path(uri)


async def test_what_is_not_there_is_told_as_ever(checks: LocalChecks, wake: asyncio.Event) -> None:
    gone = f"builtin://gone#sha256={WEIGHTS}"
    await until_read(checks, wake, gone)
    with pytest.raises(NotFound, match="put it there"):
        checks.path(gone)


async def test_what_can_no_more_be_read_is_told_with_the_reason(
    checks: LocalChecks, wake: asyncio.Event, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, given_up: object) -> str:
        raise OSError(5, "Input/output error", name)

    monkeypatch.setattr(local_checks, "_file_digest", refuse)
    await until_read(checks, wake, URI)
    with pytest.raises(Infeasible, match="Input/output error"):
        checks.path(URI)


async def test_what_a_base_model_says_of_its_weights_is_read_once_for_each_content(
    checks: LocalChecks, wake: asyncio.Event, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {b"weights": "q8_0", b"weighty": "q4_0"}
    read: list[bytes] = []

    def word(path: Path) -> str:
        read.append(path.read_bytes())
        return said[read[-1]]

    monkeypatch.setattr(local_checks, "held_weights", word)
    assert checks.weights(URI) is None
    for _ in range(3):
        await until_read(checks, wake, URI)
    assert (checks.weights(URI), read) == ("q8_0", [b"weights"])
    (models / "tiny.gguf").write_bytes(b"weighty")
    os.utime(models / "tiny.gguf", ns=(1, 1))
    await until_read(checks, wake, URI)
    assert (checks.weights(URI), read) == ("q4_0", [b"weights", b"weighty"])
