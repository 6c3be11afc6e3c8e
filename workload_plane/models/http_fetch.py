"""One file over HTTP, whole or from an offset: what the hub's and the plain source share.

Redirects are followed by hand, each by the source's own rule; what a status means is said here.
"""

import base64
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import aiohttp

from skerry.plumbing.errors import (
    Conflict,
    Denied,
    Infeasible,
    NotFound,
    SkerryError,
    Unavailable,
)
from workload_plane.models.addresses import PublicResolver, check_url
from workload_plane.models.port import RemoteFile

REDIRECTS_MAX = 5  # the hub takes two: to the renamed repository, and to where its files are
CHUNK_BYTES = 1024 * 1024
CONNECT_SECONDS_MAX = 15.0
RETRY_AFTER_SECONDS_MAX = 3_600.0
_REDIRECTS = (301, 302, 303, 307, 308)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_REPR_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]{44}):")

Follow = Callable[[str, str], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRules:
    """What a request may do: its headers, and `follow(from, to)`, which returns the headers for
    a redirect's target or raises Denied."""

    follow: Follow
    headers: Mapping[str, str] = field(default_factory=dict)
    allow_private_addresses: bool = False


def open_session(*, allow_private_addresses: bool, stall_seconds: float) -> aiohttp.ClientSession:
    """Return a session for base models alone: no cookies, no proxies of the environment."""
    resolver = None if allow_private_addresses else PublicResolver()
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=stall_seconds
    )
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=CHUNK_BYTES,
        headers={"Accept-Encoding": "identity"},
    )


@contextlib.asynccontextmanager
async def request(
    session: aiohttp.ClientSession, method: str, url: str, rules: HttpRules
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send one request and yield its answer, after the redirects that are allowed.

    Raises the kind of error that the status means, Unavailable when nothing sensible came.
    """
    headers = dict(rules.headers)
    for _ in range(REDIRECTS_MAX + 1):
        asked = url if rules.allow_private_addresses else check_url(url)
        with _network_errors(url):
            response = await session.request(method, asked, headers=headers, allow_redirects=False)
        async with response:
            if response.status not in _REDIRECTS:
                _check_status(url, response)
                yield response
                return
            target = urljoin(url, response.headers.get("Location", ""))
        kept = {key: value for key, value in headers.items() if key in ("Range", "If-Range")}
        headers = {**rules.follow(url, target), **kept}
        url = target
    raise Infeasible(f"{url} redirects more than {REDIRECTS_MAX} times")


@contextlib.asynccontextmanager
async def open_file(
    session: aiohttp.ClientSession, file: RemoteFile, offset: int, rules: HttpRules
) -> AsyncIterator["HttpBody"]:
    """Open the file at the offset; its body says where the server really begins."""
    headers = dict(rules.headers)
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if _is_strong(file.etag):
            headers["If-Range"] = file.etag
    asked = HttpRules(
        follow=rules.follow, headers=headers, allow_private_addresses=rules.allow_private_addresses
    )
    async with request(session, "GET", file.locator, asked) as response:
        check_encoding(file.locator, response)
        begins = _begin_of(file, offset, response)
        yield HttpBody(response, file.locator, begins)


class HttpBody:
    """The bytes of one answer."""

    def __init__(self, response: aiohttp.ClientResponse, url: str, offset: int) -> None:
        """Read from the response; its first byte is the file's at `offset`."""
        self._response = response
        self._url = url
        self._offset = offset

    @property
    def offset(self) -> int:
        """See Body."""
        return self._offset

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See Body."""
        stream = self._response.content
        while True:
            with _network_errors(self._url):
                chunk = await stream.readany()
            if not chunk:
                return
            yield chunk


def same_host(url: str, target: str) -> Mapping[str, str]:
    """Allow a redirect within one host and scheme; raises Denied for every other."""
    here, there = urlsplit(url), urlsplit(target)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise Denied(
            f"{url} redirects to another host, {there.netloc or target}; name the base model by"
            " the address where it really is"
        )
    return {}


def check_encoding(url: str, response: aiohttp.ClientResponse) -> None:
    """Raise Infeasible when the bytes are packed: what was asked for is the file itself."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise Infeasible(
            f"{url} sends the file packed ({encoding}) although it was asked not to; have it sent"
            " as it is"
        )


def digest_in(headers: Mapping[str, str]) -> str:
    """Return the SHA-256 in hex that an answer tells of its whole file, "" without one."""
    told = _REPR_DIGEST.search(headers.get("Repr-Digest", ""))
    text = told.group(1) if told else headers.get("x-amz-checksum-sha256", "")
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return ""  # a checksum of parts' checksums ends in -N and is of no use here
    return raw.hex() if len(raw) == 32 else ""


def etag_in(headers: Mapping[str, str]) -> str:
    """Return the answer's entity tag as it was sent, "" without one."""
    return headers.get("ETag", "")[:256]


def _is_strong(etag: str) -> bool:
    return bool(etag) and not etag.startswith("W/")


def _begin_of(file: RemoteFile, offset: int, response: aiohttp.ClientResponse) -> int:
    if response.status == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            raise Conflict(f"{file.locator}: asked for bytes from {offset}, got others")
        total = int(match[3])
    else:
        offset = 0
        length = response.content_length
        total = file.size_bytes if length is None else length
    if total != file.size_bytes:
        raise Conflict(
            f"{file.locator} has {total} bytes now, it had {file.size_bytes} when it was listed"
        )
    return offset


def _check_status(url: str, response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status in (200, 206):
        return
    if status in (401, 403):
        raise Denied(f"{url} refuses the plane (HTTP {status}); give the plane a credential for it")
    if status in (404, 410):
        raise NotFound(f"{url} does not exist (HTTP {status}); correct the base model's URI")
    if status in (412, 416):
        raise Conflict(f"{url} is no more what it was (HTTP {status})")
    if status in (408, 425, 429) or status >= 500:
        raise Unavailable(
            f"{url} can't answer now (HTTP {status})",
            retry_after_seconds=_retry_after(response.headers.get("Retry-After", "")),
        )
    raise Infeasible(f"{url} answers HTTP {status}; correct the base model's URI")


def _retry_after(text: str) -> float | None:
    return min(float(text), RETRY_AFTER_SECONDS_MAX) if text.isdecimal() else None


@contextlib.contextmanager
def _network_errors(url: str) -> Iterator[None]:
    try:
        yield
    except SkerryError:
        raise
    except TimeoutError:
        raise Unavailable(f"{url} sends nothing any more") from None
    except (aiohttp.ClientError, OSError) as error:
        for cause in (error.__cause__, error.__context__):
            if isinstance(cause, SkerryError):
                raise cause from None
        raise Unavailable(f"{url}: {error or type(error).__name__}") from None
