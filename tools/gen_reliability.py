"""Writes the table of docs/reliability.md: `make test-faults` runs it.

The rows are what the tests under tests/faults found, in benchmarks/results/reliability.json; a test
holds the page to that file.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"

_BEGIN, _END = "<!-- results -->\n", "<!-- end of results -->\n"

_COLUMNS = (
    "scenario",
    "promise",
    "asked through",
    "continuation",
    "requests",
    "under way",
    "failed",
    "broken streams",
    "first success s",
    "longest wait s",
    "also",
    "run",
)


def page(text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page's text with the table of the rows in its place."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table(rows)}{_END}{after}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what was found altogether, and a line for each row."""
    requests, failed, broken = (
        sum(row[name] for row in rows) for name in ("requests", "failed", "broken")
    )
    rates = sorted({row["rate_per_second"] for row in rows})
    paces = ", ".join(f"{rate:g}" for rate in rates)
    told = f"{len(rows)} scenarios, {requests:,} requests at {paces} a second:"
    lines = (
        f"{told} {failed} failed, {broken} streams broke.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
        *(f"| {' | '.join(_cells(row))} |" for row in rows),
        "",
    )
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    figures = [f"{name.replace('_', ' ')} {value:g}" for name, value in row["figures"].items()]
    if row["control_plane"]:
        figures.append("with the control plane")
    return (
        row["scenario"],
        row["promise"],
        row["through"],
        "on" if row["continuation"] else "off",
        str(row["requests"]),
        str(row["under_way"]),
        str(row["failed"]),
        str(row["broken"]),
        f"{row['first_success_seconds']:.2f}",
        f"{row['worst_wait_seconds']:.2f}",
        "; ".join(figures),
        f"{'quick, ' if row['quick'] else ''}{row['date']}",
    )


def main() -> int:
    """Write the page and return 0."""
    rows = json.loads(RESULTS.read_bytes())
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
