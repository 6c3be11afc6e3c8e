"""What `skerry plan` prints of each deployment: now and then, moves, unmet, time to ready."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from skerry.cli.answers import describe_gap, describe_readiness, print_plan
from skerry.cli.main import run
from skerry.cli.render import render_json
from skerry.client.rows import LevelRow, MoveRow, PlannedDeploymentRow, PlanPreview, UnplacedRow
from skerry.fleet.deployment import Deployment
from tests.unit.skerry.cli.test_deployments import Operator, answering
from tests.unit.skerry.cli.test_files import a_file

BASIS = "p90 of 12 starts of hf://x with vllm on h100: 41 s"


def a_row(name: str = "demo", **fields: Any) -> PlannedDeploymentRow:
    """Return the row of a deployment that stays as it is."""
    same: dict[str, Any] = {
        "replicas_before": 2,
        "replicas_after": 2,
        "replicas_unmet": 0,
        "unmet_reason": "",
        "cost_per_hour_before": 1.0,
        "cost_per_hour_after": 1.0,
        "moves": (),
        "ready_in_seconds": None,
        "ready_basis": "",
    }
    return PlannedDeploymentRow(deployment=name, **(same | fields))


def a_plan(*rows: PlannedDeploymentRow, **fields: Any) -> PlanPreview:
    return PlanPreview(
        placements=(),
        rejections=(),
        cost_per_hour_before=1.0,
        cost_per_hour_after=2.5,
        solver="exact",
        solve_seconds=0.1,
        optimal=True,
        deployments=rows,
        **({"unplaced": ()} | fields),
    )


def printed(preview: PlanPreview) -> list[str]:
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        print_plan(console, "plan", preview)
    return [" ".join(line.split()) for line in captured.get().splitlines()]


MOVING = a_row(
    replicas_after=3,
    replicas_unmet=1,
    unmet_reason="no room",
    cost_per_hour_after=2.5,
    moves=(MoveRow(deployment="demo", from_pool="fra--cpu", to_pool="aws--cpu", replicas=2),),
    ready_in_seconds=41.2,
    ready_basis=BASIS,
)


def test_a_deployment_that_changes_has_one_line_and_the_basis_of_its_estimate() -> None:
    unplaced = (UnplacedRow(deployment="demo", replicas=1, reason="no room"),)
    assert printed(a_plan(MOVING, a_row("other"), unplaced=unplaced)) == [
        "plan",
        "DEPLOYMENT REPLICAS USD/H MOVES UNMET READY IN",
        "demo 2 -> 3 1.000 -> 2.500 2 fra--cpu -> aws--cpu 1 ~41 s",
        "and 1 as before",
        f"demo is ready in about 41 s: {BASIS}",
        "1 replica of demo has no place: no room",
        "cost per hour: 1.000 -> 2.500 USD (optimal; exact, 100 ms)",
    ]


def test_a_plan_that_changes_nothing_shows_every_deployment() -> None:
    assert printed(a_plan(a_row(), a_row("other")))[:4] == [
        "plan",
        "DEPLOYMENT REPLICAS USD/H MOVES UNMET READY IN",
        "demo 2 -> 2 1.000 -> 1.000 - - -",
        "other 2 -> 2 1.000 -> 1.000 - - -",
    ]


def test_what_nobody_can_tell_is_a_question_mark_with_the_reason() -> None:
    row = a_row(replicas_after=3, ready_basis="no start like it was measured: [x] on h100")
    lines = printed(a_plan(row))
    assert lines[2].endswith("?")
    assert lines[3] == (
        "when demo is ready nobody can tell: no start like it was measured: [x] on h100"
    )


def test_what_starts_nothing_has_no_line_on_when_it_is_ready() -> None:
    assert describe_readiness(a_row()) is None


def test_of_many_moves_the_first_few_are_shown() -> None:
    moves = tuple(
        MoveRow(deployment="demo", from_pool=f"p{n}", to_pool="q", replicas=1) for n in range(5)
    )
    line = printed(a_plan(a_row(moves=moves)))[2]
    assert "1 p0 -> q; 1 p1 -> q; 1 p2 -> q; and 2 more" in line


def test_the_gap_speaks_of_the_levels_that_are_paid_for() -> None:
    def level(name: str, value: float, bound: float, unit: str = "USD/h") -> LevelRow:
        gap = (value - bound) / value if value > bound else 0.0
        return LevelRow(level=name, value=value, bound=bound, gap=gap, unit=unit)

    proven = (level("cost", 4.0, 4.0), level("starts", 3.0, 0.0, "replicas"))
    assert describe_gap(proven) == "none; no plan serves more, survives more or costs less"
    wide = (level("unmet-class-0", 0.5, 0.25, "deployments"), level("cost", 4.0, 3.0))
    assert describe_gap(wide) == (
        "50.00% of unmet-class-0 (no plan is below 0.25 deployments);"
        " 25.00% of cost (no plan is below 3 USD/h)"
    )


def test_json_has_all_of_it() -> None:
    (row,) = json.loads(render_json(a_plan(MOVING)))["deployments"]
    assert (row["deployment"], row["replicas_before"], row["replicas_after"]) == ("demo", 2, 3)
    assert row["ready_in_seconds"] == 41.2
    assert row["moves"][0]["to_pool"] == "aws--cpu"


def test_applying_says_in_one_line_when_what_it_starts_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan(deployment: Deployment) -> PlanPreview:
        unplaced = (UnplacedRow(deployment="demo", replicas=1, reason="no room"),)
        return a_plan(MOVING, a_row("other", ready_basis="nobody knows"), unplaced=unplaced)

    operator = Operator()
    monkeypatch.setattr(operator, "plan", plan)
    with answering(operator, monkeypatch):
        assert run(["apply", "-f", a_file(tmp_path / "x", "demo", "m")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert " ".join(lines) == (
        "deployment demo created (revision 1)"
        f" demo is ready in about 41 s: {BASIS}"
        " warning: pending: 1 replica: no room"
    )
