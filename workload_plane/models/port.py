"""A source of base models: what a URI consists of, and its files' bytes. One contract for all.

The cache calls it. A source knows nothing of disks, limits and retries: it says what it was told,
and raises Unavailable for whatever may be otherwise a moment later.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from skerry.plumbing.errors import Corrupt
from workload_plane.models.uris import ModelUri

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Say whether the text is a SHA-256 as it names a file on the disk."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file of a base model: `path` is its name inside, `locator` how its source finds it.

    `sha256` and `etag` are "" where the source does not tell them. A digest becomes a path: what
    is none raises Corrupt, and so does a size below 0.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    etag: str = ""
    locator: str = ""

    def __post_init__(self) -> None:
        if self.sha256 and not is_digest(self.sha256):
            raise Corrupt(
                f"{self.path[:80]!r} comes with {self.sha256[:80]!r}, which is no SHA-256; nothing"
                " of it is used; take another source, or have this one repaired"
            )
        if self.size_bytes < 0:
            raise Corrupt(
                f"{self.path[:80]!r} comes with a size of {self.size_bytes}; nothing of it is used;"
                " take another source, or have this one repaired"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All files at a URI; `revision` names exactly this state of it where the source has one."""

    files: tuple[RemoteFile, ...]
    revision: str = ""


class Body(Protocol):
    """A file's bytes from `offset` on, which is 0 when the source could not go on in between."""

    @property
    def offset(self) -> int:
        """Return the position of the first byte that `chunks` yields."""
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes in order; raises Unavailable when they stop coming."""
        ...


class Source(Protocol):
    """Where base models of one kind of URI come from."""

    async def list_files(self, uri: ModelUri, revision: str) -> Listing:
        """Return the files there are, at the revision when one is given.

        Raises NotFound, Denied, Infeasible, InvalidInput or Unavailable with what to do.
        """
        ...

    def open(self, file: RemoteFile, offset: int) -> AbstractAsyncContextManager[Body]:
        """Open a listed file at the offset or, where that is not possible, at 0.

        Raises Conflict when the file is no more what was listed, else as `list_files`.
        """
        ...
