"""The scheduler's plans and answers as tables and sentences for people.

`skerry plan`, `explain`, `what-if`, `survive`, `schedule` and the demo print through it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skerry.cli.hypotheses import describe
from skerry.cli.render import Columns, render_table, shortage
from skerry.client.questions import Consequences, Explanation, Hypothesis, LossRow
from skerry.client.rows import (
    LevelRow,
    PlannedDeploymentRow,
    PlanPreview,
    ShedRow,
    UnplacedRow,
)
from skerry.fleet.cold_start import as_text

if TYPE_CHECKING:
    from rich.console import Console

ROWS_SHOWN_MAX = 50  # of a table for people; `-o json` has all
MOVES_SHOWN_MAX = 3  # of one deployment; the table of pools has the rest
# Levels that only put equal plans in an order: what is certified is certified before them.
_ORDERS = frozenset({"starts", "fragmentation"})
NOT_SOLVED = (
    "too many losses to place the whole fleet again for each: `skerry what-if` does it for one"
)

_PLACEMENTS: Columns = (
    ("DEPLOYMENT", lambda r: r.deployment),
    ("POOL", lambda r: r.pool),
    ("REPLICAS", lambda r: f"{r.replicas_before} -> {r.replicas_after}"),
    ("USD/H", lambda r: f"{r.cost_per_hour:.3f}"),
    ("WHY", lambda r: r.reason),
)
_DEPLOYMENTS: Columns = (
    ("DEPLOYMENT", lambda r: r.deployment),
    ("REPLICAS", lambda r: f"{r.replicas_before} -> {r.replicas_after}"),
    ("USD/H", lambda r: f"{r.cost_per_hour_before:.3f} -> {r.cost_per_hour_after:.3f}"),
    ("MOVES", lambda r: _moves(r)),
    ("UNMET", lambda r: r.replicas_unmet or "-"),
    ("READY IN", lambda r: _ready_in(r)),
)
_LEVELS: Columns = (
    ("LEVEL", lambda r: r.level),
    ("VALUE", lambda r: f"{r.value:,.6g}"),
    ("BOUND", lambda r: f"{r.bound:,.6g}"),
    ("GAP", lambda r: f"{r.gap:.2%}"),
    ("UNIT", lambda r: r.unit),
)
_PRICES: Columns = (
    ("SCARCE POOL", lambda r: r.pool),
    ("ONE MORE ACCELERATOR IS WORTH USD/H", lambda r: f"{r.dollars_per_hour:.4f}"),
)
_SHED: Columns = (
    ("GIVEN UP", lambda r: r.deployment),
    ("POOL", lambda r: r.pool),
    ("REPLICAS", lambda r: r.replicas),
    ("FOR", lambda r: ", ".join(r.taken_by) or "-"),
    ("WHY", lambda r: r.reason),
)
_STEPS: Columns = (
    ("CHANGE", lambda r: r[0]),
    ("DEPLOYMENT", lambda r: r[1]),
    ("REPLICAS", lambda r: r[2]),
    ("FROM", lambda r: r[3]),
    ("TO", lambda r: r[4]),
)
_WAYS: Columns = (
    ("USD/H MORE", lambda r: "?" if (more := r.dollars_per_hour) is None else f"{more:.4g}"),
    ("IT WOULD FIT IF", lambda r: r.change),
)
_LOSSES: Columns = (
    ("LOST", lambda r: r[0]),
    ("DEPLOYMENT", lambda r: r[1]),
    ("WANTED", lambda r: r[2]),
    ("LEFT", lambda r: r[3]),
    ("PROMISED", lambda r: r[4]),
    ("MISSING", lambda r: r[5]),
    ("UNMET AFTER MOVES", lambda r: r[6]),
)


def print_plan(console: "Console", title: str, preview: PlanPreview) -> None:
    """Print a plan: each deployment now and then, where and why, what is left out and proven."""
    console.print(title, style="bold")
    _print_deployments(console, preview.deployments)
    _print(console, _PLACEMENTS, preview.placements)
    for rejection in preview.rejections[:ROWS_SHOWN_MAX]:
        console.print(f"  not {rejection.pool}: {rejection.reason}", style="dim")
    if (more := len(preview.rejections) - ROWS_SHOWN_MAX) > 0:
        console.print(f"  and {more} more rejections; `-o json` has all", style="dim")
    _print_unplaced(console, preview.unplaced)
    _print_shed(console, preview.shed)
    _print_levels(console, preview.levels)
    _print(console, _PRICES, preview.prices)
    if preview.solver_reason:
        console.print(f"not by a better solver: {preview.solver_reason}", style="yellow")
    quality = "optimal" if preview.optimal else "feasible, not proven best"
    console.print(
        f"cost per hour: {preview.cost_per_hour_before:.3f} ->"
        f" {preview.cost_per_hour_after:.3f} USD"
        f"  ({quality}; {preview.solver}, {preview.solve_seconds * 1000:.0f} ms)"
    )


def print_explanation(console: "Console", found: Explanation) -> None:
    """Print why a deployment is where it is or is not, and what would place the rest."""
    where = f" on {found.pool}" if found.pool else ""
    console.print(f"{found.deployment}{where}: {_replicas(found.replicas)}", style="bold")
    for reason in found.reasons:
        console.print(f"  {reason}")
    if found.conflict:
        console.print(f"ruled out together by: {', '.join(found.conflict)}")
    _print(console, _WAYS, found.ways)


def print_consequences(
    console: "Console", changes: Sequence[Hypothesis], found: Consequences
) -> None:
    """Print what some changes would do."""
    console.print(f"if {' and '.join(map(describe, changes))}:", style="bold")
    console.print(f"  {summarise(found)}")
    steps = [
        *(("move", m.deployment, m.replicas, m.from_pool, m.to_pool) for m in found.moved),
        *(("start", p.deployment, p.replicas, "-", p.pool) for p in found.placed),
        *(("end", p.deployment, p.replicas, p.pool, "-") for p in found.evicted),
    ]
    _print(console, _STEPS, steps)
    _print_shed(console, found.shed)
    _print_unplaced(console, found.unplaced)
    quality = "optimal" if found.optimal else "feasible, not proven best"
    console.print(
        f"cost per hour: {found.cost_per_hour_before:.3f} -> {found.cost_per_hour_after:.3f} USD"
        f"  ({quality}; {found.solver})"
    )


def print_losses(console: "Console", losses: Sequence[LossRow]) -> None:
    """Print the matrix of losses: what each leaves, and which promises it breaks."""
    cells: list[tuple[str, ...]] = []
    for loss in losses:
        lost = f"{loss.domain} {loss.name}"
        cells += [
            (
                lost,
                survivor.deployment,
                f"{survivor.wanted:g}",
                f"{survivor.left:g}",
                f"{survivor.promised:g}" if survivor.promised else "-",
                f"{survivor.shortfall:g}" if survivor.shortfall else "-",
                "?" if survivor.unmet_after is None else str(survivor.unmet_after or "-"),
            )
            for survivor in loss.survivors
        ]
        if not loss.survivors:
            cells.append((lost, "(none runs there)", "-", "-", "-", "-", "-"))
    _print(console, _LOSSES, cells)
    for loss in losses:
        if loss.shed:
            console.print(f"after the loss of {loss.domain} {loss.name}:")
            _print_shed(console, loss.shed)
    if not all(loss.solved for loss in losses):
        console.print(f"? {NOT_SOLVED}", style="yellow")
    broken = [f"{loss.domain} {loss.name}" for loss in losses if not loss.holds]
    if broken:
        shown = ", ".join(broken[:ROWS_SHOWN_MAX])
        console.print(f"a promise breaks with the loss of: {shown}", style="red")
    else:
        console.print("no promise is broken by any of these", style="green")


def summarise(found: Consequences) -> str:
    """Return one line on what some changes would do."""
    moved = sum(move.replicas for move in found.moved)
    started = sum(placement.replicas for placement in found.placed)
    ended = sum(placement.replicas for placement in found.evicted)
    left = sum(row.replicas for row in found.unplaced)
    before = sum(row.replicas for row in found.unplaced_before)
    delta = found.cost_per_hour_after - found.cost_per_hour_before
    place = "every replica has a place" if not left else f"{_replicas(left)} without a place"
    was = f" (now {before})" if left != before else ""
    return (
        f"{_replicas(moved)} would move, {started} start, {ended} end;"
        f" {'+' if delta >= 0 else '-'}${abs(delta):.3f}/h; {place}{was}"
    )


def describe_gap(levels: Sequence[LevelRow]) -> str:
    """Return one line on how much better than this plan any plan may be, level by level."""
    open_levels = [level for level in levels if level.gap > 0.0 and level.level not in _ORDERS]
    if not open_levels:
        return "none; no plan serves more, survives more or costs less"
    return "; ".join(
        f"{level.gap:.2%} of {level.level} (no plan is below {level.bound:,.6g} {level.unit})"
        for level in open_levels
    )


def describe_readiness(row: PlannedDeploymentRow) -> str | None:
    """Return one line on when what a plan starts is ready, and on what that rests, if it does."""
    if row.ready_in_seconds is not None:
        return f"{row.deployment} is ready in about {_ready_in(row)[1:]}: {row.ready_basis}"
    if _waits(row):
        return f"when {row.deployment} is ready nobody can tell: {row.ready_basis}"
    return None


def _print_deployments(console: "Console", rows: Sequence[PlannedDeploymentRow]) -> None:
    # Of a fleet of thousands, what a plan leaves as it is would hide what it does.
    found = [row for row in rows if _says_something(row)]
    _print(console, _DEPLOYMENTS, found or rows)
    if found and (same := len(rows) - len(found)):
        console.print(f"  and {same} as before", style="dim")
    told = [line for row in found if (line := describe_readiness(row)) is not None]
    told += [f"{row.deployment}: {line}" for row in found for line in shortage(row)]
    for line in told[:ROWS_SHOWN_MAX]:
        console.print(f"  {line}", style="dim", markup=False)


def _says_something(row: PlannedDeploymentRow) -> bool:
    return bool(
        row.replicas_before != row.replicas_after
        or row.replicas_unmet
        or row.replicas_short
        or row.moves
        or row.cost_per_hour_before != row.cost_per_hour_after
        or row.ready_in_seconds is not None
        or _waits(row)
    )


def _moves(row: PlannedDeploymentRow) -> str:
    moves = [f"{m.replicas} {m.from_pool} -> {m.to_pool}" for m in row.moves[:MOVES_SHOWN_MAX]]
    more = len(row.moves) - MOVES_SHOWN_MAX
    return "; ".join([*moves, f"and {more} more"] if more > 0 else moves) or "-"


def _ready_in(row: PlannedDeploymentRow) -> str:
    if row.ready_in_seconds is not None:
        return f"~{as_text(row.ready_in_seconds)}"
    return "?" if _waits(row) else "-"


def _waits(row: PlannedDeploymentRow) -> bool:
    """Say whether something starts of which nobody can tell when it is ready."""
    return row.ready_in_seconds is None and bool(row.ready_basis)


def _print_levels(console: "Console", levels: Sequence[LevelRow]) -> None:
    _print(console, _LEVELS, [level for level in levels if level.value or level.bound])
    if zero := [level.level for level in levels if not level.value]:
        console.print(f"at 0, which no plan beats: {', '.join(zero)}", style="dim")
    if levels:
        console.print(f"certified gap: {describe_gap(levels)}")


def _print_shed(console: "Console", shed: Sequence[ShedRow]) -> None:
    _print(console, _SHED, shed)


def _print_unplaced(console: "Console", unplaced: Sequence[UnplacedRow]) -> None:
    for row in unplaced[:ROWS_SHOWN_MAX]:
        verb = "has" if row.replicas == 1 else "have"
        console.print(
            f"  {_replicas(row.replicas)} of {row.deployment} {verb} no place: {row.reason}",
            style="red",
        )


def _print(console: "Console", columns: Columns, rows: Sequence[object]) -> None:
    if not rows:
        return
    console.print(render_table(columns, rows[:ROWS_SHOWN_MAX]))
    if len(rows) > ROWS_SHOWN_MAX:
        console.print(f"and {len(rows) - ROWS_SHOWN_MAX} more; `-o json` has all")


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"
