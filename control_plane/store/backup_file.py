"""A backup as a file: gzip of JSON lines with a header, every row, and a checksummed end.

No dialect is in it: times, bytes and JSON are marked as such, everything else is a JSON value of
its own. `backup.py` fills and reads it; both stream, one line in memory at a time.
"""

import base64
import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from skerry.plumbing.errors import Corrupt, InvalidInput

MAGIC = "skerry-backup"
FORMAT = 1
# A desired state is at most 4 MiB, a third more as text; anything near this is no line of ours.
LINE_BYTES_MAX = 64 * 1024 * 1024
_COMPRESSION = 6

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a backup says of itself before its rows; `schema` is a migration's revision."""

    schema: str
    taken_at: datetime
    dialect: str
    software: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableHead:
    """The rows that follow are of this table, a value for each column."""

    name: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class _Tally:
    """What was written or read so far: rows by table, and the digest of every byte."""

    rows: dict[str, int] = field(default_factory=dict)
    digest: Any = field(default_factory=hashlib.sha256)


class BackupWriter:
    """Writes one backup; `tables` are counted as they are begun."""

    def __init__(self, stream: IO[bytes], header: Header) -> None:
        """Begin with the header."""
        self._stream = stream
        self._tally = _Tally()
        self._table = ""
        told = {"magic": MAGIC, "format": FORMAT, **asdict(header)}
        self._line(told | {"taken_at": header.taken_at.astimezone(UTC).isoformat()})

    def begin(self, head: TableHead) -> None:
        """Begin a table's rows."""
        self._table = head.name
        self._tally.rows[head.name] = 0
        self._line({"table": head.name, "columns": list(head.columns)})

    def row(self, values: Row) -> None:
        """Write a row of the table that was begun last."""
        self._tally.rows[self._table] += 1
        self._line([_told(value) for value in values])

    def end(self) -> Mapping[str, int]:
        """Write the end, without which a backup is none; return how many rows each table has."""
        digest = self._tally.digest.hexdigest()
        self._line({"end": True, "rows": self._tally.rows, "sha256": digest})
        return dict(self._tally.rows)

    def _line(self, value: Any) -> None:
        line = json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if len(line) > LINE_BYTES_MAX:
            raise InvalidInput(
                f"a row of {self._table} takes {len(line)} bytes, more than {LINE_BYTES_MAX};"
                " it cannot be backed up"
            )
        self._tally.digest.update(line)
        self._stream.write(line)


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[IO[bytes]]:
    """Give the stream of a new file that is there, durable and for its owner alone, at the end.

    Whatever goes wrong before that leaves what was at `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            with gzip.GzipFile(
                filename="", fileobj=file, mode="wb", compresslevel=_COMPRESSION, mtime=0
            ) as packed:
                yield cast(IO[bytes], packed)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def read_backup(path: Path) -> Iterator[tuple[Header, Iterator[TableHead | Row]]]:
    """Give a backup's header and its rows; Corrupt when it ends early or is not what was written.

    Only who has read all of it knows that it is whole.
    """
    try:
        with gzip.open(path, "rb") as packed:
            stream = cast(IO[bytes], packed)
            tally = _Tally()
            header = _header_of(path, _next(path, stream, tally))
            yield header, _rows(path, stream, tally)
    except FileNotFoundError:
        raise InvalidInput(f"there is no backup {path}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from None


def _rows(path: Path, stream: IO[bytes], tally: _Tally) -> Iterator[TableHead | Row]:
    head: TableHead | None = None
    while True:
        digest = tally.digest.hexdigest()
        line = _next(path, stream, tally)
        if isinstance(line, dict) and line.get("end") is True:
            if line.get("sha256") != digest or line.get("rows") != tally.rows:
                raise _damaged(path, "the checksum or a count does not match")
            if stream.read(1):
                raise _damaged(path, "something follows its end")
            return
        if isinstance(line, dict):
            head = _table_of(path, line)
            tally.rows[head.name] = 0
            yield head
            continue
        if head is None or not isinstance(line, list) or len(line) != len(head.columns):
            raise _damaged(path, "a row fits no table")
        tally.rows[head.name] += 1
        yield tuple(_read(path, value) for value in line)


def _next(path: Path, stream: IO[bytes], tally: _Tally) -> Any:
    line = stream.readline(LINE_BYTES_MAX + 1)
    if not line.endswith(b"\n"):
        raise _damaged(path, "it ends early")
    tally.digest.update(line)
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise _damaged(path, "a line is not JSON") from None


def _header_of(path: Path, told: Any) -> Header:
    if not isinstance(told, dict) or told.get("magic") != MAGIC:
        raise InvalidInput(f"{path} is not a backup; `skerry backup FILE` makes one")
    if told.get("format") != FORMAT:
        raise InvalidInput(
            f"{path} is of format {told.get('format')!r}, this release reads {FORMAT}; restore it"
            " with the release that wrote it or a newer one"
        )
    try:
        return Header(
            schema=str(told["schema"]),
            taken_at=datetime.fromisoformat(told["taken_at"]),
            dialect=str(told["dialect"]),
            software=str(told["software"]),
            epoch=int(told["epoch"]),
            sequence=int(told["sequence"]),
        )
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, "its header lacks something") from None


def _table_of(path: Path, told: dict[str, Any]) -> TableHead:
    name, columns = told.get("table"), told.get("columns")
    if not isinstance(name, str) or not isinstance(columns, list) or not columns:
        raise _damaged(path, "a table has no name or no columns")
    return TableHead(name=name, columns=tuple(map(str, columns)))


def _told(value: Any) -> Any:
    """Return a value as JSON; what JSON has no type for is an object that names it."""
    if isinstance(value, datetime):
        return {"time": value.astimezone(UTC).isoformat()}
    if isinstance(value, (bytes, memoryview)):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, (dict, list)):
        return {"json": value}
    return value


def _read(path: Path, told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    try:
        [(kind, value)] = told.items()
        if kind == "time":
            return datetime.fromisoformat(value)
        if kind == "bytes":
            return base64.b64decode(value, validate=True)
        if kind == "json":
            return value
    except (TypeError, ValueError):
        pass
    raise _damaged(path, "a value is of no known kind")


def _damaged(path: Path, why: str) -> Corrupt:
    return Corrupt(f"the backup {path} is damaged: {why}; take another one")
