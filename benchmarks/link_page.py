"""The page docs/benchmarks/link.md from the results of `bench_link`, which calls `write_page`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "link.md"
# From the issue; the shares are of one core.
PLANES = 5_000
FEWER = " This run had fewer: it does not show that {:,} keep within them."
RETURN_SECONDS, UNARY_MS, RSS_MB, CORE = 60.0, 200.0, 600.0, 0.5
# The benchmark itself makes about 2 of load; above this others have used the machine, too.
LOAD_MAX = 4.0
BUSY = """

**Others used the machine in this run**, at that load with many times what it has: times by the wall
clock, and above all calls that had to wait for a core, tell of them and not of the control plane.
Its CPU share and its memory are its own; the share is too high where neighbours share a core."""
TEXT = """# Benchmark: planes on one control plane

Made by `make bench-link` from `benchmarks/results/link.json`; do not edit. Machine: {machine}.
{pinned} The load average was {load_before} before the run and {load_after} after it.{busy}

{planes:,} planes, each with two pools, four nodes and its replicas, run the agents' own link code
(`workload_plane/link`) over mTLS in two processes; each keeps what it is told on its disk. The
control plane is the real process over a real {database} store, its solver in processes of their
own. An operator asks for a plane 20 times a second all the while.

The bounds are those for {bound_planes:,} planes.{fewer}

| figure | bound | measured | share of the bound | met |
|---|---|---|---|---|
{rows}

* **Steady**, {steady_seconds:g} s: heartbeats every {period:g} s both ways. {late} were answered
  more than 0.5 s late. An operator's call took {steady_p50} ms (median), {steady_p99} ms (p99).
* **One change for all** (a deployment's scaling, which every plane's desired state tells): the
  first plane had it on its disk after {first_push} s, the last after {last_push} s; a call took
  {push_p99} ms (p99) meanwhile.
* **Return** after `kill -9` and a restart one second later: the operator API answered
  {answers} s after the start; the first plane was back after {first} s, the median after
  {median} s, the last after {last} s. {sent} of them were sent a desired state: who holds what is
  wanted is sent nothing. Until the last was back the control plane used {cpu} s of CPU; an
  operator's call took {return_p50} ms (median), {return_p99} ms (p99).

Calls that were refused or took over 10 s are not in the times: {refused} in the steady phase,
{refused_back} of {calls_back} during the return, until the API answered for the most part. CPU is
the control plane's own, from its processor-time counter; the solvers' is not in it. Memory
is resident memory, its highest while the planes return. Other sizes: `PLANES=500 make bench-link`.
"""


def write_page(results: Mapping[str, Any]) -> None:
    """Write the page."""
    PAGE.write_text(page(results))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def page(results: Mapping[str, Any]) -> str:
    """Return the page of one run's results."""
    steady, back, all_told = results["steady"], results["return"], results["push_all"]
    figures = (
        ("last plane back after a restart", RETURN_SECONDS, back["last_s"], "s"),
        ("operator's call meanwhile, p99", UNARY_MS, back["unary"]["p99_ms"], "ms"),
        ("resident memory", RSS_MB, max(back["rss_mb"], steady["rss_mb"]), "MB"),
        ("steady CPU", 100 * CORE, 100 * steady["core"], "% of a core"),
    )
    # The bounds are for so many planes: a smaller fleet within them shows nothing.
    small = results["planes"] < PLANES
    rows = [
        f"| {name} | ≤ {bound:g} {unit} | {_shown(value)} {unit} | {value / bound:.2f} |"
        f" {'**no**' if value > bound else 'not shown' if small else 'yes'} |"
        for name, bound, value, unit in figures
    ]
    load = max(results["load_before"], results["load_after"])
    pinned = "The control plane had the first core, the planes and the operator the last one."
    return TEXT.format(
        machine=results["machine"],
        planes=results["planes"],
        database={"sqlite": "SQLite", "postgresql": "PostgreSQL"}[results["database"]],
        load_before=results["load_before"],
        load_after=results["load_after"],
        pinned=pinned if results["pinned"] else "No process was bound to a core.",
        bound_planes=PLANES,
        fewer=FEWER.format(PLANES) if results["planes"] < PLANES else "",
        busy=BUSY if load > LOAD_MAX else "",
        rows="\n".join(rows),
        steady_seconds=steady["seconds"],
        period=2.0 if results["planes"] > 1_000 else 1.0,
        late=steady["late"] or "None",
        steady_p50=steady["unary"]["p50_ms"],
        steady_p99=steady["unary"]["p99_ms"],
        first_push=all_told["first_s"],
        last_push=all_told["last_s"],
        push_p99=all_told["unary"]["p99_ms"],
        answers=back["answers_s"],
        first=back["first_s"],
        median=back["median_s"],
        last=back["last_s"],
        sent=back["sent_whole"] or "None",
        cpu=back["cpu_seconds"],
        refused=steady["unary"]["refused"],
        refused_back=back["unary"]["refused"],
        calls_back=back["unary"]["refused"] + back["unary"]["calls"],
        return_p50=back["unary"]["p50_ms"],
        return_p99=back["unary"]["p99_ms"],
    )
