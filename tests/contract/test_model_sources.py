"""What every source of base models keeps to, against servers that misbehave; and what each adds."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Conflict, Corrupt, Denied, NotFound, Unavailable
from skerry.plumbing.ids import SystemIds
from tests.contract.model_servers import COMMIT, Fault, ModelServer, serving
from workload_plane.models import download, http_fetch
from workload_plane.models.download import FetchTools, FileFetch
from workload_plane.models.http_fetch import HttpRules
from workload_plane.models.limits import CacheSettings, FetchLimits
from workload_plane.models.port import Listing, RemoteFile, Source
from workload_plane.models.remote import model_session, sources
from workload_plane.models.store import ModelStore
from workload_plane.models.uris import parse_uri

pytestmark = pytest.mark.integration

WEIGHTS = bytes(range(256)) * 1_000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
NAME = "tiny.gguf"
LIMITS = FetchLimits(stall_seconds=0.5, tries_max=3, sync_bytes=10_000, write_bytes=1_000)


@dataclass
class Place:
    """One source with its server, and the URI of one file there."""

    scheme: str
    server: ModelServer
    source: Source
    uri: str
    directory_uri: str = ""

    async def listing(self) -> Listing:
        return await self.source.list_files(parse_uri(self.uri), "")

    async def file(self) -> RemoteFile:
        (file,) = (await self.listing()).files
        return file


@pytest.fixture(params=["http", "hf", "s3", "gs"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    async with serving(ModelServer(files={NAME: WEIGHTS})) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("GOOGLE_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
        settings = CacheSettings(
            directory=tmp_path, allow_private_addresses=True, hub_endpoint=server.url
        )
        uris = {
            "http": (f"{server.url}/files/{NAME}", ""),
            "hf": (f"hf://org/model/{NAME}", "hf://org/model"),
            "s3": (f"s3://bucket/{NAME}", "s3://bucket/dir/"),
            "gs": (f"gs://bucket/{NAME}", "gs://bucket/dir/"),
        }
        scheme: str = request.param
        uri, directory_uri = uris[scheme]
        async with model_session(settings, LIMITS) as session:
            found = sources(settings, session, LIMITS)[scheme]
            yield Place(scheme, server, found, uri, directory_uri)


@pytest.fixture
def fetch(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Fetch":
    monkeypatch.setattr(download, "RETRY", replace(download.RETRY, initial_seconds=0.01))
    store = ModelStore(tmp_path / "models")
    store.prepare()
    clock = SystemClock()
    tools = FetchTools(
        store=store, limits=LIMITS, free_bytes_min=0, clock=clock, ids=SystemIds(clock)
    )
    return Fetch(place, tools)


@dataclass
class Fetch:
    place: Place
    tools: FetchTools

    async def __call__(self, file: RemoteFile | None = None) -> bytes:
        file = file or await self.place.file()
        done = await FileFetch(self.tools, self.place.source, "key", self.place.uri, file).run()
        blob = (self.tools.store.root / "blobs" / done.sha256).read_bytes()
        assert hashlib.sha256(blob).hexdigest() == done.sha256
        return blob


async def test_a_listing_tells_name_and_size(place: Place) -> None:
    file = await place.file()
    assert (file.path, file.size_bytes) == (NAME, len(WEIGHTS))


async def test_a_file_comes_whole_and_from_an_offset(place: Place) -> None:
    file = await place.file()
    for offset in (0, 1, 1_000, len(WEIGHTS) - 1):
        async with place.source.open(file, offset) as body:
            assert body.offset == offset
            assert b"".join([chunk async for chunk in body.chunks()]) == WEIGHTS[offset:]


async def test_a_file_that_is_absent_is_not_found(place: Place) -> None:
    place.server.files.clear()
    with pytest.raises(NotFound, match=r"correct the base model's URI|has no file"):
        await place.listing()


async def test_a_fetch_brings_the_file(fetch: Fetch) -> None:
    assert await fetch() == WEIGHTS


async def test_a_cut_connection_goes_on_where_it_was_cut(fetch: Fetch) -> None:
    file = await fetch.place.file()
    fetch.place.server.asked.clear()
    fetch.place.server.faults.extend([Fault.CUT, Fault.CUT])
    assert await fetch(file) == WEIGHTS
    ranges = fetch.place.server.gets(NAME)
    assert len(ranges) >= 3
    assert int(ranges[-1].removeprefix("bytes=").partition("-")[0]) >= len(WEIGHTS) // 2


# For buckets the library refuses such an answer by itself.
@pytest.mark.parametrize("place", ["http", "hf"], indirect=True)
async def test_a_source_that_ignores_the_range_is_begun_anew(fetch: Fetch) -> None:
    file = await fetch.place.file()
    fetch.place.server.faults.extend([Fault.CUT, Fault.IGNORE_RANGE])
    assert await fetch(file) == WEIGHTS


async def test_a_wrong_range_or_length_never_becomes_a_file(fetch: Fetch) -> None:
    file = await fetch.place.file()
    fetch.place.server.faults.extend([Fault.CUT, Fault.WRONG_RANGE, Fault.LONGER])
    assert await fetch(file) == WEIGHTS


async def test_a_busy_source_is_asked_again(fetch: Fetch) -> None:
    file = await fetch.place.file()
    fetch.place.server.faults.extend([Fault.BUSY, Fault.BUSY])
    assert await fetch(file) == WEIGHTS


async def test_a_source_that_stalls_is_given_up_and_asked_again(fetch: Fetch) -> None:
    file = await fetch.place.file()
    fetch.place.server.faults.append(Fault.STALL)
    assert await fetch(file) == WEIGHTS


async def test_a_source_that_never_answers_fails_in_the_end(fetch: Fetch) -> None:
    file = await fetch.place.file()
    fetch.place.server.faults.extend([Fault.BUSY] * 30)
    with pytest.raises(Unavailable):
        await fetch(file)


async def test_altered_bytes_are_fetched_once_more_and_then_refused(fetch: Fetch) -> None:
    file = replace(await fetch.place.file(), sha256=SHA256)
    fetch.place.server.faults.append(Fault.ALTERED)
    assert await fetch(file) == WEIGHTS
    other = replace(file, sha256="0" * 64)
    with pytest.raises(Corrupt, match="nothing of it is used"):
        await fetch(other)


async def test_what_changed_since_it_was_listed_is_noticed(place: Place) -> None:
    file = await place.file()
    place.server.files[NAME] = WEIGHTS + b"more"
    with pytest.raises((Conflict, Unavailable)):
        async with place.source.open(file, 0) as body:
            b"".join([chunk async for chunk in body.chunks()])


# Plain HTTP has no directories.
@pytest.mark.parametrize("place", ["hf", "s3", "gs"], indirect=True)
async def test_a_directory_is_listed_by_the_names_inside_it(place: Place) -> None:
    folder = "" if place.scheme == "hf" else "dir/"
    names = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    place.server.files = {f"{folder}{name}": name.encode() for name in names}
    place.server.page = 2
    found = await place.source.list_files(parse_uri(place.directory_uri), "")
    assert sorted(file.path for file in found.files) == names


# Of buckets alone.
@pytest.mark.parametrize("place", ["s3", "gs"], indirect=True)
async def test_checksums_beside_objects_are_taken(place: Place) -> None:
    place.server.files = {
        "dir/model.safetensors": WEIGHTS,
        "dir/SHA256SUMS": f"{SHA256} *model.safetensors\n".encode(),
    }
    found = await place.source.list_files(parse_uri(place.directory_uri), "")
    assert [(file.path, file.sha256) for file in found.files] == [("model.safetensors", SHA256)]


# Of the hub alone.
@pytest.mark.parametrize("place", ["hf"], indirect=True)
async def test_a_hub_tells_commit_and_digest_and_sees_its_token_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = await place.listing()
    assert (found.revision, found.files[0].sha256) == (COMMIT, SHA256)
    async with place.source.open(found.files[0], 0) as body:
        assert b"".join([chunk async for chunk in body.chunks()]) == WEIGHTS
    told = [headers.get("Authorization") for headers in place.server.headers]
    assert told[0] == "Bearer secret"
    assert told[-1] is None  # where the files are


# Of the hub alone.
async def test_a_token_that_the_hub_refuses_is_read_anew_where_it_is_said_to_be(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    file.chmod(0o600)
    uri = parse_uri("hf://org/model")
    async with serving(ModelServer(files={NAME: WEIGHTS}, token="new")) as server:
        settings = CacheSettings(
            directory=tmp_path,
            allow_private_addresses=True,
            hub_endpoint=server.url,
            hub_token=f"file:{file}",
        )
        async with model_session(settings, LIMITS) as session:
            hub = sources(settings, session, LIMITS)["hf"]
            with pytest.raises(Denied, match="refuses the plane"):
                await hub.list_files(uri, "")
            file.write_text("new")
            assert (await hub.list_files(uri, "")).revision == COMMIT


# A hub's files lie elsewhere by its own word.
@pytest.mark.parametrize("place", ["http"], indirect=True)
async def test_a_redirect_to_another_host_is_refused(place: Place) -> None:
    place.server.faults.append(Fault.ELSEWHERE)
    with pytest.raises(Denied, match="redirects to another host, localhost"):
        await place.listing()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[::ffff:7f00:1]",
        "169.254.169.254",
        "0x7F.1",
    ],
)
async def test_private_addresses_are_refused_however_they_are_written(
    tmp_path: Path, host: str
) -> None:
    settings = CacheSettings(directory=tmp_path)
    async with model_session(settings, LIMITS) as session:
        source = sources(settings, session, LIMITS)["http"]
        async with asyncio.timeout(5):
            with pytest.raises(Denied, match="allow_private_addresses"):
                await source.list_files(parse_uri(f"http://{host}:9/x.gguf"), "")


@pytest.mark.parametrize(
    "host",
    [
        "①②⑦.0.0.①",
        "127。0。0。1",
        "169．254．169．254",
        "127.0.0.1.",
        "localhost.",
        "%31%32%37.0.0.1",
        "example。com",
    ],
)
async def test_a_redirect_to_a_host_in_disguise_is_refused_before_it_is_asked(
    tmp_path: Path, host: str
) -> None:
    rules = HttpRules(follow=lambda url, target: {})
    async with serving(ModelServer(files={NAME: WEIGHTS})) as server:
        settings = CacheSettings(directory=tmp_path)
        async with model_session(settings, LIMITS) as session:
            url = f"http://{host}:{server.port}/files/{NAME}"
            asked = http_fetch.request(session, "GET", url, rules)
            with pytest.raises(Denied, match="allow_private_addresses"):
                await asked.__aenter__()
        assert server.asked == []


# No other tells digests in its listing.
@pytest.mark.parametrize("place", ["hf"], indirect=True)
async def test_a_hubs_digest_that_is_none_is_refused_and_is_no_path(place: Place) -> None:
    place.server.digests[NAME] = "../../" + "a" * 58
    with pytest.raises(Corrupt, match="no SHA-256"):
        await place.listing()


# No other tells sizes in a body of its own.
@pytest.mark.parametrize("place", ["hf"], indirect=True)
async def test_a_size_below_zero_is_refused(place: Place) -> None:
    place.server.sizes[NAME] = -1
    with pytest.raises(Corrupt, match="size"):
        await place.listing()
