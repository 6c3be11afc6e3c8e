"""Every request that a load generator sent or shed, in memory and as JSON lines.

`load` fills it, `load_summary` counts it. A file is written line by line as requests end, so that
a run that is killed leaves what it has seen.
"""

import contextlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from skerry.client.gateways import Cause, RequestKind, Result
from skerry.plumbing.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request of the ledger; times in seconds since the ledger began.

    `planned_at` is when it should have been sent; `itl_seconds` are the pauses between pieces.
    """

    number: int
    kind: RequestKind
    started_at: float
    first_token_at: float | None
    ended_at: float
    gateway: str
    preferred: str
    attempts: int
    result: Result
    tokens: int
    error: str = ""
    id: str = ""
    planned_at: float | None = None
    plane: str = ""
    replica: str = ""
    queue_seconds: float | None = None
    continued: int = 0
    cause: Cause | None = None
    finish_reason: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    itl_seconds: Sequence[float] = ()

    @property
    def ttft_seconds(self) -> float | None:
        """Return the time to the first token, None when none came."""
        return None if self.first_token_at is None else self.first_token_at - self.started_at


@dataclass(slots=True)
class Ledger:
    """Every request, in the order of their ends; `sink` is given each as it ends."""

    clock: Clock
    sink: Callable[[RequestRecord], None] | None = None
    began_at: float = 0.0
    records: list[RequestRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin counting time now."""
        self.began_at = self.clock.monotonic()

    def now(self) -> float:
        """Return the seconds since the ledger began."""
        return self.clock.monotonic() - self.began_at

    def add(self, record: RequestRecord) -> None:
        """Keep a record, and hand it on."""
        self.records.append(record)
        if self.sink is not None:
            self.sink(record)


def compact(seconds: Sequence[float]) -> Sequence[float]:
    """Return the numbers in four bytes each: a million answers have a hundred million pauses."""
    return array("f", seconds)


def render_record(record: RequestRecord) -> str:
    """Return a record as one JSON object, without a line end."""
    row = asdict(record) | {"itl_seconds": [round(s, 6) for s in record.itl_seconds]}
    return json.dumps(row)


def write_ledger(path: Path, records: Sequence[RequestRecord]) -> None:
    """Write one JSON object per line and request, in the order of their ends."""
    with ledger_file(path) as write:
        for record in records:
            write(record)


@contextlib.contextmanager
def ledger_file(path: Path) -> Iterator[Callable[[RequestRecord], None]]:
    """Yield what writes a record as a line of the file, which is there at once."""
    with open(path, "w", encoding="utf-8", buffering=1) as file:

        def write(record: RequestRecord) -> None:
            file.write(render_record(record) + "\n")

        yield write
