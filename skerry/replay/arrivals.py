"""The requests of a trace as arrays: when, in which region, how many tokens in and out.

`skerry simulate` and the benchmark read files here, in the formats that `skerry load --trace` takes
and with a column `region` where there is one. Parquet needs pyarrow, which is no part of Skerry.
"""

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from scheduler.compiled import Floats, Ints
from skerry.client.load_trace import TOKENS_MAX, TracedRequest, parse_row, read_trace
from skerry.plumbing.errors import InvalidInput, NotFound

ROWS_MAX = 20_000_000
COPIES_MAX = 1_000
REGION_NAMES = ("region", "plane")
# Of copies of one request: as far apart as people who act on the same event.
COPY_SPREAD_SECONDS = 15.0
_PARQUET_NAMES: Mapping[str, tuple[str, ...]] = {
    "at": ("arrival_s", "at_seconds", "Timestamp"),
    "prompt": ("input_tokens", "input_length", "Request tokens", "ContextTokens"),
    "output": ("output_tokens", "output_length", "Response tokens", "GeneratedTokens"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Requests in order of time, from second 0 on; `names` are the regions' by number."""

    at: Floats
    region: Ints
    prompt: Ints
    output: Ints
    names: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Return how long they last."""
        return float(self.at[-1]) if len(self.at) else 0.0


def arrivals_of(
    at: Iterable[float],
    prompt: Iterable[int],
    output: Iterable[int],
    region: Iterable[Any] | None = None,
) -> Arrivals:
    """Return requests in order of time, the first at 0; without regions all are of one."""
    moments = np.asarray(list(at) if not isinstance(at, np.ndarray) else at, dtype=np.float64)
    order = np.argsort(moments, kind="stable")
    names: tuple[str, ...] = ("all",)
    numbers = np.zeros(len(moments), dtype=np.int64)
    if region is not None:
        found, numbers = np.unique(_array(region), return_inverse=True)
        names = tuple(str(one) for one in found)
    return Arrivals(
        at=moments[order] - (moments[order[0]] if len(order) else 0.0),
        region=numbers.astype(np.int64)[order],
        prompt=np.clip(_array(prompt).astype(np.int64)[order], 1, TOKENS_MAX),
        output=np.clip(_array(output).astype(np.int64)[order], 1, TOKENS_MAX),
        names=names,
    )


def read_arrivals(path: Path, rows_max: int = ROWS_MAX) -> Arrivals:
    """Return the file's first rows; InvalidInput names what is wrong with it."""
    if not path.is_file():
        raise NotFound(f"there is no trace {path}")
    if path.name.endswith(".parquet"):
        return _from_parquet(path, rows_max)
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv"):
        return _from_csv(path, rows_max)
    return _from_rows(read_trace(path, rows_max), None)


def repeated(arrivals: Arrivals, copies: int, seed: int = 1) -> Arrivals:
    """Return each request so many times, copies up to `COPY_SPREAD_SECONDS` apart.

    More users who do the same at about the same time: load grows and its bursts stay.
    """
    if not 1 <= copies <= COPIES_MAX or copies * len(arrivals.at) > ROWS_MAX:
        raise InvalidInput(f"{copies} copies make more than {ROWS_MAX:,} requests; take fewer")
    if copies == 1:
        return arrivals
    chance = np.random.default_rng(seed)
    at = np.repeat(arrivals.at, copies)
    at += chance.uniform(0.0, COPY_SPREAD_SECONDS, len(at))
    order = np.argsort(at, kind="stable")
    return Arrivals(
        at=at[order],
        region=np.repeat(arrivals.region, copies)[order],
        prompt=np.repeat(arrivals.prompt, copies)[order],
        output=np.repeat(arrivals.output, copies)[order],
        names=arrivals.names,
    )


def spread_over(arrivals: Arrivals, names: Sequence[str], seed: int = 1) -> Arrivals:
    """Return the requests of a trace without regions spread evenly over some."""
    chance = np.random.default_rng(seed)
    return Arrivals(
        at=arrivals.at,
        region=chance.integers(0, len(names), len(arrivals.at)).astype(np.int64),
        prompt=arrivals.prompt,
        output=arrivals.output,
        names=tuple(names),
    )


def _from_csv(path: Path, rows_max: int) -> Arrivals:
    requests: list[TracedRequest] = []
    regions: list[str] = []
    try:
        with _text(path) as file:
            for number, row in enumerate(csv.DictReader(file), start=1):
                if number > rows_max:
                    break
                try:
                    requests.append(parse_row(row))
                except (KeyError, TypeError, ValueError) as error:
                    raise InvalidInput(f"{path}: row {number}: {error}") from None
                named = (row[name] for name in REGION_NAMES if row.get(name))
                if (region := next(named, None)) is not None:
                    regions.append(region)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} can't be read: {error}") from None
    if not requests:
        raise InvalidInput(f"{path} has no rows")
    if regions and len(regions) != len(requests):
        raise InvalidInput(f"{path}: some rows name a region and others do not")
    return _from_rows(requests, regions or None)


def _from_rows(rows: Sequence[TracedRequest], regions: Sequence[str] | None) -> Arrivals:
    return arrivals_of(
        [row.at_seconds for row in rows],
        [row.input_tokens for row in rows],
        [row.output_tokens for row in rows],
        regions,
    )


def _from_parquet(path: Path, rows_max: int) -> Arrivals:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InvalidInput(
            f"{path}: Parquet needs pyarrow, which is no part of Skerry; install it into this"
            " environment, or turn the file into CSV"
        ) from None
    table: Any = pyarrow.parquet.read_table(path).slice(0, rows_max)
    known = set(table.schema.names)
    columns = {}
    for what, names in _PARQUET_NAMES.items():
        name = next((one for one in names if one in known), None)
        if name is None:
            raise InvalidInput(f"{path} has none of the columns {', '.join(names)}")
        columns[what] = _numbers(table.column(name))
    region = next((one for one in REGION_NAMES if one in known), None)
    regions = table.column(region).to_pylist() if region is not None else None
    return arrivals_of(columns["at"], columns["prompt"], columns["output"], regions)


def _numbers(column: Any) -> Floats:
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _array(values: Iterable[Any]) -> Any:
    return values if isinstance(values, np.ndarray) else np.asarray(list(values))


def _text(path: Path) -> TextIO:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8-sig", newline="")
