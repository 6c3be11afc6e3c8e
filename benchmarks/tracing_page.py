"""The page of what tracing costs, from its results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

OFF = "off"
LISTED = (
    "What it costs, by `make bench-tracing`: [the gateway and a replica, traced and not]"
    "(../benchmarks/tracing.md).\n"
)
_PAGE = """# What tracing costs

Made by `make bench-tracing` from `benchmarks/results/tracing.json` on {machine};
the load average was {load:g} before it. Rounds: {rounds}. Figures are medians of the rounds, ratios
medians of each round's ratio to what is not traced.

The gateway with its picker, {connections} busy connections for requests/s and CPU, {rate:g}
requests a second for the first byte:

{gateway}

`skerry-replica` over gRPC, {calls} callers at once for requests/s and CPU, one alone for the first
response; {tokens} tokens each from a simulated engine. CPU is the host's, without its engine:

{replica}

How it is measured:

* Every round starts all three anew and measures them in turn, there and back again, each time
  {seconds:g} s for either load; another one is first in every round. Gateways are stopped while it
  isn't their turn. What else the machine does meets all alike, so compare ratios: absolute figures
  are of this machine.
* What is measured has one core, with the replicas' engines; clients, the gateways' engine and a
  collector that reads nothing share the others.
* *Spans a request* are those that were sent: Envoy drops what a collector takes too slowly.
* *Failed* counts requests that were not answered well, of one round.
"""
_COLUMNS = (
    "traced",
    "requests/s",
    "ratio",
    "CPU of a request, µs",
    "ratio",
    "first byte p50, ms",
    "ratio",
    "spans a request",
    "failed",
)


def page_of(values: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    calls, tokens = values["calls"]
    return _PAGE.format(
        machine=values["machine"],
        load=values["load_before"],
        rounds=values["rounds"],
        seconds=values["seconds"],
        connections=values["connections"],
        rate=values["rate"],
        calls=calls,
        tokens=tokens,
        gateway=_table(values["gateway"]),
        replica=_table(values["replica"]),
    )


def list_page(path: Path) -> None:
    """Link to the page at the end of another one, unless that is done."""
    text = path.read_text(encoding="utf-8")
    if LISTED not in text:
        path.write_text(f"{text}\n{LISTED}", encoding="utf-8")


def _table(rows: Mapping[str, Mapping[str, float]]) -> str:
    head = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    return "\n".join([*head, *(_row(name, row) for name, row in rows.items())])


def _row(name: str, row: Mapping[str, float]) -> str:
    return (
        f"| {name} | {row['requests_per_second']:,.0f} | {row['requests_per_second_ratio']:.3f} |"
        f" {row['cpu_microseconds']:,.0f} | {row['cpu_microseconds_ratio']:.3f} |"
        f" {row['p50_ms']:.2f} | {row['p50_ms_ratio']:.3f} | {row['spans']:.3f} |"
        f" {row['failed']:,.0f} |"
    )
