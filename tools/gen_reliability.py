"""Writes the tables of docs/reliability.md: `make test-faults` and `make soak` run it.

Promises and faults are those of `fault_rows`; the figures beside them are what the tests under
tests/faults, the soak and the benchmarks left in benchmarks/results. A test holds the page to them.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.fault_rows import PROMISES, ROWS, FaultRow, Promise

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks" / "results"
RESULTS = FOLDER / "reliability.json"
SOAK = FOLDER / "soak.json"
PAGE = ROOT / "docs" / "reliability.md"
SOAKS_SHOWN = 10  # of each kind, the newest

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

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What was measured last: scenarios under load, and long runs by kind."""

    rows: Sequence[Row]
    soaks: Mapping[str, Sequence[Row]] = field(default_factory=dict)


def read_results() -> Results:
    """Return what lies in benchmarks/results."""
    return Results(
        rows=json.loads(RESULTS.read_bytes()),
        soaks=json.loads(SOAK.read_bytes()) if SOAK.is_file() else {},
    )


def page(text: str, found: Results) -> str:
    """Return the page's text with every table in its place."""
    for name, content in (
        ("promises", promises_table(found)),
        ("faults", faults_table(found)),
        ("results", table(found.rows)),
        ("soaks", soaks_table(found.soaks)),
    ):
        text = _between(text, name, content)
    return text


def _between(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{content}{end}{after}"


def promises_table(found: Results) -> str:
    """Return a line for each promise, with the last figure of what holds it."""
    lines = [
        f"| {one.promise} | {figure_of(one, found)} | {_named(one.tests)} | `{one.command}` |"
        f" {one.gap} |"
        for one in PROMISES
    ]
    head = "| promise | last figure | held by | measured by | not held |"
    return "\n".join((head, "|---|---|---|---|---|", *lines, ""))


def figure_of(promise: Promise, found: Results) -> str:
    """Return the last figure of a promise in words; `not measured here` where there is none."""
    kind, _, what = promise.figure.partition(":")
    match kind:
        case "faults":
            return _told_by(found.rows, (what,) if what else promise.tests)
        case "soak":
            return _last_soak(found.soaks.get(what, ()), what)
        case _:
            return promise.figure


def faults_table(found: Results) -> str:
    """Return a line for each fault of the catalogue."""
    head = "| # | fault | then | held by | last figure | not held |"
    lines = [_fault(row, found) for row in ROWS]
    return "\n".join((head, "|---|---|---|---|---|---|", *lines, ""))


def _fault(row: FaultRow, found: Results) -> str:
    told = _told_by(found.rows, row.tests, nothing="")
    cells = (str(row.number), row.fault, row.promise, _named(row.tests), told, row.lacks)
    return f"| {' | '.join(cells)} |"


def _named(tests: Sequence[str]) -> str:
    """Return tests as links to their files, each under its function's name."""
    told = []
    for test in tests:
        path, _, function = test.partition("::")
        name = function.removeprefix("test_") if function != "*" else Path(path).stem
        told.append(f"[{name}](../tests/{path})")
    return "<br>".join(told)


def _told_by(rows: Sequence[Row], tests: Sequence[str], nothing: str = "not measured here") -> str:
    """Return what the scenarios of these tests came to altogether."""
    names = {test.rpartition("::")[2] for test in tests}
    of = [row for row in rows if row["test"].partition("[")[0] in names]
    if not of:
        return nothing
    requests, failed, broken = (
        sum(row[name] for row in of) for name in ("requests", "failed", "broken")
    )
    told = [f"{requests:,} requests: {failed} failed, {broken} streams broke"]
    figures: dict[str, float] = {}
    for row in of:
        for name, value in row["figures"].items():
            figures[name] = max(value, figures.get(name, value))
    told += [f"{name.replace('_', ' ')} {value:g}" for name, value in figures.items()]
    return f"{'; '.join(told)} ({max(row['date'] for row in of)})"


def _last_soak(rows: Sequence[Row], kind: str) -> str:
    return f"{_soak(rows[-1], kind)} ({rows[-1]['date']})" if rows else "not measured here"


def _soak(row: Row, kind: str) -> str:
    if kind == "away":
        return (
            f"{row['requests']:,} requests in {row['seconds']:g} s: {row['failed']} failed,"
            f" {row['broken']} streams broke"
        )
    if kind == "killed":
        kept = row["lost"] or f"none lost of {row['acknowledged']:,} acknowledged"
        return f"{row['kills']:,} kills: {kept}"
    if kind == "certificates":
        return (
            f"{row['requests']:,} requests in {row['seconds']:g} s, {row['renewals']} renewals of"
            f" {row['life_seconds']:g} s: {row['failed']} failed, {row['streams_broken']} of"
            f" {row['streams']} streams broke, {row['links_lost']} links lost"
        )
    return (
        f"{row['pauses']:,} pauses, {row['writes']:,} writes: {row['stale_writes']} stale,"
        f" slowest takeover {row['slowest_takeover_seconds']:g} s"
    )


def soaks_table(soaks: Mapping[str, Sequence[Row]]) -> str:
    """Return the newest long runs, newest first."""
    lines = ["| run | what | came to | also | machine |", "|---|---|---|---|---|"]
    for kind, what in (
        ("away", "no control plane"),
        ("paused", "the leader paused"),
        ("killed", "the desired state's writer killed"),
        ("certificates", "everybody's certificates renewed"),
    ):
        for row in reversed(soaks.get(kind, ())[-SOAKS_SHOWN:]):
            cells = (row["date"], what, _soak(row, kind), _also(row, kind), row["machine"])
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join((*lines, ""))


def _also(row: Row, kind: str) -> str:
    if kind == "away":
        return (
            f"gateway back {row['first_success_after_gateway_seconds']:g} s; longest wait"
            f" {row['worst_wait_seconds']:g} s; memory {row['memory_mib_early']:g} ->"
            f" {row['memory_mib_late']:g} MiB"
        )
    if kind == "certificates":
        ended = "refused" if row["ended_refused"] else "not refused"
        return (
            f"{row['rate_per_second']:g} a second, {row['spilled']:,} answered by the other plane;"
            f" {row['peer_handshakes']} new connections to peer ports, {row['links_made']} links"
            f" made; p99 {row['p99_seconds']:g} s; an ended certificate {ended}"
        )
    return f"seed {row['seed']}"


def table(rows: Sequence[Row]) -> str:
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


def _cells(row: Row) -> tuple[str, ...]:
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
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read_results()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
