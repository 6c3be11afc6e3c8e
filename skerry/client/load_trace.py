"""Traces of real services' requests: when each came, how long its prompt and its answer were.

Reads CSV, JSON lines and Parquet, each also with the column names of Azure's, Mooncake's and
BurstGPT's published traces. `load_plan` makes requests of them.
"""

import csv
import gzip
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from skerry.plumbing.errors import InvalidInput, NotFound

ROWS_MAX = 1_000_000
TOKENS_MAX = 2_000_000  # of one prompt or answer: beyond every base model's context
BLOCKS_MAX = TOKENS_MAX // 512
_LINE_CHARS_MAX = 1_000_000

# Ours, Mooncake's, BurstGPT's, Azure's: the first column that is there counts.
_SECONDS = ("arrival_s", "at_seconds", "Timestamp")
_MILLISECONDS = ("timestamp",)
_DATES = ("TIMESTAMP",)
_INPUT = ("input_tokens", "input_length", "Request tokens", "ContextTokens")
_OUTPUT = ("output_tokens", "output_length", "Response tokens", "GeneratedTokens")
_BLOCKS = ("hash_ids", "blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRequest:
    """One request of a trace; each of the `blocks` stands for 512 tokens and all before them."""

    at_seconds: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def read_trace(path: Path, rows_max: int = ROWS_MAX) -> tuple[TracedRequest, ...]:
    """Return the file's first rows in order of time; InvalidInput names the row that is wrong."""
    if not path.is_file():
        raise NotFound(f"there is no trace {path}")
    rows: list[TracedRequest] = []
    with _rows(path) as found:
        for number, row in enumerate(itertools.islice(found, rows_max), start=1):
            try:
                rows.append(parse_row(row))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise InvalidInput(f"{path}: row {number}: {error}") from None
    if not rows:
        raise InvalidInput(f"{path} has no rows")
    rows.sort(key=lambda row: row.at_seconds)
    return tuple(rows)


def parse_row(row: Mapping[str, Any]) -> TracedRequest:
    """Return the request of one row; KeyError or ValueError says what is wrong with it."""
    blocks = _first(row, _BLOCKS, ()) or ()
    if isinstance(blocks, str):
        blocks = json.loads(blocks)
    if len(blocks) > BLOCKS_MAX:
        raise ValueError(f"{len(blocks)} blocks are more than {BLOCKS_MAX}")
    return TracedRequest(
        at_seconds=_moment(row),
        input_tokens=_tokens(row, _INPUT),
        output_tokens=_tokens(row, _OUTPUT),
        blocks=tuple(int(block) for block in blocks),
    )


@contextmanager
def _rows(path: Path) -> Iterator[Iterable[Mapping[str, Any]]]:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        yield _parquet_rows(path)
        return
    is_csv = name.endswith(".csv")
    if not is_csv and not name.endswith((".jsonl", ".ndjson")):
        raise InvalidInput(f"{path}: a trace is .csv, .jsonl or .parquet, the first two also .gz")
    try:
        with _text(path) as file:
            yield csv.DictReader(file) if is_csv else _json_rows(file)
    except (ValueError, RecursionError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise InvalidInput(f"{path} can't be read: {error}") from None


def _text(path: Path) -> TextIO:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _json_rows(file: TextIO) -> Iterator[Mapping[str, Any]]:
    while line := file.readline(_LINE_CHARS_MAX):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"{line.strip()[:40]!r} is not an object")
            yield row


def _parquet_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InvalidInput(
            f"{path}: Parquet needs pyarrow, which is no part of Skerry; install it into this"
            " environment, or turn the file into CSV or JSON lines"
        ) from None
    table: Any = pyarrow.parquet.ParquetFile(path)
    return (row for batch in table.iter_batches() for row in batch.to_pylist())


def _moment(row: Mapping[str, Any]) -> float:
    text = _first(row, _DATES)
    if text is not None:
        # Azure's have seven decimals, which Python's dates do not take.
        head, _, decimals = str(text).partition(".")
        moment = datetime.fromisoformat(head + "+00:00").timestamp()
        return moment + (float(f"0.{decimals}") if decimals else 0.0)
    milliseconds = _first(row, _MILLISECONDS)
    seconds = _first(row, _SECONDS) if milliseconds is None else float(milliseconds) / 1000
    if seconds is None:
        raise KeyError(f"no time; one of {', '.join((*_SECONDS, *_MILLISECONDS, *_DATES))}")
    value = float(seconds)
    if not 0 <= value < float("inf"):
        raise ValueError(f"the time {value} is none")
    return value


def _tokens(row: Mapping[str, Any], names: tuple[str, ...]) -> int:
    value = _first(row, names)
    if value is None:
        raise KeyError(f"no tokens; one of {', '.join(names)}")
    count = int(float(value))
    if not 0 <= count <= TOKENS_MAX:
        raise ValueError(f"{count} tokens are not 0..{TOKENS_MAX}")
    return count


def _first(row: Mapping[str, Any], names: tuple[str, ...], default: Any = None) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), default)
