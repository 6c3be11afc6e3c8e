"""`skerry apply`: everything is asked before anything is sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.cli import session
from skerry.cli.main import run
from skerry.client.rows import ApplyOutcome, DeploymentRow, PlannedRow, PlanPreview, UnplacedRow
from skerry.fleet.deployment import Deployment
from skerry.plumbing.errors import DeadlineExceeded, InvalidInput
from tests.unit.skerry.cli.test_files import a_file
from tests.unit.skerry.cli.test_fit import a_plane_row, a_pool_row


class Operator:
    """An operator API that places `room` replicas of each deployment."""

    def __init__(self, room: int = 1, refuses: str = "", late: bool = False) -> None:
        self.room, self.refuses, self.late = room, refuses, late
        self.applied: list[str] = []

    def plan(self, deployment: Deployment) -> PlanPreview:
        if self.late:
            raise DeadlineExceeded("too late")
        if deployment.name == self.refuses:
            raise InvalidInput("served already")
        wanted = deployment.scaling.min_replicas
        placed = min(self.room, wanted)
        fields: dict[str, Any] = {"replicas_before": 0, "cost_per_hour": 0.1, "reason": ""}
        row = PlannedRow(
            deployment=deployment.name, pool="onprem-fra--cpu", replicas_after=placed, **fields
        )
        left = UnplacedRow(deployment=deployment.name, replicas=wanted - placed, reason="full")
        return PlanPreview(
            placements=(row,) if placed else (),
            rejections=(),
            unplaced=(left,) if left.replicas else (),
            cost_per_hour_before=0.0,
            cost_per_hour_after=0.0,
            solver="exact",
            solve_seconds=0.0,
            optimal=True,
        )

    def apply(self, deployment: Deployment) -> tuple[DeploymentRow, ApplyOutcome]:
        self.applied.append(deployment.name)
        row = DeploymentRow(
            deployment=deployment,
            replicas_wanted=1,
            replicas_placed=0,
            replicas_ready=0,
            cost_per_hour=0.0,
            pending=(),
            etag="1",
        )
        return row, ApplyOutcome.CREATED

    def list_planes(self) -> tuple[Any, ...]:
        return (a_plane_row(),)

    def list_pools(self) -> tuple[Any, ...]:
        return (a_pool_row(),)


@contextmanager
def answering(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every command talk to the operator given."""

    @contextmanager
    def connect(_: session.Session) -> Iterator[Operator]:
        yield operator

    monkeypatch.setattr(session.Session, "operator", connect)
    yield


def test_what_finds_its_place_is_applied_without_a_word_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(operator := Operator(), monkeypatch):
        assert run(["apply", "-f", a_file(tmp_path / "x", "demo", "m")]) == 0
    assert operator.applied == ["demo"]
    assert capsys.readouterr().out == "deployment demo created (revision 1)\n"


def test_what_stays_pending_for_now_is_applied_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(operator := Operator(room=0), monkeypatch):
        assert run(["apply", "-f", a_file(tmp_path / "x", "demo", "m")]) == 0
    assert operator.applied == ["demo"]
    assert "warning: pending: 1 replica: full" in capsys.readouterr().out


def a_giant_file(path: Path) -> str:
    """Write a deployment whose replica takes more than any pool has."""
    name = a_file(path, "demo", "m")
    path.write_text(path.read_text().replace("accelerator: cpu", "accelerator: cpu, count: 1000"))
    return name


def test_what_no_pool_can_ever_host_is_refused_with_the_reasons_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    giant = a_giant_file(tmp_path / "x")
    with answering(operator := Operator(room=0), monkeypatch):
        assert run(["apply", "-f", giant]) == 1
        assert operator.applied == []
        told = capsys.readouterr().err
        assert "no pool of this fleet can host deployment demo" in told
        assert "onprem-fra--cpu: one replica takes 1000 x cpu" in told
        assert run(["apply", "-f", giant, "--force"]) == 0
    assert operator.applied == ["demo"]
    assert "warning: pending: onprem-fra--cpu: one replica takes" in capsys.readouterr().out


def test_one_refusal_keeps_every_other_file_from_being_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [a_file(tmp_path / name, name, f"{name}-model") for name in ("good", "bad")]
    with answering(operator := Operator(refuses="bad"), monkeypatch):
        assert run(["apply", "-f", files[0], "-f", files[1]]) == 1
    assert operator.applied == []
    assert f"{files[1]}: served already" in capsys.readouterr().err


def test_a_plan_that_takes_too_long_keeps_nothing_from_being_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(operator := Operator(late=True), monkeypatch):
        assert run(["apply", "-f", a_file(tmp_path / "x", "demo", "m")]) == 0
    assert operator.applied == ["demo"]
    assert "not found out in time" in capsys.readouterr().out
