"""The page docs/benchmarks/openb.md, its plot and the results file, from the benchmark's rows.

Called by `benchmarks/bench_openb.py`; what a figure says is written by hand, the figures are not.
"""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Row = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "openb.json"
PAGE = ROOT / "docs" / "benchmarks" / "openb.md"
PLOT = "openb-allocation.png"

TARGET = 0.956  # on default, in the trace's order, without moves
MOVED_SHARE_TARGET = 0.02
# FGD, ATC'23: allocation at 130 % arrivals on the default list, shuffled.
PUBLISHED = {"best_fit": 0.9308, "fgd": 0.9539}
# policy: (name, colour that colour-blind people tell apart)
POLICIES = {
    "best_fit": ("best fit", "#CC79A7"),
    "fgd": ("FGD", "#E69F00"),
    "skerry": ("Skerry", "#0072B2"),
    "skerry_moves": ("Skerry, with moves", "#009E73"),
}
ORDERS = {"trace": "in the trace's order", "shuffled": "shuffled"}

MADE = """\
Made by `make bench-openb`; every figure below comes from that command ({seeds} seeds, {cpus} CPUs,
{seconds:.0f} s in all). Worst and median are over the seeds; the packer's constants were chosen on
streams of other seeds, which begin alike in the trace's order: the list itself is one."""

METHOD = """\
## What is measured

The public openb trace (Alibaba, 2023; from `hkust-adsl/kubernetes-scheduler-simulator`,
Apache-2.0) lists 1,213 nodes with 6,212 GPUs and, per list, some 8,000 requests: none, a part of
one, one, two, four or eight GPUs, with CPU and memory, in `gpuspec10` for some only certain kinds.
They arrive one by one and stay. A list asks for about the whole fleet; it is drawn from again,
with a seed, until {load:.0%} of the GPUs have been asked for, as in the FGD paper (ATC'23). One
that fits somewhere is placed at once, always; one that does not fit is refused for good. The
figure is the share of the GPUs that is allocated at the end. *In the trace's order* is the list as
it was recorded and then the draws; *shuffled* mixes all of it, as the paper does. Every packing is
replayed by a checker that knows nothing of the packer: nothing overcommitted, no wrong kind,
nobody refused who would have fit.

## The policies

* **Best fit**, as in the paper: the node with the least CPU and GPU left, half and half.
* **FGD**, written anew from the paper's rule: the node whose expected fragment, over the mix of
  requests, grows least. Scores are rounded to whole numbers and ties go to the first node.
* **Skerry**: the node is filled up in thought. From the same mix {futures} futures are dealt, of
  {future_length} requests each, the same ones for every node; what a node would have left over
  after them, on average, is what it is expected to waste. A replica goes where that grows least, in
  steps of {step:g} GPU, ties to the first node. FGD asks whether the *next* request still fits;
  this asks what is left when the node is full, so it sees CPU that runs out before the GPUs do. A
  small term keeps whole nodes for requests of several GPUs, with which a future hardly ever begins.
  It knows the mix and nothing else: neither what comes next nor how much is still to come.
* **Skerry, with moves**: the same, but before a refusal one replica may be moved to another node,
  where that lowers what both nodes are expected to waste; at no time have more than
  {moved_share_max:.0%} of the placed replicas been moved. It finds few moves that pay: what is
  left over by then lies in parts of 0.19 GPU beside requests for 0.81, and one move makes none of
  those whole.
"""

ORDER_NOTE = """\
The trace's order is harder than a shuffled one: late in the list more GPUs, and more requests for
0.81 of one, are asked for than early on, so the mix that FGD and Skerry go by is not what comes."""

EARLY = """\
A high allocation must not be bought by turning large requests away. Refused up to
{required_load:.0%} of the capacity asked for, most in any seed and order; in brackets those for
eight GPUs."""

WORSE = """\
On {lists} Skerry refuses more of the early arrivals than FGD. Futures dealt from the whole mix do
too little to keep free what few requests need: a whole node, or a kind asked for by name."""

CEILINGS = """\
## The ceilings

A linear program with cutting-stock patterns for the parts of a GPU, CPU and memory in sum over the
nodes that are alike, and fractions allowed everywhere: a relaxation, so its optimum is a ceiling.

* **The ceiling** of a run, which the share refers to: the best packing, with hindsight, of
  everything that arrived, which like all four policies holds the early arrivals: those up to
  {required_load:.0%} of the capacity asked for that each of them accepted.
* **Any choice**: the best packing of any part of what arrived. It may leave out the requests for
  0.81 GPU, which leave 0.19 behind; a policy that takes whatever fits cannot.
* **The mix**: the largest multiple of the list's own mix that fits. It is no ceiling of a run: a
  full fleet still takes what happens to fit, and then holds another mix.
"""


def line_of(row: Row) -> str:
    """Return a row as one line for the terminal."""
    return (
        f"{row['list']:<11} {row['order']:<9} {row['seed']} {row['policy']:<13}"
        f"{row['allocation']:8.2%} of {row['ceiling']:.2%}, moved {row['moved_share']:.2%},"
        f" {row['seconds']:6.2f} s"
    )


def write(results: Row) -> None:
    """Write the results file, the plot and the page."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draw(results, PAGE.parent / PLOT)
    PAGE.write_text(page_of(results), encoding="utf-8")


def page_of(results: Row) -> str:
    """Return the page as Markdown."""
    rows = results["rows"]
    parts = [
        "# The openb trace: how full a fleet gets",
        MADE.format(**results, cpus=results["machine"]["cpus"]),
        verdict_of(rows),
        f"![Allocation while requests arrive]({PLOT})",
        METHOD.strip().format(**results["limits"]),
        *("\n\n".join(table_of(rows, order)) for order in ORDERS),
        published_of(rows),
        CEILINGS.strip().format(**results["limits"]),
        ceilings_of(rows),
        refusals_of(rows, results["limits"]),
    ]
    return "\n\n".join(parts) + "\n"


def chosen(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """Return the rows that have these values; there must be some."""
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert found, f"no rows with {wanted}"
    return found


def lists_of(rows: Sequence[Row]) -> list[str]:
    """Return the lists' names in order of appearance."""
    return list(dict.fromkeys(row["list"] for row in rows))


def verdict_of(rows: Sequence[Row]) -> str:
    """Return what was aimed at and whether it was reached."""
    still = min(
        r["allocation"] for r in chosen(rows, list="default", order="trace", policy="skerry")
    )
    moving = chosen(rows, policy="skerry_moves")
    worst = min(r["allocation"] for r in chosen(moving, list="default", order="trace"))
    most = max(r["moved_share"] for r in moving)
    reached = "reached" if still >= TARGET else "**not reached**"
    kept = "kept" if most <= MOVED_SHARE_TARGET else "**not kept**"
    return textwrap.fill(
        f"Target: at least {TARGET:.1%} on `default`, in the trace's order, without moves, worst "
        f"seed: {still:.2%}, {reached}. With moves: {worst:.2%}; at most {MOVED_SHARE_TARGET:.0%} "
        f"moved: {most:.2%} at most in any run, {kept}.",
        width=100,
    )


def table_of(rows: Sequence[Row], order: str) -> list[str]:
    """Return a heading and the table of one order."""
    lines = [
        "| list | policy | worst | median | share of the ceiling, worst | moved, most | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in lists_of(rows):
        for policy, (shown, _) in POLICIES.items():
            mine = chosen(rows, list=name, order=order, policy=policy)
            allocated = [row["allocation"] for row in mine]
            lines.append(
                f"| {name} | {shown} | {min(allocated):.2%} | {median(allocated):.2%} | "
                f"{min(row['share'] for row in mine):.2%} | "
                f"{max(row['moved_share'] for row in mine):.2%} | "
                f"{median(row['seconds'] for row in mine):.1f} |"
            )
    return [f"## Allocation at the end, {ORDERS[order]}", "\n".join(lines)]


def published_of(rows: Sequence[Row]) -> str:
    """Return our figures beside those of the FGD paper, which shuffles."""
    lines = [
        "## Beside the published figures",
        "",
        "The paper's own figures on `default`, whose stream is shuffled; ours are medians.",
        "",
        "| policy | published | here, shuffled | here, in the trace's order |",
        "|---|---|---|---|",
    ]
    for policy, (shown, _) in POLICIES.items():
        here = [
            median(r["allocation"] for r in chosen(rows, list="default", order=o, policy=policy))
            for o in ("shuffled", "trace")
        ]
        published = f"{PUBLISHED[policy]:.2%}" if policy in PUBLISHED else "-"
        lines.append(f"| {shown} | {published} | {here[0]:.2%} | {here[1]:.2%} |")
    lines += [
        "",
        ORDER_NOTE,
    ]
    return "\n".join(lines)


def ceilings_of(rows: Sequence[Row]) -> str:
    """Return the table of ceilings."""
    lines = [
        "| list | order | ceiling, least | any choice, least | the mix |",
        "|---|---|---|---|---|",
    ]
    for name in lists_of(rows):
        for order in ORDERS:
            mine = chosen(rows, list=name, order=order)
            lines.append(
                f"| {name} | {ORDERS[order]} | {min(row['ceiling'] for row in mine):.2%} | "
                f"{min(row['ceiling_free'] for row in mine):.2%} | {mine[0]['mix']:.2%} |"
            )
    return "\n".join(lines)


def refusals_of(rows: Sequence[Row], limits: Row) -> str:
    """Return how many were refused while there was room for all: what an average hides."""
    lines = [
        "## Who is refused early",
        "",
        EARLY.format(**limits),
        "",
        "| list | " + " | ".join(shown for shown, _ in POLICIES.values()) + " |",
        "|---" * (len(POLICIES) + 1) + "|",
    ]
    worse = []
    for name in lists_of(rows):
        most, cells = {}, []
        for policy in POLICIES:
            mine = chosen(rows, list=name, policy=policy)
            most[policy] = max(row["refused_early"] for row in mine)
            cells.append(f"{most[policy]} ({max(row['refused_eight_early'] for row in mine)})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        worse += [f"`{name}`"] if most["skerry"] > most["fgd"] else []
    if worse:
        lines += ["", textwrap.fill(WORSE.format(lists=" and ".join(worse)), width=100)]
    return "\n".join(lines)


def draw(results: Row, path: Path) -> None:
    """Draw allocation over what was asked for, one panel per list, in the trace's order."""
    curves = results["curves"]
    figure, panels = plt.subplots(1, len(curves), figsize=(4.2 * len(curves), 4), sharey=True)
    for axes, (name, mine) in zip(panels.flat, curves.items(), strict=True):
        for policy, curve in mine.items():
            shown, colour = POLICIES[policy]
            axes.plot(range(len(curve)), [100 * y for y in curve], color=colour, label=shown)
        first = chosen(results["rows"], list=name, order="trace")[0]
        axes.axhline(100 * first["ceiling"], color="0.3", linestyle=":", label="ceiling")
        axes.set(title=name, xlabel="GPUs asked for, % of capacity", xlim=(85, 130), ylim=(84, 98))
        axes.grid(color="0.9")
    panels.flat[0].set_ylabel("GPUs allocated, %")
    panels.flat[0].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
