"""An export of the change log: one record a line, verified as it is written and when it is read.

The first line says what the file is, the last one where it ends: a file without it was cut, or its
export was interrupted and may go on. Each line between has the fields of a change by name, with
`previous_digest` and `digest` in hex; docs/operating/audit.md says what a digest is of.
"""

import fcntl
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from skerry.fleet.change_chain import (
    CONTENT_FIELDS,
    Link,
    Noted,
    Verified,
    beyond,
    content_of,
    verify_links,
)
from skerry.plumbing.errors import Conflict, Corrupt, InvalidInput

FORMAT = 1
MARK = "skerry_audit"
END = "end"
# A change is a few kilobytes; past this it is no file of ours.
LINE_BYTES_MAX = 64 << 20

_CHAIN_FIELDS = ("previous_digest", "digest")
_HEADER = b'{"skerry_audit":1,"after":'


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRead:
    """What a file holds: `found` of its records, which begin after number `after`.

    `whole_bytes` is where the last whole record ends. A file that `is_ended` says itself that
    nothing follows; without a record `is_empty`.
    """

    found: Verified
    after: int = 0
    whole_bytes: int = 0
    is_ended: bool = False
    is_empty: bool = False

    @property
    def newest(self) -> Noted | None:
        """Return the newest digest with its number, as people note it."""
        if self.found.digest is None:
            return None
        return Noted(sequence=self.found.sequence, digest=self.found.digest)


def verify_export(path: Path, noted: Noted | None = None) -> ExportRead:
    """Verify an export without a control plane; Corrupt for a file that is none, or was cut.

    What is wrong with a record is `found.fault`, as the control plane would say it.
    """
    with path.open("rb") as file:
        read = _read(file, path, noted)
    if read.found.fault:
        return read
    if not read.is_ended:
        raise Corrupt(
            f"{path} has no end after change {read.found.sequence}: it was cut, or its export was"
            f" interrupted; `skerry audit export -o {path}` goes on where it ends"
        )
    if noted is not None and noted.sequence < read.after:
        raise Corrupt(
            f"{path} begins after change {read.after}: what was noted of {noted.sequence} can't be"
            " compared with it; verify the export that has that change"
        )
    return replace(read, found=beyond(read.found, noted))


@contextmanager
def open_export(path: Path) -> Iterator["Export"]:
    """Open a file to be written, or gone on with; Corrupt for one that is not sound so far.

    Conflict while another process writes it. One that stays without records is removed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+b", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput(f"{path} is no file; an export needs one that it can go on with")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"{path} is written by another export; wait for its end") from None
        with open(descriptor, "rb", closefd=False) as reader:
            read = _read(reader, path, None)
        if read.found.fault:
            raise Corrupt(f"{path}: {read.found.fault}; export into another file")
        export = Export(path, file, read)
        try:
            yield export
        finally:
            if export.read.is_empty:
                path.unlink(missing_ok=True)


_EMPTY = ExportRead(found=Verified(sequence=0, digest=None), is_empty=True)


class Export:
    """A file that grows by whole, verified records; `finish` writes its end."""

    def __init__(self, path: Path, file: Any, read: ExportRead) -> None:
        """Go on after what was read of the open file."""
        self.read = read
        self._path = path
        self._file = file

    def append(self, links: Sequence[Link]) -> None:
        """Write records that follow those there are, durably, all or none of them.

        Corrupt when they do not: the log was restored or replaced since.
        """
        if not links:
            return
        before, lines = self.read, [_line(link) for link in links]
        found, after = before.found, before.after
        if before.is_empty:
            after = links[0].sequence - 1
            found = Verified(sequence=after, digest=None)
            lines.insert(0, _HEADER + f"{after}}}\n".encode())
        found = verify_links(links, found)
        if found.fault:
            raise Corrupt(
                f"the log does not go on from {self._path}: {found.fault}. `skerry audit verify`"
                " says if the log is broken; if an older backup was restored, keep the file and"
                " export into another one"
            )
        whole = self._write(b"".join(lines))
        self.read = ExportRead(found=found, after=after, whole_bytes=whole)

    def finish(self) -> None:
        """Write the end, unless it is there, or nothing is."""
        if self.read.is_ended or self.read.is_empty:
            return
        self._write(_dumped({END: _end_of(self.read.found)}))
        self.read = replace(self.read, is_ended=True)

    def _write(self, data: bytes) -> int:
        """Put data after the last whole record; on a failure leave the file as it was till there.

        What stood behind it is the end that is no longer the end, or half a line of a writer that
        was killed.
        """
        start = self.read.whole_bytes
        self._file.truncate(start)
        self._file.seek(start)
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)
            raise
        return start + len(data)


def _read(file: BinaryIO, path: Path, noted: Noted | None) -> ExportRead:
    header = file.readline(LINE_BYTES_MAX)
    if not header.endswith(b"\n") and (_HEADER.startswith(header) or header.startswith(_HEADER)):
        return _EMPTY
    after = _after(header, path)
    start = Verified(sequence=after, digest=None)
    read = ExportRead(found=start, after=after, whole_bytes=len(header))
    number = 1
    while (line := file.readline(LINE_BYTES_MAX)).endswith(b"\n"):
        number += 1
        told = _loaded(line)
        if read.is_ended or told is None:
            read = _faulty(read, number)
        elif END in told:
            read = _ended(read, told[END])
        else:
            read = _followed(read, told, len(line), noted, number)
        if read.found.fault:
            return read
    # What is left is nothing, or half a line: its writer was killed, or the file was cut.
    return read if read.found.checked or read.is_ended else _EMPTY


def _followed(
    read: ExportRead, told: dict[str, Any], size: int, noted: Noted | None, number: int
) -> ExportRead:
    try:
        link = _link(told)
    except (TypeError, ValueError):
        return _faulty(read, number)
    found = verify_links((link,), read.found, noted)
    return replace(read, found=found, whole_bytes=read.whole_bytes + size)


def _ended(read: ExportRead, told: Any) -> ExportRead:
    if told != _end_of(read.found):
        fault = "the end of the file is not that of its records: it was altered"
        return replace(read, found=replace(read.found, fault=fault))
    return replace(read, is_ended=True)


def _end_of(found: Verified) -> dict[str, Any]:
    digest = found.digest.hex() if found.digest else None
    return {"sequence": found.sequence, "records": found.checked, "digest": digest}


def _faulty(read: ExportRead, line: int) -> ExportRead:
    fault = f"line {line} is not a record of a change; the file was altered"
    found = replace(read.found, sequence=read.found.sequence + 1, fault=fault)
    return replace(read, found=found)


def _after(header: bytes, path: Path) -> int:
    told = _loaded(header) or {}
    after = told.get("after")
    if told.get(MARK) != FORMAT or type(after) is not int or after < 0:
        raise Corrupt(f"{path} is no export of `skerry audit export`, or of a newer release")
    return after


def _loaded(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _link(told: dict[str, Any]) -> Link:
    """Return the record of a line; TypeError or ValueError where it is none."""
    if set(told) != {*CONTENT_FIELDS, *_CHAIN_FIELDS} or type(told["sequence"]) is not int:
        raise ValueError("not the fields of a record")
    previous, digest = (bytes.fromhex(told[name] or "") or None for name in _CHAIN_FIELDS)
    content = content_of([told[name] for name in CONTENT_FIELDS])
    return Link(sequence=told["sequence"], content=content, previous=previous, digest=digest)


def _line(link: Link) -> bytes:
    try:
        told = dict(link.fields())
    except ValueError as fault:
        raise Corrupt(f"the control plane sent what is no record: {fault}") from None
    told["previous_digest"] = link.previous.hex() if link.previous else None
    told["digest"] = link.digest.hex() if link.digest else None
    return _dumped(told)


def _dumped(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"
