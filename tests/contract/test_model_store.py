"""The store of base models: one writer for each part, and none for what was verified."""

import asyncio
import hashlib
import os
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from workload_plane.models.download import FetchTools, FileFetch
from workload_plane.models.limits import FetchLimits
from workload_plane.models.port import Body, Listing, RemoteFile
from workload_plane.models.store import ModelStore, PartialFile
from workload_plane.models.uris import ModelUri

DATA = b"weights" * 100
SHA256 = hashlib.sha256(DATA).hexdigest()
FILE = RemoteFile(path="m.gguf", size_bytes=len(DATA), etag='"1"', locator="https://h/m.gguf")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    store.prepare()
    return store


def test_a_second_writer_of_a_part_is_refused_while_the_first_is_there(store: ModelStore) -> None:
    first = store.begin("key", FILE)
    with pytest.raises(BlockingIOError):
        store.begin("key", FILE)
    first.append(DATA)
    first.finish(SHA256)
    first.close()
    assert (store.root / "blobs" / SHA256).read_bytes() == DATA


def test_a_part_that_became_a_blob_before_a_crash_is_never_written_again(
    store: ModelStore,
) -> None:
    part = store.begin("key", FILE)
    part.append(DATA)
    part.sync()
    part.close()
    # As a kill in the midst of taking it over leaves it.
    os.chmod(part.path, 0o444)
    blob = store.root / "blobs" / SHA256
    os.link(part.path, blob)
    again = store.begin("key", FILE)
    again.append(b"other bytes")
    again.close()
    assert blob.read_bytes() == DATA


def test_a_part_that_was_made_read_only_before_a_crash_goes_on(store: ModelStore) -> None:
    part = store.begin("key", FILE)
    part.append(DATA)
    part.sync()
    part.close()
    os.chmod(part.path, 0o444)
    again = store.begin("key", FILE)
    assert again.size_bytes == len(DATA)
    while again.read_back():
        pass
    again.finish(again.digest())
    again.close()
    assert (store.root / "blobs" / SHA256).read_bytes() == DATA


def test_a_part_that_is_a_link_is_not_followed(store: ModelStore, tmp_path: Path) -> None:
    part = store.begin("key", FILE)
    part.close()
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    part.path.unlink()
    part.path.symlink_to(outside)
    again = store.begin("key", FILE)
    again.append(DATA)
    again.close()
    assert outside.read_bytes() == b"not ours"


class NoSource:
    """A source that is never asked."""

    async def list_files(self, uri: ModelUri, revision: str) -> Listing:
        raise AssertionError("asked")

    def open(self, file: RemoteFile, offset: int) -> AbstractAsyncContextManager[Body]:
        raise AssertionError("asked")


async def test_a_download_given_up_while_its_part_is_opened_leaves_it_to_the_next(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, opening, go_on, closed = SystemClock(), threading.Event(), threading.Event(), []
    begin, close = ModelStore.begin, PartialFile.close

    def slow(self: ModelStore, key: str, file: RemoteFile) -> PartialFile:
        opening.set()
        assert go_on.wait(5)
        return begin(self, key, file)

    def noted(self: PartialFile) -> None:
        close(self)
        closed.append(self.path)

    monkeypatch.setattr(ModelStore, "begin", slow)
    monkeypatch.setattr(PartialFile, "close", noted)
    tools = FetchTools(
        store=store, limits=FetchLimits(), free_bytes_min=0, clock=clock, ids=SystemIds(clock)
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(FileFetch(tools, NoSource(), "key", FILE.locator, FILE).run())
        assert await asyncio.to_thread(opening.wait, 5)
        task.cancel()
    go_on.set()
    async with asyncio.timeout(5):
        while not closed:
            await clock.sleep(0.01)
    begin(store, "key", FILE).close()
