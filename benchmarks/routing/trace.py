"""The requests of the routing benchmark: Mooncake's trace, or synthetic conversations for tests.

A block is 512 tokens of a prompt and stands for all before it too, as in the trace.
"""

import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.venvs import FOLDER, PYARROW, ensure
from skerry.client.load_trace import TracedRequest, read_trace

BLOCK_TOKENS = 512
_CONVERT = """
import gzip, json, sys
import pyarrow.parquet
rows = pyarrow.parquet.read_table(sys.argv[1]).to_pylist()
with gzip.open(sys.argv[2], "wt") as file:
    for row in rows:
        file.write(json.dumps(row) + "\\n")
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when, how long, and the whole blocks of its prompt."""

    number: int
    at: float
    tokens: int
    output: int
    keys: tuple[int, ...]


def mooncake(path: Path, rows_max: int) -> tuple[Asked, ...]:
    """Return the trace's requests; raises InvalidInput, NotFound or CannotInstall."""
    return as_asked(read_trace(_readable(path), rows_max))


def as_asked(rows: Sequence[TracedRequest]) -> tuple[Asked, ...]:
    """Return requests whose times begin at 0."""
    return tuple(
        Asked(
            number=number,
            at=row.at_seconds - rows[0].at_seconds,
            tokens=max(1, row.input_tokens),
            output=max(1, row.output_tokens),
            keys=row.blocks[: row.input_tokens // BLOCK_TOKENS],
        )
        for number, row in enumerate(rows)
    )


def conversations(requests: int, rate: float, seed: int = 1) -> tuple[Asked, ...]:
    """Return made-up conversations that grow turn by turn, all behind one of a few beginnings."""
    chance = random.Random(seed)
    next_block = 1_000
    talks: list[list[int]] = []
    found = []
    at = 0.0
    for number in range(requests):
        at += chance.expovariate(rate)
        if not talks or chance.random() < 0.3:
            talks.append([chance.randrange(3)])
        talk = chance.choice(talks[-200:])
        for _ in range(chance.randint(1, 12)):
            talk.append(next_block)
            next_block += 1
        tokens = len(talk) * BLOCK_TOKENS + chance.randrange(BLOCK_TOKENS)
        found.append(Asked(number, at, tokens, chance.randint(20, 600), tuple(talk)))
    return tuple(found)


def shared_share(asked: Sequence[Asked]) -> float:
    """Return the part of all prompt tokens that one cache without end would have had."""
    known: set[int] = set()
    hits = total = 0
    for request in asked:
        total += request.tokens
        for key in request.keys:
            if key not in known:
                break
            hits += BLOCK_TOKENS
        known.update(request.keys)
    return hits / total


def _readable(path: Path) -> Path:
    """Return the trace as JSON lines: this environment has nothing that reads Parquet."""
    if path.suffix != ".parquet" or not path.is_file():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = FOLDER / f"{path.stem}.jsonl.gz"
    if not target.exists() or target.stat().st_mtime < path.stat().st_mtime:
        python = ensure(PYARROW).binary("python")
        half = target.with_suffix(".part")
        command = [str(python), "-c", _CONVERT, str(path), str(half)]
        subprocess.run(command, check=True)
        half.replace(target)
    return target
