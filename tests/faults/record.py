"""What a fault test found, as a row of benchmarks/results/reliability.json.

Written only where SKERRY_FAULTS_RESULTS names the file, as `make test-faults` does; a row
replaces that of the same scenario. `tools/gen_reliability.py` makes docs/reliability.md of it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from skerry.plumbing.files import write_atomically
from tests.faults.fleet import CLOCK
from tests.faults.load import RATE_PER_SECOND, Outcome, Serves, Through


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scenario as it went; `figures` are seconds or counts of this scenario alone."""

    number: int
    scenario: str
    promise: str
    quick: bool
    through: str
    continuation: bool
    control_plane: bool
    requests: int
    under_way: int
    failed: int
    broken: int
    first_success_seconds: float
    worst_wait_seconds: float
    figures: dict[str, float]
    rate_per_second: float
    test: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a test is about, in words."""

    number: int
    text: str
    promise: str
    quick: bool = False
    through: Through = Through.ONE_GATEWAY
    control_plane: bool = False
    rate_per_second: float = RATE_PER_SECOND


def record(scenario: Scenario, found: Outcome, fleet: Serves, **figures: float) -> None:
    """Keep what a scenario came to, when somebody asked for that."""
    path = os.environ.get("SKERRY_FAULTS_RESULTS")
    if not path:
        return
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0].rpartition("::")[2]
    row = Row(
        number=scenario.number,
        scenario=scenario.text,
        promise=scenario.promise,
        quick=scenario.quick,
        through=scenario.through.value,
        continuation=fleet.continuation,
        control_plane=scenario.control_plane,
        requests=found.requests,
        under_way=found.under_way,
        failed=found.failed,
        broken=found.broken,
        first_success_seconds=round(found.first_success_seconds, 3),
        worst_wait_seconds=round(found.worst_wait_seconds, 3),
        figures={name: round(value, 3) for name, value in figures.items()},
        rate_per_second=scenario.rate_per_second,
        test=test,
        date=CLOCK.now().strftime("%Y-%m-%d"),
    )
    _write(Path(path), row)


def _write(path: Path, row: Row) -> None:
    rows = {entry["test"]: entry for entry in json.loads(path.read_bytes())} if _is(path) else {}
    rows[row.test] = asdict(row)
    ordered = sorted(rows.values(), key=lambda entry: entry["number"])
    write_atomically(path, json.dumps(ordered, indent=1).encode() + b"\n")


def _is(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
