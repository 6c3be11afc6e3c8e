"""Base models in buckets, s3://BUCKET/... and gs://BUCKET/..., through obstore.

Credentials, regions and endpoints are the plane's own: its environment, its instance's role, its
service account. A file SHA256SUMS beside the weights is taken for their checksums.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from skerry.plumbing.errors import (
    Conflict,
    Denied,
    Exhausted,
    Infeasible,
    NotFound,
    Unavailable,
)
from workload_plane.models.port import Body, Listing, RemoteFile
from workload_plane.models.selection import FILES_MAX, shards_of
from workload_plane.models.uris import S3, ModelUri

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import GCSStore, S3Store

Bucket: TypeAlias = "S3Store | GCSStore"

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "GOOGLE_BASE_URL")
SUMS = "SHA256SUMS"
SUMS_BYTES_MAX = 1024 * 1024
OBJECTS_LISTED_MAX = 10 * FILES_MAX
CHUNK_BYTES = 1024 * 1024
# The library's own retries of one request; a download that stops is begun again by the cache.
RETRIES_MAX = 2
RETRY_SECONDS_MAX = 20.0


class ObjectSource:
    """Buckets of one kind of URI."""

    def __init__(self, scheme: str, *, stall_seconds: float) -> None:
        """Open nothing yet; a request without an answer for so long is given up."""
        self._scheme = scheme
        self._stall_seconds = stall_seconds

    async def list_files(self, uri: ModelUri, revision: str) -> Listing:
        """See Source."""
        del revision  # versions of a bucket's objects are their own, not the bucket's
        import obstore

        bucket = self._bucket(uri.container)
        folder = uri.path if uri.path.endswith("/") else uri.path.rpartition("/")[0] + "/"
        folder = folder.lstrip("/")
        found: dict[str, ObjectMeta] = {}
        with _bucket_errors(uri.text):
            async with asyncio.timeout(self._stall_seconds):
                if uri.path.endswith("/"):
                    async for batch in obstore.list(bucket, folder or None):
                        found |= {meta["path"].removeprefix(folder): meta for meta in batch}
                        if len(found) > OBJECTS_LISTED_MAX:
                            raise Exhausted(f"{uri.text} has more than {OBJECTS_LISTED_MAX} files")
                else:
                    names = await self._shards(bucket, uri.path)
                    for name in names:
                        meta = await obstore.head_async(bucket, name)
                        found[name.removeprefix(folder)] = meta
                sums = await self._sums(bucket, folder)
        files = [
            RemoteFile(
                path=path,
                size_bytes=meta["size"],
                sha256=sums.get(path, ""),
                etag=meta["e_tag"] or "",
                locator=f"{uri.container}/{meta['path']}",
            )
            for path, meta in sorted(found.items())
            if path != SUMS and not path.endswith("/")
        ]
        return Listing(files=tuple(files))

    def open(self, file: RemoteFile, offset: int) -> AbstractAsyncContextManager[Body]:
        """See Source."""
        return self._open(file, offset)

    @asynccontextmanager
    async def _open(self, file: RemoteFile, offset: int) -> AsyncIterator["ObjectBody"]:
        import obstore

        container, _, key = file.locator.partition("/")
        where = f"{self._scheme}://{file.locator}"
        if offset >= file.size_bytes:
            offset = 0
        with _bucket_errors(where):
            async with asyncio.timeout(self._stall_seconds):
                result = await obstore.get_async(
                    self._bucket(container),
                    key,
                    options={"if_match": file.etag or None, "range": {"offset": offset}},
                )
            begin, size = result.range[0], result.meta["size"]
        if size != file.size_bytes:
            raise Conflict(f"{where} has {size} bytes now, it had {file.size_bytes} when listed")
        yield ObjectBody(result, where, begin, self._stall_seconds)

    async def _shards(self, bucket: "Bucket", key: str) -> tuple[str, ...]:
        """Return the keys of all shards of a split GGUF, or the key alone."""
        import obstore

        if shards_of(key, ()) == (key,):
            return (key,)
        there: list[str] = []
        stem = key.rpartition("-of-")[0].rpartition("-")[0]
        async for batch in obstore.list(bucket, key.rpartition("/")[0] or None):
            there += [meta["path"] for meta in batch if meta["path"].startswith(stem)]
        return shards_of(key, there)

    async def _sums(self, bucket: "Bucket", folder: str) -> dict[str, str]:
        import obstore
        from obstore.exceptions import BaseError

        try:
            result = await obstore.get_async(bucket, f"{folder}{SUMS}")
            if result.meta["size"] > SUMS_BYTES_MAX:
                return {}
            data = bytes(await result.bytes_async())
        except (BaseError, FileNotFoundError):
            return {}  # a bucket need not have one, and need not let us see that it has none
        return parse_sums(data)

    def _bucket(self, name: str) -> "Bucket":
        try:
            from obstore.store import GCSStore, S3Store
        except ImportError:
            raise Infeasible(
                f"{self._scheme}:// needs the package obstore on the plane: install skerry[plane]"
            ) from None
        kind = S3Store if self._scheme == S3 else GCSStore
        return kind(
            name,
            client_options={
                # Of a whole answer, which for weights takes hours: progress is watched instead.
                "timeout": timedelta(days=7),
                "connect_timeout": timedelta(seconds=15),
                # Whoever names an endpoint without encryption in the plane's environment means it.
                "allow_http": any(os.environ.get(n, "").startswith("http://") for n in ENDPOINTS),
            },
            retry_config={
                "max_retries": RETRIES_MAX,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS_MAX),
            },
        )


class ObjectBody:
    """The bytes of one object."""

    def __init__(self, result: "GetResult", where: str, offset: int, stall_seconds: float) -> None:
        """Read from the result; its first byte is the object's at `offset`."""
        self._result = result
        self._where = where
        self._offset = offset
        self._stall_seconds = stall_seconds

    @property
    def offset(self) -> int:
        """See Body."""
        return self._offset

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See Body."""
        stream = aiter(self._result.stream(min_chunk_size=CHUNK_BYTES))
        while True:
            with _bucket_errors(self._where):
                async with asyncio.timeout(self._stall_seconds):
                    chunk = await anext(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)


def parse_sums(data: bytes) -> dict[str, str]:
    """Return the digests by path of what sha256sum prints; lines of another shape are left out."""
    found = {}
    for line in data.decode(errors="replace").splitlines():
        digest, _, path = line.partition(" ")
        path = path.removeprefix(" ").removeprefix("*").removeprefix("./")
        if len(digest) == 64 and path and set(digest) <= set("0123456789abcdef"):
            found[path] = digest
    return found


@contextlib.contextmanager
def _bucket_errors(where: str) -> Iterator[None]:
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"{where} does not exist; correct the base model's URI") from None
    except exceptions.PreconditionError:
        raise Conflict(f"{where} is no more what it was when it was listed") from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
        raise Denied(f"{where} refuses the plane; give its credentials leave to read it") from None
    except TimeoutError:
        raise Unavailable(f"{where} sends nothing any more") from None
    except (exceptions.BaseError, OSError) as error:
        # The library's messages quote requests, whose headers may hold credentials.
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Unavailable(f"{where}: {line[:200]}") from None
