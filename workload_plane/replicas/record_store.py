"""The records of one runtime's replicas: on disk, as last seen, and what could not be written yet.

A full disk ends nothing and hides nothing: what was decided meanwhile is known from memory, and
written once the disk takes it. A restart before that finds the older record, and looks anew.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.errors import SkerryError
from workload_plane.replicas.records import (
    ReplicaRecord,
    UnreadableRecord,
    read_all,
    read_record,
    record_path,
    write_record,
)

_log = logs.get_logger(__name__)

VANISHED = "its record has vanished"


class RecordStore:
    """The only writer of its directory's records; its owner lets nobody change two at a time."""

    def __init__(self, directory: Path) -> None:
        """Begin with what is on disk, in a directory that exists."""
        self._directory = directory
        # What was last read or written: a record that is damaged meanwhile is known from here.
        self._last: dict[str, ReplicaRecord] = {}
        self._unwritten: dict[str, ReplicaRecord] = {}

    def has(self, name: str) -> bool:
        """Return whether there is a record of that name, also one that cannot be read."""
        return name in self._last or record_path(self._directory, name).exists()

    def found(self) -> Mapping[str, ReplicaRecord | UnreadableRecord]:
        """Return what is known of every record, those that vanished from disk among them."""
        found = {one.name: one for one in read_all(self._directory)}
        found |= {name: one for name, one in self._unwritten.items() if name in found}
        for name in self._last.keys() - found.keys():
            found[name] = UnreadableRecord(name=name, fault=VANISHED)
        return {name: found[name] for name in sorted(found)}

    def read(self, name: str) -> ReplicaRecord:
        """Return the record as it is now; raises FileNotFoundError or Corrupt."""
        unwritten = self._unwritten.get(name)
        return unwritten or read_record(record_path(self._directory, name))

    def known(self, name: str) -> ReplicaRecord | None:
        """Return the record as it is now or, if it cannot be read, as it was last."""
        try:
            return self.read(name)
        except (OSError, SkerryError):
            return self._last.get(name)

    def last(self, name: str) -> ReplicaRecord | None:
        """Return the record as it was last read or written."""
        return self._last.get(name)

    def saw(self, record: ReplicaRecord) -> None:
        """Remember a record as it is now."""
        self._last[record.name] = record

    def is_unwritten(self, name: str) -> bool:
        """Return whether the disk has an older record than this one."""
        return name in self._unwritten

    async def save(self, record: ReplicaRecord) -> None:
        """Write the record; raises OSError with the old one in place."""
        # An fsync may take seconds on a busy disk: heartbeats go on meanwhile.
        await asyncio.to_thread(write_record, self._directory, record)
        self._last[record.name] = record
        self._unwritten.pop(record.name, None)

    async def keep(self, record: ReplicaRecord) -> bool:
        """Write the record, or keep it until it can be written; return whether it was."""
        try:
            await self.save(record)
        except OSError as error:  # the disk is full: the next look writes it
            if record.name not in self._unwritten:
                _log.warning("replica.record-not-written", replica=record.name, fault=str(error))
            self._unwritten[record.name] = self._last[record.name] = record
            return False
        return True

    def drop(self, name: str) -> None:
        """Know the replica no more; its file is removed by whoever ended it."""
        self._last.pop(name, None)
        self._unwritten.pop(name, None)
