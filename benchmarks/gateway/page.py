"""The page of the gateway's benchmark, from its results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PLAIN, OURS, PICKER = "Envoy, plain", "Skerry", "Skerry, picker"
RELAY = "Skerry, picker and relay"
# From the issue.
PLAIN_SHARE_MIN, PICKER_REQUESTS_MIN, PICKER_ADDED_MS_MAX = 0.95, 8_000, 0.5
EVENTS_SHARE_MIN = 0.95
# Plain Envoy's requests per CPU-second where the figure for the picker was found.
PLAIN_REQUESTS_THERE = 23_052

_COLUMNS = (
    "gateway",
    "first byte p50 / p99 ms at {slow:g}/s",
    "at {fast:g}/s",
    "most requests/s",
    "requests per CPU-second",
    "SSE events per CPU-second",
    "at rest, % of a core",
    "memory MiB",
    "failed",
)
_PAGE = """# The gateway beside others

Made by `make bench-gateway` on {machine}; the load average was {load:.1f}
before it. One run, {rounds} rounds, every contender started anew in each, one after the other; the
figures are medians of the rounds. Each measurement takes {seconds:g} s.

{aims}

{table}

What each step costs inside Envoy, and why the aims that are missed are:
[decision 3](../decisions/0003-gateway-measurements.md).

{skipped}What each is:

{told}

How it is measured:

* Two cores: the gateway with all its processes on the first, client and engine together on the
  second, so a fast gateway is bounded by its core and not by the load. *Per CPU-second* counts the
  processor time of all of a gateway's processes (for `direct` that of the engine).
* The engine answers fixed bytes from one uvloop process; a stream gets an event every 4 ms, each in
  a write of its own. The client speaks over raw connections, kept alive.
* *First byte*: requests leave at the rate whatever the answers do, {slow:g} a second, which all can
  carry, and {fast:g} in the rounds in which a gateway answered at least twice as many: where that
  was not in all of them, it says in how many, and the median is of those.
* *Most requests*: {connections} connections that are always busy, answers in one piece. *Events*:
  {streams} streams at once, {events} events each.
* *At rest* is the processor time of all its processes with nothing asked, for as long; the health
  checks and statistics of a gateway are in it.
* *Memory* is what is proportionally its own (PSS) after the load. *Failed* counts answers other
  than 200 and lost connections, of one round.
* Absolute figures are of this machine, and others that use it meanwhile lower them; compare within
  the run.
"""


def write_page(values: Mapping[str, Any], path: Path) -> None:
    """Write the page."""
    slow, fast = values["rates"]
    streams, events = values["streams"]
    skipped = values["skipped"]
    path.write_text(
        _PAGE.format(
            machine=values["machine"],
            load=values["load_before"],
            rounds=values["rounds"],
            seconds=values["seconds"],
            aims=aims(values["rows"], values["every_round"]),
            slow=slow,
            fast=fast,
            table=_table(values, slow, fast),
            skipped="".join(f"**Skipped**: {n}: {why}\n\n" for n, why in skipped.items()),
            told="\n".join(f"* {name}: {told}." for name, told in values["told"].items()),
            connections=values["connections"],
            streams=streams,
            events=events,
        )
    )


def aims(
    rows: Mapping[str, Mapping[str, Any]],
    every_round: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """Return a line for each of the issue's aims that can be judged."""
    lines = []
    if PLAIN in rows and OURS in rows:
        name = "requests_per_cpu_second"
        share = rows[OURS][name] / rows[PLAIN][name]
        lines.append(
            f"* Without the picker at least {PLAIN_SHARE_MIN} of plain Envoy's requests per"
            f" CPU-second: {share:.2f}, {_told(share >= PLAIN_SHARE_MIN)}."
        )
    if OURS in rows and PICKER in rows:
        found, bare = rows[PICKER], rows[OURS]
        each = found["requests_per_cpu_second"]
        lines.append(
            f"* With the picker at least {PICKER_REQUESTS_MIN:,} requests per CPU-second of both"
            f" processes: {each:,.0f}, {_told(each >= PICKER_REQUESTS_MIN)}."
            f"{_beside_plain(rows, each)}"
        )
        # The lower rate, where every request wakes all processes: the dearer one.
        added = max(
            found[key] - bare[key]
            for key in ("ttfb_p50_ms", "fast_p50_ms")
            if found[key] is not None and bare[key] is not None
        )
        lines.append(
            f"* It adds at most {PICKER_ADDED_MS_MAX} ms to the median first byte, at either rate:"
            f" {added:.2f} ms{_partly(every_round[PICKER], ' at the higher one')},"
            f" {_told(added <= PICKER_ADDED_MS_MAX)}."
        )
        lines.append(_of_events(found, bare))
    return "\n".join(lines)


def _beside_plain(rows: Mapping[str, Mapping[str, Any]], each: float) -> str:
    """Return the same as a share of plain Envoy's, which is this machine's measure."""
    if PLAIN not in rows:
        return ""
    here = rows[PLAIN]["requests_per_cpu_second"]
    return (
        f" Plain Envoy has {here:,.0f} here, {PLAIN_REQUESTS_THERE:,} where the aim was set: of it"
        f" {each / here:.2f}, the aim {PICKER_REQUESTS_MIN / PLAIN_REQUESTS_THERE:.2f}."
    )


def _of_events(found: Mapping[str, Any], bare: Mapping[str, Any]) -> str:
    whole, beyond = (
        found[key] / bare[key]
        for key in ("events_per_cpu_second", "events_per_cpu_second_beyond_rest")
    )
    return (
        f"* It costs nothing per streamed event: {whole:.2f} of the events per CPU-second without"
        f" it, {_told(whole >= EVENTS_SHARE_MIN)} (at least {EVENTS_SHARE_MIN}); without what both"
        f" take at rest {beyond:.2f}. A question for each 250 events is in it."
    )


def _table(values: Mapping[str, Any], slow: float, fast: float) -> str:
    rows, rounds = values["rows"], values["every_round"]
    columns = [column.format(slow=slow, fast=fast) for column in _COLUMNS]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, *(_row(name, row, rounds[name]) for name, row in rows.items())])


def _row(name: str, row: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> str:
    shown = f"**{name}**" if name.startswith(OURS) else name
    fast = "-"
    if row["fast_p50_ms"] is not None:
        fast = f"{row['fast_p50_ms']:.2f} / {row['fast_p99_ms']:.2f}{_partly(rounds)}"
    return (
        f"| {shown} | {row['ttfb_p50_ms']:.2f} / {row['ttfb_p99_ms']:.2f} | {fast} |"
        f" {row['requests_per_second']:,.0f} | {row['requests_per_cpu_second']:,.0f} |"
        f" {row['events_per_cpu_second']:,.0f} | {100 * row['rest_core']:.1f} |"
        f" {row['memory_mib']:,.0f} | {row['failed']:,.0f} |"
    )


def _partly(rounds: Sequence[Mapping[str, Any]], where: str = "") -> str:
    """Return in how many rounds the higher rate was measured, nothing where in all or in none."""
    measured = sum(row["fast_p50_ms"] is not None for row in rounds)
    if measured in (0, len(rounds)):
        return ""
    return f" (measured in {measured} of {len(rounds)}{where})"


def _told(reached: bool) -> str:
    return "reached" if reached else "**missed**"
