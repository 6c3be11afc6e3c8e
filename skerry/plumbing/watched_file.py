"""A small file that another process replaces now and then: read when it has changed, and only then.

The picker, the relay, the front and the agent look at what they are told by one another this way. A
rename is told by no event that survives every file system; a stat costs microseconds.
"""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Generic, TypeVar

from skerry.plumbing import logs
from skerry.plumbing.errors import Corrupt

_log = logs.get_logger(__name__)

Content = TypeVar("Content")


class Unread(Enum):
    """Why a look gave no content."""

    SAME = "same"  # as at the last look
    ABSENT = "absent"
    UNREADABLE = "unreadable"  # damaged, too large, or the disk or the process could not


class WatchedFile(Generic[Content]):
    """Remembers which version was read; what the content means is the caller's to keep."""

    def __init__(
        self, path: Path, parse: Callable[[bytes], Content], *, bytes_max: int, name: str
    ) -> None:
        """Read nothing yet; `parse` raises Corrupt, `name` is the file's in the log."""
        self._path = path
        self._parse = parse
        self._bytes_max = bytes_max
        self._name = name
        self._stamp: tuple[int, int] | None = None
        self._fault = ""

    def look(self) -> Content | Unread:
        """Return the content if it is another than at the last look, else why there is none.

        A fault that stays is logged once. Damage is looked at again when it changes; what was
        absent, or could not be read just then, at the next look.
        """
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return Unread.SAME
            self._stamp = None
            content = self._read(status.st_size)
        except FileNotFoundError:
            self._stamp = None
            return Unread.ABSENT
        except Corrupt as error:
            self._stamp = stamp
            return self._unreadable(error)
        except OSError as error:
            self._stamp = None
            return self._unreadable(error)
        self._stamp, self._fault = stamp, ""
        return content

    def _read(self, size: int) -> Content:
        if size > self._bytes_max:
            raise Corrupt(f"{self._path} has {size} bytes, at most {self._bytes_max} are read")
        return self._parse(self._path.read_bytes())

    def _unreadable(self, error: Exception) -> Unread:
        if str(error) != self._fault:
            self._fault = str(error)
            _log.warning("file.unreadable", file=self._name, fault=self._fault)
        return Unread.UNREADABLE
