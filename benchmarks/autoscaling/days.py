"""The days that the autoscaling benchmark replays, made from the shared traces and kept in build/.

`mlarge` is a trace of three regions as it is. A day of `m-mid` is made of ServeGen's rates: each
client's requests come with its rate, spread and token lengths of that day, in one of three regions
that lie eight hours apart.
"""

import gzip
import json
import math
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.venvs import FOLDER, PYARROW, ensure
from scheduler.compiled import Floats
from skerry.replay.arrivals import Arrivals, arrivals_of, repeated, spread_over

REGIONS = ("eu", "us", "asia")
DAY_SECONDS, WINDOW_SECONDS = 86_400, 600
SHIFT_SECONDS = 8 * 3_600
# Requests of one client in one window; a burst of more is a fault of its parameters.
REQUESTS_OF_WINDOW_MAX = 100_000
MLARGE_COPIES = 2
MID_REQUESTS_PER_SECOND = 20.0
SHORT_COPIES = 4  # of the half-hour traces
_CONVERT = """
import gzip, json, sys
import pyarrow.parquet
table = pyarrow.parquet.read_table(sys.argv[1])
kept = [name for name in table.schema.names if name != "hash_ids"]
with gzip.open(sys.argv[2], "wt", compresslevel=1) as file:
    json.dump(table.select(kept).to_pydict(), file)
"""

Columns = Mapping[str, Sequence[Any]]


def mlarge(traces: Path) -> Arrivals:
    """Return the shared day of three regions, each request as often as `MLARGE_COPIES` says."""
    columns = _columns(traces / "servegen_mlarge_3regions_24h.parquet")
    found = arrivals_of(
        columns["arrival_s"],
        columns["input_tokens"],
        columns["output_tokens"],
        [REGIONS[number] for number in columns["region"]],
    )
    return repeated(found, MLARGE_COPIES)


def short(traces: Path, name: str) -> Arrivals:
    """Return one of the half-hour traces, spread evenly over the regions."""
    columns = _columns(traces / f"{name}.parquet")
    found = arrivals_of(columns["arrival_s"], columns["input_tokens"], columns["output_tokens"])
    return spread_over(repeated(found, SHORT_COPIES), REGIONS)


def mid(traces: Path, day: int) -> Arrivals:
    """Return a day (0 to 6) of ServeGen's m-mid, the week at `MID_REQUESTS_PER_SECOND`."""
    rates = _columns(traces / "servegen_rates_language_m-mid.parquet")
    tokens = _tokens(_columns(traces / "servegen_tokens_language_m-mid.parquet"))
    rows = [number for number, client in enumerate(rates["client"]) if client in tokens]
    week = sum(rates["rate_rps"][row] for row in rows) * WINDOW_SECONDS / (7 * DAY_SECONDS)
    scale = MID_REQUESTS_PER_SECOND / week
    clients = sorted(tokens)
    chance = np.random.default_rng(100 + day)
    at, prompt, output, region = [], [], [], []
    for row in rows:
        client = rates["client"][row]
        place = clients.index(client) % len(REGIONS)
        begins = (rates["window_s"][row] + place * SHIFT_SECONDS) % (7 * DAY_SECONDS)
        if not day * DAY_SECONDS <= begins < (day + 1) * DAY_SECONDS:
            continue
        moments = _moments(rates, row, scale, chance) + (begins - day * DAY_SECONDS)
        table = tokens[client][min(begins // 21_600, len(tokens[client]) - 1)]
        at.append(moments)
        prompt.append(_drawn(table[0], len(moments), chance))
        output.append(_drawn(table[1], len(moments), chance))
        region += [REGIONS[place]] * len(moments)
    return arrivals_of(np.concatenate(at), np.concatenate(prompt), np.concatenate(output), region)


def _moments(rates: Columns, row: int, scale: float, chance: np.random.Generator) -> Floats:
    """Return when a client's requests come in a window: the published gaps, made wider."""
    rate = rates["rate_rps"][row] * scale
    shape = max(0.05, rates["iat_shape"][row] or 1.0)
    many = int(min(REQUESTS_OF_WINDOW_MAX, 1.5 * rate * WINDOW_SECONDS + 20))
    if rates["iat_dist"][row] == "weibull":
        gaps = chance.weibull(shape, many)
        mean = _weibull_mean(shape)
    else:
        gaps, mean = chance.gamma(shape, 1.0, many), shape
    # Begun somewhere within a gap, so that windows do not all begin with a request.
    moments = np.cumsum(gaps / mean / rate) - gaps[0] / mean / rate * chance.random()
    return np.asarray(moments[moments < WINDOW_SECONDS], dtype=np.float64)


def _weibull_mean(shape: float) -> float:
    return math.gamma(1.0 + 1.0 / shape)


def _drawn(quantiles: Sequence[int], many: int, chance: np.random.Generator) -> Floats:
    """Return lengths with the given hundredths."""
    places = np.linspace(0.0, 1.0, len(quantiles))
    found: Floats = np.interp(chance.random(many), places, quantiles)
    return np.maximum(1.0, np.round(found))


def _tokens(columns: Columns) -> dict[str, list[tuple[list[int], list[int]]]]:
    """Return each client's quantiles of tokens in and out, in order of time."""
    found = defaultdict(list)
    order = sorted(range(len(columns["client"])), key=lambda row: columns["window_s"][row])
    for row in order:
        found[columns["client"][row]].append((columns["in_q"][row], columns["out_q"][row]))
    return dict(found)


def _columns(path: Path) -> Columns:
    """Return a Parquet file's columns; this environment has nothing that reads it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = FOLDER / f"{path.stem}.columns.json.gz"
    if not target.exists() or target.stat().st_mtime < path.stat().st_mtime:
        python = ensure(PYARROW).binary("python")
        half = target.with_suffix(".part")
        subprocess.run([str(python), "-c", _CONVERT, str(path), str(half)], check=True)
        half.replace(target)
    with gzip.open(target, "rt") as file:
        found: Columns = json.load(file)
    return found
