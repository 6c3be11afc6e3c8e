"""The plots of the scheduler's benchmark, from the rows of its results; `report` calls `draw`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

Row = Mapping[str, Any]

SIZES = ("10x50", "100x500", "1000x2000", "1M")
# method: (name, colour that colour-blind people tell apart, marker)
METHODS = {
    "skerry": ("Skerry", "#0072B2", "o"),
    "greedy": ("greedy (first-fit decreasing)", "#E69F00", "s"),
    "best_fit": ("best fit (MostAllocated, binpack)", "#CC79A7", "D"),
    "cp_sat_full": ("CP-SAT, full model", "#009E73", "^"),
}
GAP_PERCENT_MIN = 1e-3  # a proven optimum is drawn here: 0 has no place on a log axis
GAP_PERCENT_MAX = 100.0
# Above the axis of gaps: plans that leave more unserved, and none at all.
LESS_AT, NOTHING_AT = 400.0, 2500.0
SECONDS_MIN = 1e-4


def draw(rows: Sequence[Row], folder: Path) -> tuple[str, ...]:
    """Write the plots and return their file names."""
    folder.mkdir(parents=True, exist_ok=True)
    _time_and_gap(rows, folder / "scheduler-time-gap.png")
    _cost_and_unmet(rows, folder / "scheduler-cost-unmet.png")
    return ("scheduler-time-gap.png", "scheduler-cost-unmet.png")


def _time_and_gap(rows: Sequence[Row], path: Path) -> None:
    figure, panels = plt.subplots(2, 2, figsize=(11, 8.5), sharex=True, sharey=True)
    for axes, size in zip(panels.flat, SIZES, strict=True):
        mine = [row for row in rows if row["size"] == size]
        for row in mine:
            if row.get("cold_s") is not None:
                _point(axes, row)
        _unmet_labels(axes, mine)
        axes.set(xscale="log", yscale="log", title=size.replace("x", " pools x ") + _unit(size))
        axes.set_ylim(GAP_PERCENT_MIN / 2, 8000)
        axes.axhspan(GAP_PERCENT_MAX * 1.7, 8000, color="0.94", zorder=0)
        axes.axhline(950, color="white", linewidth=2, zorder=1)
        ticks = [1e-3, 1e-2, 1e-1, 1, 10, 100, LESS_AT, NOTHING_AT]
        axes.set_yticks(ticks)
        names = ["proven\noptimal", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"]
        axes.set_yticklabels([*names, "serves less", "no valid plan"])
        axes.minorticks_off()
        axes.grid(which="major", color="0.88", linewidth=0.7)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} s"))
        axes.tick_params(labelbottom=True)
    for axes in panels[1]:
        axes.set_xlabel("cold solve, seconds")
    for axes in panels[:, 0]:
        axes.set_ylabel("cost over the certified bound")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=name)
        for name, colour, marker in METHODS.values()
    ]
    handles += [
        Line2D([], [], color="0.3", marker="o", fillstyle="none", linestyle="", label=
               "Skerry refined in the background (cold + refine)"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False)
    figure.suptitle("Time of a first solve and gap, one point per seed; lower left is better")
    figure.tight_layout(rect=(0, 0.07, 1, 0.99))
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    plt.close(figure)


def _unit(size: str) -> str:
    return " accelerators" if size == "1M" else " deployments"


def _point(axes: Axes, row: Row) -> None:
    _, colour, marker = METHODS[row["method"]]
    seconds, at = max(row["cold_s"], SECONDS_MIN), _height(row)
    axes.plot(seconds, at, marker, color=colour, markersize=8, alpha=0.85, zorder=3)
    refined = row.get("refined_gap")
    if refined is not None and row.get("refine_s") is not None:
        later = seconds + row["refine_s"]
        lower = max(100 * refined, GAP_PERCENT_MIN)
        axes.plot([seconds, later], [at, lower], ":", color=colour, linewidth=1, zorder=2)
        axes.plot(later, lower, marker, color=colour, markersize=8, fillstyle="none", zorder=3)


def _unmet_labels(axes: Axes, rows: Sequence[Row]) -> None:
    """Write once per method how many deployments its points of "serves less" leave unmet."""
    for method, (_, colour, _marker) in METHODS.items():
        mine = [r for r in rows if r["method"] == method and _height(r) == LESS_AT]
        if not mine:
            continue
        amounts = [row["unmet"] for row in mine]
        low, high = f"{min(amounts):.2g}", f"{max(amounts):.2g}"
        near = [r for r in rows if _height(r) == LESS_AT and r["cold_s"] < 10 * mine[0]["cold_s"]]
        right = max(max(row["cold_s"], SECONDS_MIN) for row in near)
        is_lower = method == "greedy"  # the two simple ones take about as long
        axes.annotate(
            f"{low} unmet" if low == high else f"{low} to {high} unmet",
            (right, LESS_AT),
            xytext=(8, -1 if is_lower else 1),
            textcoords="offset points",
            va="top" if is_lower else "bottom",
            color=colour,
            fontsize=8,
        )


def _height(row: Row) -> float:
    if row.get("gap") is not None:
        return min(max(100 * float(row["gap"]), GAP_PERCENT_MIN), GAP_PERCENT_MAX)
    valid = row.get("unmet") is not None and not row.get("faults")
    return LESS_AT if valid else NOTHING_AT


def _cost_and_unmet(rows: Sequence[Row], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.2))
    for number, size in enumerate(SIZES):
        for place, method in enumerate(METHODS):
            mine = [r for r in rows if (r["size"], r["method"]) == (size, method)]
            at = number + (place - 1.5) * 0.19
            _, colour, marker = METHODS[method]
            for row in mine:
                cost = row.get("gap") if method == "skerry" else row.get("cost_over_bound")
                full = row.get("gap") is not None
                if cost is not None:
                    left.plot(
                        at, 100 * cost, marker, color=colour, markersize=7,
                        fillstyle="full" if full else "none",
                    )  # fmt: skip
            unmet = [r["unmet"] for r in mine if r.get("unmet") is not None]
            if unmet:
                right.bar(at, max(unmet), 0.17, color=colour)
                right.annotate(
                    f"{max(unmet):.3g}", (at, max(unmet)), (0, 2), fontsize=8, ha="center",
                    textcoords="offset points",
                )  # fmt: skip
            elif mine:
                right.annotate(
                    "no plan", (at, 0), (0, 2), fontsize=7, ha="center", rotation=90,
                    textcoords="offset points", color=colour,
                )  # fmt: skip
    for axes in (left, right):
        axes.set_xticks(range(len(SIZES)), SIZES)
        axes.grid(axis="y", color="0.88", linewidth=0.7)
        axes.set_axisbelow(True)
        for edge in range(len(SIZES) - 1):
            axes.axvline(edge + 0.5, color="0.9", linewidth=0.8)
    low, high = left.get_ylim()
    left.set_ylim(min(2 * low, -0.5), 2 * high)
    left.axhline(0, color="0.3", linewidth=1)
    left.set(ylabel="cost over the certified bound, %", title="Cost, one point per seed")
    for axes in (left, right):
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.set_xlim(-0.5, len(SIZES) - 0.5)
    right.set(ylabel="deployments unmet (a part counts as a part)", title="Unmet, worst seed")
    right.set_ylim(0, 2 * right.get_ylim()[1])
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=name)
        for name, colour, marker in METHODS.values()
    ]
    hollow = "hollow: serves less or does not pack, so its cost is no saving"
    handles.append(
        Line2D([], [], color="0.4", marker="o", fillstyle="none", linestyle="", label=hollow)
    )
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    plt.close(figure)
