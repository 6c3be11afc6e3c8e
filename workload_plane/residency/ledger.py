"""The chained records of where requests went, in a file of the plane's disk.

A line of JSON for each. Records are appended and synced; the oldest go when the file outgrows its
bound. A file that was altered, cut or lost is put aside and a new chain begun whose first record
says so: nothing that it held counts as proven by it.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from skerry.fleet.change_chain import Link, Verified
from skerry.fleet.residency import (
    WHY_CHARACTERS_MAX,
    Record,
    Seen,
    follow,
    link_of,
    record_of,
)
from skerry.plumbing import logs
from skerry.plumbing.errors import Corrupt
from skerry.plumbing.files import write_atomically
from skerry.plumbing.ids import IdSource

_log = logs.get_logger(__name__)

# Some 20,000 records: two weeks of busy minutes, months of quiet ones.
LEDGER_BYTES_MAX = 16 * 1024 * 1024
# Records of before are forgotten, told or not.
LEDGER_DAYS_MAX = 40
_KEPT_SHARE = 2  # one of so many: what stays of a file that outgrew its bound
FILE_MODE = 0o600
_DAY_MS = 86_400_000
# Of one message to the control plane.
TOLD_MAX, TOLD_CHARACTERS_MAX = 64, 512 * 1024


class Ledger:
    """The file, its newest record and how large the file must be; one writer."""

    def __init__(self, path: Path, ids: IdSource) -> None:
        """Read nothing yet."""
        self._path = path
        self._ids = ids
        self._links: list[Link] = []
        self._newest: Record | None = None
        self._size = 0
        self.began_ms = 0  # when this chain began

    @property
    def newest(self) -> Record:
        """Return the newest record; there is always one once it was opened."""
        assert self._newest is not None, "the ledger was not opened"
        return self._newest

    def open(self, now_ms: int) -> None:
        """Read the file, or begin one; raises OSError where the disk does not let us."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            # A first start and a lost file look alike here; neither proves what was before.
            self.begin_anew("", now_ms)
            return
        links, fault = read_links(self._path)
        if fault or not links:
            self._put_aside(fault or "the ledger is empty", links, now_ms)
            return
        self._take(links)

    def check(self, now_ms: int) -> None:
        """Begin anew where the file is not what was written."""
        links, fault = read_links(self._path)
        if not fault and (not links or links[-1] != self._links[-1]):
            fault = f"record {self.newest.sequence}, the newest, was removed or replaced"
        if fault:
            self._put_aside(fault, links, now_ms)

    def append(self, records: Sequence[Record], now_ms: int) -> None:
        """Write records for good; raises OSError with the file as it was."""
        if self._file_size() != self._size:
            self.check(now_ms)
        before, links = self._links[-1], []
        if records[0].chain != self.newest.chain:
            raise Corrupt("the ledger was begun anew meanwhile")
        for record in records:
            before = link_of(record, before.digest)
            links.append(before)
        data = b"".join(_line(link) for link in links)
        if self._size + len(data) > LEDGER_BYTES_MAX or self._is_old(now_ms):
            self._rewrite([*self._kept(now_ms), *links])
        else:
            self._add(data)
            self._links += links
        self._newest = records[-1]

    def after(self, sequence: int) -> tuple[Link, ...]:
        """Return the next records to be told, after a number."""
        found: list[Link] = []
        characters = 0
        first = self._links[0].sequence
        for link in self._links[max(0, sequence + 1 - first) :][:TOLD_MAX]:
            characters += len(link.content)
            if found and characters > TOLD_CHARACTERS_MAX:
                break
            found.append(link)
        return tuple(found)

    def begin_anew(self, why: str, now_ms: int, from_ms: int | None = None) -> None:
        """Begin another chain, whose first record says why nothing is proven since `from_ms`."""
        seen = self._newest.seen if self._newest is not None else Seen()
        first = Record(
            sequence=1,
            chain=self._ids.new_id(),
            from_ms=min(now_ms, now_ms if from_ms is None else from_ms),
            to_ms=now_ms,
            why=why[:WHY_CHARACTERS_MAX],
            seen=seen,
        )
        self._rewrite([link_of(first, None)])
        self._newest, self.began_ms = first, now_ms

    def _take(self, links: list[Link]) -> None:
        self._links, self._newest = links, record_of(links[-1])
        self._size, self.began_ms = self._file_size(), record_of(links[0]).from_ms

    def _put_aside(self, fault: str, good: Sequence[Link], now_ms: int) -> None:
        """Keep one broken file for people, and say in the next chain what is wrong with it."""
        _log.error("residency.broken", fault=fault, file=str(self._path))
        if self._path.exists():
            os.replace(self._path, self._path.with_suffix(".broken"))
        whole = record_of(good[-1]).to_ms if good else None
        self.begin_anew(f"the plane's ledger is broken: {fault}", now_ms, whole)

    def _kept(self, now_ms: int) -> list[Link]:
        kept: list[Link] = []
        size = 0
        for link in reversed(self._links):
            size += len(_line(link))
            is_old = record_of(link).to_ms < now_ms - LEDGER_DAYS_MAX * _DAY_MS
            if kept and (is_old or size > LEDGER_BYTES_MAX // _KEPT_SHARE):
                break
            kept.append(link)
        return kept[::-1]

    def _is_old(self, now_ms: int) -> bool:
        """Say whether the first record is a day older than any is kept."""
        return record_of(self._links[0]).to_ms < now_ms - (LEDGER_DAYS_MAX + 1) * _DAY_MS

    def _rewrite(self, links: list[Link]) -> None:
        write_atomically(self._path, b"".join(map(_line, links)), mode=FILE_MODE)
        self._links, self._size = links, self._file_size()

    def _add(self, data: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, self._size)  # a full disk took the half of it
            raise
        finally:
            os.close(descriptor)
        self._size += len(data)

    def _file_size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return -1


def read_links(path: Path) -> tuple[list[Link], str]:
    """Return the records up to the first bad one, and what is wrong with it; "" when nothing is.

    A last line without its end was being written when the machine died: it is cut off.
    """
    try:
        with path.open("rb") as file:
            data = file.read(2 * LEDGER_BYTES_MAX)
    except FileNotFoundError:
        return [], "the file is gone"
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    links: list[Link] = []
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            link = _link(line)
            record_of(link)
        except (ValueError, KeyError, TypeError):
            return links, f"line {number} of its file is no record"
        before = Verified(sequence=link.sequence - 1, digest=None)
        if links:
            before = Verified(sequence=links[-1].sequence, digest=links[-1].digest)
        elif link.previous is None and link.sequence != 1:
            return links, f"record {link.sequence} follows nothing"
        if fault := follow((link,), before).fault:
            return links, fault
        links.append(link)
    return links, ""


def _line(link: Link) -> bytes:
    told = {
        "sequence": link.sequence,
        "content": link.content,
        "previous": link.previous.hex() if link.previous else "",
        "digest": link.digest.hex() if link.digest else "",
    }
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _link(line: bytes) -> Link:
    told = json.loads(line)
    digest = bytes.fromhex(told["digest"])
    if not digest:
        raise ValueError("a record has a digest")
    return Link(
        sequence=int(told["sequence"]),
        content=str(told["content"]),
        previous=bytes.fromhex(told["previous"]) or None,
        digest=digest,
    )
