"""The page docs/benchmarks/scheduler.md, from the rows of the results: targets, tables, notes.

`bench_scheduler` calls `write_report`; what a figure says is written by hand, the figures are not.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.plots import METHODS, SIZES, draw

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "benchmarks"
HEARTBEATS = ROOT / "benchmarks" / "results" / "heartbeats.json"

Row = Mapping[str, Any]
Shown = Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One target: what of a row is compared, and what it must be at most."""

    name: str
    value: Callable[[Row], float | None]
    most: float
    shown: Shown


def _seconds(value: float) -> str:
    if value < 0.01:
        return f"{1000 * value:.1f} ms"
    return f"{value:.3f} s" if value < 1 else f"{value:.2f} s"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _plain(value: float) -> str:
    return f"{value:,.4g}"


def _mebibytes(value: float) -> str:
    return f"{value:,.0f} MB"


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms"


def _key(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.get(name)


def _integer_gap(row: Row) -> float | None:
    """Return the gap over the bound of whole replicas, None where only the linear one was taken."""
    return row.get("integer_gap") if "integer_bound" in row else None


def _denied(name: str) -> Callable[[Row], float | None]:
    """Return 0 where the row says yes, 1 where it says no."""
    return lambda row: None if row.get(name) is None else float(not row[name])


def _yes(value: float) -> str:
    return "no" if value else "yes"


def _unmet_beyond(row: Row) -> float | None:
    """Return what is unmet beyond what provably cannot be served."""
    unmet, bound = row.get("unmet"), row.get("unmet_bound")
    return None if unmet is None or bound is None else max(0.0, round(unmet - bound, 4))


def _repair_unmet_beyond(row: Row) -> float | None:
    after, before = row.get("repair_unmet"), row.get("warm_few_unmet")
    return None if after is None or before is None else max(0.0, round(after - before, 4))


def _faults(row: Row) -> float | None:
    return float(len(row.get("faults") or ()))


COLD, WARM = _key("cold_s"), _key("warm_s")
VALID = Figure(name="faults found by the judge", value=_faults, most=0, shown=_plain)
LOSS = (
    Figure(name="repair after the loss of a plane", value=_key("repair_ms"), most=100,
           shown=_milliseconds),
    Figure(name="unmet after it, beyond before", value=_repair_unmet_beyond, most=0, shown=_plain),
    Figure(name="healthy replicas moved", value=_key("repair_healthy_moved_share"), most=0.001,
           shown=_percent),
    Figure(name="cost over the bound of what is left", value=_key("repair_gap"), most=0.02,
           shown=_percent),
    Figure(name="the same, refined", value=_key("repair_refined_gap"), most=0.015,
           shown=_percent),
    Figure(name="time of refining", value=_key("repair_refine_s"), most=10, shown=_seconds),
)  # fmt: skip
TARGETS: Mapping[str, tuple[Figure, ...]] = {
    "10x50": (
        Figure(name="cold", value=COLD, most=0.2, shown=_seconds),
        Figure(name="warm", value=WARM, most=0.05, shown=_seconds),
        Figure(name="cost over the LP", value=_key("lp_gap"), most=0.0015, shown=_percent),
        Figure(name="cost over the certified bound", value=_key("gap"), most=0.0015,
               shown=_percent),
        Figure(name="cost over the sharpest bound, refining's included", value=_key("integer_gap"),
               most=0.0015, shown=_percent),
        Figure(name="integer optimum proven behind it", value=_denied("refined_optimal"), most=0,
               shown=_yes),
        VALID,
    ),
    "100x500": (
        Figure(name="cold", value=COLD, most=1.0, shown=_seconds),
        Figure(name="warm", value=WARM, most=0.3, shown=_seconds),
        Figure(name="served set proven maximal", value=_denied("served_set_proven"), most=0,
               shown=_yes),
        Figure(name="cost over the integer bound, at once", value=_integer_gap, most=0.02,
               shown=_percent),
        Figure(name="the same, refined", value=_key("refined_integer_gap"), most=0.01,
               shown=_percent),
        Figure(name="time of refining", value=_key("refine_s"), most=5, shown=_seconds),
        Figure(name="peak memory", value=_key("peak_mb"), most=300, shown=_mebibytes),
        VALID,
    ),
    "1000x2000": (
        Figure(name="cold", value=COLD, most=8.0, shown=_seconds),
        Figure(name="warm", value=WARM, most=1.0, shown=_seconds),
        Figure(name="cost over the certified bound", value=_key("gap"), most=0.015,
               shown=_percent),
        Figure(name="servable but unserved", value=_unmet_beyond, most=0, shown=_plain),
        Figure(name="peak memory", value=_key("peak_mb"), most=1024, shown=_mebibytes),
        *LOSS,
        VALID,
    ),
    "1M": (
        Figure(name="cold", value=COLD, most=10.0, shown=_seconds),
        Figure(name="warm", value=WARM, most=1.5, shown=_seconds),
        Figure(name="cost over the certified bound", value=_key("gap"), most=0.009,
               shown=_percent),
        Figure(name="peak memory", value=_key("peak_mb"), most=1024, shown=_mebibytes),
        *LOSS,
        VALID,
    ),
}  # fmt: skip


def write_report(results: Mapping[str, Any]) -> None:
    """Write the page and its plots."""
    rows: Sequence[Row] = results["rows"]
    plots = draw(rows, FOLDER)
    parts = [
        _head(results),
        "## Targets\n",
        _targets(rows),
        f"\n![Time of a first solve and gap, for each size and method]({plots[0]})\n",
        f"\n![Cost over the certified bound, and unmet demand]({plots[1]})\n",
        "\n## All methods\n",
        _methods(rows),
        "\n## Ours in detail\n",
        _details(rows),
        _remarks(results),
        NOTES,
    ]
    page = FOLDER / "scheduler.md"
    page.write_text("\n".join(parts))
    print(f"wrote {page.relative_to(ROOT)} and {len(plots)} plots")


def _head(results: Mapping[str, Any]) -> str:
    return f"""# Benchmark: the scheduler

Made by `make bench-scheduler` from `benchmarks/results/scheduler.json`; do not edit. Machine:
{results["machine"]}. Every row ran in a process of its own, single runs; imports and compilation
({_or_dash(results.get("compile_s"), _seconds)} once on an empty cache) are not in the times.
Seeds make the fleets; `file` is the shared instance of that size.
"""


def _or_dash(value: float | None, shown: Shown) -> str:
    return "–" if value is None else shown(value)


def _targets(rows: Sequence[Row]) -> str:
    lines = ["| size | figure | target | reached, worst seed | met |", "|---|---|---|---|---|"]
    for size, figures in TARGETS.items():
        mine = [r for r in rows if (r["size"], r["method"]) == (size, "skerry")]
        for figure in figures if mine else ():
            lines.append(_target(size, figure, mine))
    lines += _heartbeats()
    return "\n".join(lines) + "\n"


def _target(size: str, figure: Figure, rows: Sequence[Row]) -> str:
    told = [(value, row) for row in rows if (value := figure.value(row)) is not None]
    target = "yes" if figure.shown is _yes else f"≤ {figure.shown(figure.most)}"
    if not told:
        return f"| {size} | {figure.name} | {target} | not measured | – |"
    value, row = max(told, key=lambda pair: pair[0])
    met = "**yes**" if value <= figure.most and len(told) == len(rows) else "**no**"
    of = f" (seed {row['seed']})" if len({v for v, _ in told}) > 1 else ""
    missing = len(rows) - len(told)
    gaps = f"; {missing} of {len(rows)} seeds without a figure" if missing else ""
    return f"| {size} | {figure.name} | {target} | {figure.shown(value)}{of}{gaps} | {met} |"


def _heartbeats() -> list[str]:
    if not HEARTBEATS.exists():
        return []
    told = json.loads(HEARTBEATS.read_text())
    late = told["lateness_ms_max"]
    frozen = " (with `gc.freeze()` after the start)" if told.get("gc_frozen") else ""
    line = (
        f"| {told['size']} | heartbeats late while it solves{frozen} | ≤ 100 ms | {late:.0f} ms"
        f" | {'**yes**' if late <= 100 else '**no**'} |"
    )
    return [line]


def _methods(rows: Sequence[Row]) -> str:
    titles = ("size", "method", "seed", "cold", "warm", "gap", "served set proven", "unmet")
    others = ("survival shortfall", "$/h", "over bound", "moves", "peak", "judge")
    lines = [f"| {' | '.join((*titles, *others))} |", "|" + "---|" * (len(titles) + len(others))]
    for row in rows:
        proven = "–" if row.get("served_set_proven") is None else _yes(not row["served_set_proven"])
        cells = (
            row["size"],
            METHODS[row["method"]][0],
            str(row["seed"]),
            _or_dash(row.get("cold_s"), _seconds),
            _or_dash(row.get("warm_s"), _seconds),
            _or_dash(row.get("gap"), _percent),
            proven,
            _or_dash(row.get("unmet"), _plain),
            _or_dash(row.get("survival"), _plain),
            _or_dash(row.get("cost"), lambda value: f"{value:,.0f}"),
            _or_dash(_over_bound(row), _percent),
            _or_dash(row.get("moves"), lambda value: f"{value:,.0f}"),
            _or_dash(row.get("peak_mb"), _mebibytes),
            _verdict(row),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _over_bound(row: Row) -> float | None:
    over: float | None = row.get("gap") if row["method"] == "skerry" else row.get("cost_over_bound")
    return over


def _verdict(row: Row) -> str:
    if row.get("error"):
        return str(row["error"]).replace("|", "/")
    if row.get("unmet") is None:
        return f"no plan ({row.get('status', 'no row')})".replace("_", " ").lower()
    faults = row.get("faults") or ["valid"]
    more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    return str(faults[0]) + more


DETAILS: Sequence[tuple[str, str, Shown]] = (
    ("replicas", "replicas", lambda value: f"{value:,.0f}"),
    ("accelerators", "accelerators", lambda value: f"{value:,.0f}"),
    ("columns", "columns", lambda value: f"{value:,.0f}"),
    ("bound", "certified bound, $/h", lambda value: f"{value:,.0f}"),
    ("lp_gap", "cost over the LP", _percent),
    ("integer_gap", "over the integer bound", _percent),
    ("refined_gap", "refined", _percent),
    ("refine_s", "refining took", _seconds),
    ("warm_few_s", "warm, 1 % grown by 20 %", _seconds),
    ("moves_few", "its moves", lambda value: f"{value:,.0f}"),
    ("repair_ms", "repair", _milliseconds),
    ("repair_unmet", "unmet after", _plain),
    ("repair_healthy_moved_share", "healthy moved", _percent),
    ("repair_gap", "over the bound after it", _percent),
    ("repair_refined_gap", "refined", _percent),
    ("repair_cost_increase", "dearer than before it", _percent),
)


def _details(rows: Sequence[Row]) -> str:
    titles = ["size", "seed", *(title for _, title, _ in DETAILS)]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        if row["method"] == "skerry":
            cells = [_or_dash(row.get(key), shown) for key, _, shown in DETAILS]
            lines.append(f"| {row['size']} | {row['seed']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _remarks(results: Mapping[str, Any]) -> str:
    """Return what the figures themselves say that a reader should not have to find."""
    rows: Sequence[Row] = results["rows"]
    ours = [row for row in rows if row["method"] == "skerry"]
    told = []
    for size in SIZES:
        distances = [
            row["refined_cost"] / row["lp_bound"] - 1.0
            for row in ours
            if row["size"] == size and row.get("refined_optimal") and row.get("lp_bound")
        ]
        if distances:
            told.append(
                f"- {size}: the proven integer optimum itself is {_percent(min(distances))} to"
                f" {_percent(max(distances))} over the LP; nothing can be nearer to it."
            )
    tight = [r for r in ours if (r.get("unmet_bound") or 0.0) > 0.0]
    if tight:
        names = ", ".join(f"{row['size']} seed {row['seed']}" for row in tight)
        told.append(f"- Not everything can be served, whoever plans: {names}.")
    unlike = [r for r in ours if r.get("same_again") is False]
    if unlike:
        names = ", ".join(f"{row['size']} seed {row['seed']}" for row in unlike)
        told.append(f"- Two cold solves differed, which they must not: {names}.")
    cheaper = [
        f"{METHODS[row['method']][0]} at {row['size']} seed {row['seed']}"
        for row in rows
        if row["method"] != "skerry" and row.get("gap") is not None and row["gap"] < -1e-5
    ]
    if cheaper:
        told.append(f"- CHEAPER THAN OUR BOUND, which is then wrong: {', '.join(cheaper)}.")
    loads = [row["machine_load"] for row in ours if row.get("machine_load") is not None]
    if loads and not math.isclose(max(loads), 0.0):
        told.append(
            f"- The machine's load before the solves was {min(loads):.1f} to {max(loads):.1f};"
            " above about 1.2 others were at work, and times are too long."
        )
    return "\n## What the rows show\n\n" + "\n".join(told) + "\n" if told else ""


NOTES = """
## What is measured

- **Instances**: `benchmarks/placement_instances.py` describes a fleet by size and seed in the
  values of the format `skerry-placement-v0`; `write(path, values)` makes a file that `skerry
  schedule` takes.
- **gap**: cost over the certified bound, less one. The bound holds for plans that are as good in
  all levels before the cost, so others have a gap only where they serve and survive as well as
  ours; "over bound" is their cost over the same bound, and below zero it is demand not served.
- **integer bound**: of whole replicas (`Session.certify`), taken at 100x500 only; **over the LP**
  compares with the linear relaxation of the full model, with unmet demand and shortfalls as ours.
- **cold**: `Session.solve(problem)` of a new session to a checked plan, reasons and envelopes
  included. For the others the clock runs from ready arrays to counts, which favours them.
- **warm**: the plan runs, every demand changes by up to 1 %, a start costs a cent over a day;
  then one deployment in a hundred grows by 20 %. For the others warm is the same from nothing.
  **moves** are replicas that leave a pool while their deployment starts one elsewhere
  (`scheduler.plan.diff`).
- **repair**: all pools of the plane with the most accelerators in use are lost, after both warm
  plans. The cost is compared with the bound that a solve of its own certifies for the fleet that
  is left, where both serve alike; **refined** is `Session.refine()` after the repair.
- **unmet** in deployments, a part counting as a part; **survival shortfall** in replicas of the
  first shape, summed over the losses of all planes.
- **peak** is the process's own high-water mark (`VmHWM`), interpreter and libraries included; for
  ours over all of it: two cold solves, refining, warm, repair.
- **judge**: `benchmarks/judge.py` knows no solver; it recomputes levels and cost from the counts
  and packs every pool's nodes. Greedy and best fit place on nodes themselves: there it checks
  those.

## The others

- **greedy**: by priority, largest replicas first; the cheapest eligible pool per unit of
  throughput that has room, its first node that fits. Planes are filled up to what survival allows
  while that serves all; once everybody had a turn, replicas are added until the promise holds.
- **best fit**: the same order and rules, but the node that is fullest after placing (accelerators
  and host memory weigh the same), as Kubernetes' MostAllocated and Nomad's binpack do, which know
  no price. Filling the best node until it has no room is the same as scoring replica by replica.
- **CP-SAT**: all columns as integers, unmet demand of each class and survival held at what ours
  reaches, so that only the cost is left to find; 25 s after presolve has begun, two workers, 4
  GiB of address space. It counts by pools: a plan of it may not pack ("do not pack"), and then
  has no gap.
"""
