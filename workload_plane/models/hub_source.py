"""Base models of a hub by hf://ORG/NAME[@REVISION][/FILE], through its HTTP API.

A branch is taken at the commit it names now, and that commit is what stays: two listings with one
revision are the same. Large files' SHA-256 comes with the listing.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from urllib.parse import quote, urlsplit

import aiohttp

from skerry.plumbing.errors import Denied, Exhausted, NotFound, Unavailable
from workload_plane.models.http_fetch import HttpBody, HttpRules, open_file, request
from workload_plane.models.hub_token import HubToken
from workload_plane.models.port import Body, Listing, RemoteFile
from workload_plane.models.selection import shards_of
from workload_plane.models.uris import ModelUri

ANSWER_BYTES_MAX = 16 * 1024 * 1024
PAGES_MAX = 50  # of a thousand files each
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')


class HubSource:
    """One hub: its API, and its files wherever it keeps them."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: str,
        token: HubToken,
        *,
        allow_private_addresses: bool,
    ) -> None:
        """Use the session of the cache; the token is asked for at every listing and file."""
        self._session = session
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._allow_private = allow_private_addresses

    async def list_files(self, uri: ModelUri, revision: str) -> Listing:
        """See Source."""
        async with self._rules() as rules:
            return await self._list(uri, revision, rules)

    async def _list(self, uri: ModelUri, revision: str, rules: HttpRules) -> Listing:
        name = f"{self._endpoint}/api/models/{uri.container}"
        commit = revision
        if not commit:
            wanted = quote(uri.revision or "main", safe="")
            told = (await self._get(f"{name}/revision/{wanted}", rules))[0]
            commit = told.get("sha", "") if isinstance(told, dict) else ""
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise Unavailable(f"{name} does not tell its commit")
        files: list[RemoteFile] = []
        url = f"{name}/tree/{commit}?recursive=true"
        for _ in range(PAGES_MAX):
            entries, following = await self._get(url, rules)
            files += self._files(uri, commit, entries)
            if not following:
                return Listing(files=_named(uri, files), revision=commit)
            _check_endpoint(self._endpoint, following)
            url = following
        raise Exhausted(f"{uri.text} has more than {PAGES_MAX} pages of files")

    def open(self, file: RemoteFile, offset: int) -> AbstractAsyncContextManager[Body]:
        """See Source."""
        return self._open(file, offset)

    @asynccontextmanager
    async def _open(self, file: RemoteFile, offset: int) -> AsyncIterator[HttpBody]:
        async with (
            self._rules() as rules,
            open_file(self._session, file, offset, rules) as body,
        ):
            yield body

    async def _get(self, url: str, rules: HttpRules) -> tuple[object, str]:
        async with request(self._session, "GET", url, rules) as response:
            data = b""
            async for chunk in HttpBody(response, url, 0).chunks():
                data += chunk
                if len(data) > ANSWER_BYTES_MAX:
                    raise Exhausted(f"{url} answers more than {ANSWER_BYTES_MAX} bytes")
            match = _NEXT.search(response.headers.get("Link", ""))
        try:
            return json.loads(data), match.group(1) if match else ""
        except ValueError:
            raise Unavailable(f"{url} answers no JSON") from None

    def _files(self, uri: ModelUri, commit: str, entries: object) -> list[RemoteFile]:
        if not isinstance(entries, list):
            raise Unavailable(f"{uri.text}: the hub's list of files is none")
        found = []
        for entry in entries:
            if not isinstance(entry, dict) or entry.get("type") != "file":
                continue
            path, size, lfs = entry.get("path"), entry.get("size"), entry.get("lfs")
            digest = lfs.get("oid") if isinstance(lfs, dict) else ""
            if not isinstance(path, str) or type(size) is not int or not isinstance(digest, str):
                raise Unavailable(f"{uri.text}: the hub's list has a file without name or size")
            url = f"{self._endpoint}/{uri.container}/resolve/{commit}/{quote(path)}"
            found.append(
                RemoteFile(
                    path=path,
                    size_bytes=size,
                    sha256=digest.removeprefix("sha256:"),
                    locator=url,
                )
            )
        return found

    @asynccontextmanager
    async def _rules(self) -> AsyncIterator[HttpRules]:
        token = await self._token.read()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            yield HttpRules(
                follow=partial(self._follow, headers),
                headers=headers,
                allow_private_addresses=self._allow_private,
            )
        except Denied:
            self._token.forget()
            raise

    def _follow(self, headers: Mapping[str, str], url: str, target: str) -> Mapping[str, str]:
        # Files lie with other hosts, which are told by the hub and must not see the token.
        scheme = urlsplit(target).scheme
        if scheme != "https" and scheme != urlsplit(self._endpoint).scheme:
            raise Denied(f"{url} redirects to {scheme}://, which is not encrypted")
        there, own = urlsplit(target), urlsplit(self._endpoint)
        if (there.scheme, there.netloc) == (own.scheme, own.netloc):
            return headers
        return {}


def _named(uri: ModelUri, files: list[RemoteFile]) -> tuple[RemoteFile, ...]:
    if not uri.path:
        return tuple(files)
    if uri.path.endswith("/"):
        below = [file for file in files if file.path.startswith(uri.path)]
        return tuple(_moved(file, uri.path) for file in below)
    names = shards_of(uri.path, [file.path for file in files])
    found = tuple(file for file in files if file.path in names)
    if not found:
        raise NotFound(f"base model {uri.text}: {uri.container} has no file {uri.path!r}")
    folder = uri.path.rpartition("/")[0]
    return tuple(_moved(file, f"{folder}/" if folder else "") for file in found)


def _moved(file: RemoteFile, folder: str) -> RemoteFile:
    return RemoteFile(
        path=file.path.removeprefix(folder),
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        etag=file.etag,
        locator=file.locator,
    )


def _check_endpoint(endpoint: str, url: str) -> None:
    here, there = urlsplit(endpoint), urlsplit(url)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise Unavailable(f"{endpoint} names another host for its next page: {there.netloc}")
