"""Base models by https:// : one file each, from the host that the URI names and no other."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import unquote

import aiohttp

from skerry.plumbing.errors import Infeasible
from workload_plane.models.http_fetch import (
    HttpBody,
    HttpRules,
    check_encoding,
    digest_in,
    etag_in,
    open_file,
    request,
    same_host,
)
from workload_plane.models.port import Body, Listing, RemoteFile
from workload_plane.models.uris import ModelUri


class HttpsSource:
    """Files behind plain URLs; redirects stay on the host."""

    def __init__(self, session: aiohttp.ClientSession, *, allow_private_addresses: bool) -> None:
        """Use the session of the cache."""
        self._session = session
        self._rules = HttpRules(follow=same_host, allow_private_addresses=allow_private_addresses)

    async def list_files(self, uri: ModelUri, revision: str) -> Listing:
        """See Source."""
        del revision  # the web has none: what came first is pinned by its content
        # GET and not HEAD, which many servers answer in another way or not at all.
        async with request(self._session, "GET", uri.text, self._rules) as response:
            check_encoding(uri.text, response)
            size = response.content_length
            file = RemoteFile(
                path=unquote(uri.path.rpartition("/")[2]),
                size_bytes=size or 0,
                sha256=digest_in(response.headers),
                etag=etag_in(response.headers),
                locator=uri.text,
            )
            response.close()
        if not size:
            raise Infeasible(
                f"{uri.text}: the server does not tell how large the file is; put it on one that"
                " sends Content-Length"
            )
        return Listing(files=(file,))

    def open(self, file: RemoteFile, offset: int) -> AbstractAsyncContextManager[Body]:
        """See Source."""
        return self._open(file, offset)

    @asynccontextmanager
    async def _open(self, file: RemoteFile, offset: int) -> AsyncIterator[HttpBody]:
        async with open_file(self._session, file, offset, self._rules) as body:
            yield body
