"""`skerry apply`: everything is asked before anything is sent, and all is sent at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.cli import session
from skerry.cli.main import run
from skerry.client.rows import (
    AppliedEverything,
    AppliedIntentRow,
    AppliedRow,
    ApplyOutcome,
    DeploymentRow,
    FieldDiffRow,
    PlannedRow,
    PlanPreview,
    UnplacedRow,
)
from skerry.fleet.deployment import Deployment
from skerry.fleet.intent import Intent, name_of
from skerry.plumbing.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FieldViolation,
    InvalidInput,
    SkerryError,
)
from tests.builders import a_deployment
from tests.unit.skerry.cli.test_files import a_file
from tests.unit.skerry.cli.test_fit import a_plane_row, a_pool_row


class Operator:
    """An operator API that places `room` replicas of each deployment."""

    def __init__(self, room: int = 1, refuses: str = "", late: bool = False) -> None:
        self.room, self.refuses, self.late = room, refuses, late
        self.applied: list[str] = []
        self.calls: list[tuple[str, ...]] = []
        self.refusal: SkerryError | None = None
        self.outcome, self.diffs = ApplyOutcome.CREATED, tuple[FieldDiffRow, ...]()
        self.room_after = room  # once something else than deployments was applied too

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

    def apply_everything(
        self,
        deployments: Sequence[Deployment],
        intents: Sequence[Intent],
        *,
        validate_only: bool = False,
    ) -> AppliedEverything:
        if self.refusal is not None:
            raise self.refusal
        names = (*(one.name for one in deployments), *map(name_of, intents))
        if not validate_only:
            self.applied += names
            self.calls.append(names)
        rows = (
            AppliedIntentRow(intent=one, outcome=self.outcome, diffs=self.diffs) for one in intents
        )
        return AppliedEverything(
            deployments=tuple(map(self._applied, deployments)), intents=tuple(rows)
        )

    def get_deployment(self, name: str) -> DeploymentRow:
        self.room = self.room_after
        return self._applied(a_deployment(name)).deployment

    def _applied(self, deployment: Deployment) -> AppliedRow:
        row = DeploymentRow(
            deployment=deployment,
            replicas_wanted=1,
            replicas_placed=0,
            replicas_ready=0,
            cost_per_hour=0.0,
            pending=(),
            etag="1",
        )
        return AppliedRow(deployment=row, outcome=self.outcome, diffs=self.diffs)

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


def test_all_documents_of_all_files_are_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [a_file(tmp_path / name, name, f"{name}-model") for name in ("x", "y", "z")]
    both = tmp_path / "both"
    both.write_text("\n---\n".join(Path(name).read_text() for name in files[1:]))
    with answering(operator := Operator(), monkeypatch):
        assert run(["apply", "-f", files[0], "-f", str(both)]) == 0
    assert operator.calls == [("x", "y", "z")]
    told = [f"deployment {name} created (revision 1)\n" for name in "xyz"]
    assert capsys.readouterr().out == "".join(told)


def test_a_refusal_names_the_file_and_the_deployment_in_place_of_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [a_file(tmp_path / name, name, f"{name}-model") for name in ("x", "y")]
    operator = Operator()
    operator.refusal = InvalidInput(
        "nothing was applied: specs[1].spec.resources: none",
        violations=(
            FieldViolation(path="specs[1].spec.resources", message="none"),
            FieldViolation(path="specs[0].metadata.name", message="too long"),
        ),
    )
    with answering(operator, monkeypatch):
        assert run(["apply", "-f", files[0], "-f", files[1]]) == 1
    told = capsys.readouterr().err
    assert f"nothing was applied: {files[1]}: deployment 'y': spec.resources: none" in told
    assert f"{files[0]}: deployment 'x': metadata.name: too long" in told
    assert "specs[" not in told
    assert operator.applied == []


def test_a_dry_run_shows_what_would_change_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(room=0)
    operator.outcome = ApplyOutcome.UPDATED
    operator.diffs = (
        FieldDiffRow(path="scaling.max_replicas", before="1", after="4"),
        FieldDiffRow(path="labels[team]", before="search", after=""),
    )
    name = a_file(tmp_path / "x", "demo", "m")
    with answering(operator, monkeypatch):
        assert run(["apply", "-f", name, "--dry-run"]) == 0
        operator.outcome, operator.diffs = ApplyOutcome.UNCHANGED, ()
        assert run(["apply", "-f", name, "--dry-run"]) == 0
    assert operator.applied == []
    assert capsys.readouterr().out.splitlines() == [
        "deployment demo would be updated (revision 1)",
        "  scaling.max_replicas: 1 -> 4",
        "  labels[team]: search -> -",
        "  warning: pending: 1 replica: full",
        "deployment demo is unchanged (revision 1)",
        "  warning: pending: 1 replica: full",
    ]


def test_a_served_name_that_another_gives_up_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator()

    def plan(deployment: Deployment) -> PlanPreview:
        raise AlreadyExists("served already")

    monkeypatch.setattr(operator, "plan", plan)
    with answering(operator, monkeypatch):
        assert run(["apply", "-f", a_file(tmp_path / "x", "demo", "m")]) == 0
    assert operator.applied == ["demo"]
    assert "once it has its served name" in capsys.readouterr().out


POOL = (
    "apiVersion: skerry/v1\nkind: Pool\nmetadata: {name: onprem-fra--cpu}\nspec: {class: CLASS}\n"
)
PRICE = (
    "apiVersion: skerry/v1\nkind: Price\nmetadata: {name: onprem-fra--cpu}\n"
    "spec: {validFrom: 2026-12-01T00:00:00Z, pricePerAcceleratorHour: 1}\n"
)
CORDON = "apiVersion: skerry/v1\nkind: Cordon\nmetadata: {name: plane/gcp-x}\n"
KIND = "apiVersion: skerry/v1\nkind: AcceleratorKind\nmetadata: {name: h100}\n"


def a_mixed_file(path: Path, *others: str, capacity: str = "spot") -> str:
    """Write a file with a deployment in the midst of other things."""
    name = a_file(path, "demo", "m")
    documents = (POOL.replace("CLASS", capacity), path.read_text(), *others)
    path.write_text("---\n".join(documents))
    return name


def test_a_mixed_file_is_one_call_and_a_line_for_each_thing_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = a_mixed_file(tmp_path / "x", PRICE, CORDON, KIND)
    with answering(operator := Operator(), monkeypatch):
        assert run(["apply", "-f", name]) == 0
    assert operator.calls == [
        (
            "demo",
            "onprem-fra--cpu",
            "onprem-fra--cpu/2026-12-01T00:00:00Z",
            "planes/gcp-x",
            "h100",
        )
    ]
    assert capsys.readouterr().out.splitlines() == [
        "pool onprem-fra--cpu created",
        "deployment demo created (revision 1)",
        "price onprem-fra--cpu from 2026-12-01T00:00:00Z created",
        "cordon plane/gcp-x created",
        "accelerator-kind h100 created",
    ]


def test_a_dry_run_of_a_mixed_file_shows_the_fields_of_each_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator()
    operator.outcome = ApplyOutcome.UPDATED
    operator.diffs = (FieldDiffRow(path="terms.cordoned", before="true", after="false"),)
    with answering(operator, monkeypatch):
        assert run(["apply", "-f", a_mixed_file(tmp_path / "x"), "--dry-run"]) == 0
    assert operator.applied == []
    assert capsys.readouterr().out.splitlines() == [
        "pool onprem-fra--cpu would be updated",
        "  terms.cordoned: true -> false",
        "deployment demo would be updated (revision 1)",
        "  terms.cordoned: true -> false",
    ]


def test_a_refusal_of_an_intent_names_its_file_and_what_it_is_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = a_mixed_file(tmp_path / "x", CORDON)
    operator = Operator()
    operator.refusal = InvalidInput(
        "nothing was applied: intents[0].pool.terms.cordoned: no",
        violations=(
            FieldViolation(path="intents[0].pool.terms.cordoned", message="no"),
            FieldViolation(path="intents[1].cordon", message="as in intents[0] too"),
            FieldViolation(path="specs[0].metadata.name", message="too long"),
        ),
    )
    with answering(operator, monkeypatch):
        assert run(["apply", "-f", name]) == 1
    told = capsys.readouterr().err
    assert f"nothing was applied: {name}: pool 'onprem-fra--cpu': terms.cordoned: no" in told
    assert f"{name}: cordon 'plane/gcp-x': as in {name}: pool 'onprem-fra--cpu' too" in told
    assert f"{name}: deployment 'demo': metadata.name: too long" in told
    assert operator.applied == []


def test_what_pends_is_told_as_it_is_once_the_rest_of_the_file_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(room=0)
    operator.room_after = 9
    with answering(operator, monkeypatch):
        assert run(["apply", "-f", a_mixed_file(tmp_path / "x")]) == 0
    assert "warning" not in capsys.readouterr().out


def test_terms_of_the_same_file_count_when_it_is_asked_whether_a_pool_can_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x"
    a_mixed_file(path, capacity="reserved")
    demanding = "spec:\n  placement: {capacityClasses: [reserved]}\n  baseModel"
    path.write_text(path.read_text().replace("spec:\n  baseModel", demanding))
    with answering(Operator(room=0), monkeypatch):
        assert run(["apply", "-f", str(path)]) == 0
        path.write_text(path.read_text().replace("class: reserved", "class: spot"))
        assert run(["apply", "-f", str(path)]) == 1
    assert "no pool of this fleet can host deployment demo" in capsys.readouterr().err
