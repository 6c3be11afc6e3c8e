"""`skerry export` writes what `apply` takes, `skerry diff` shows what files would change."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.main import run
from skerry.client.catalogue_calls import EntryKind
from skerry.client.manifest import Object, read_objects
from skerry.client.rows import DeploymentRow, EntryRow, PriceRow
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region
from skerry.fleet.cordon import Part, Scope
from skerry.fleet.deployment import Deployment, Scaling
from skerry.fleet.intent import CordonIntent, PoolIntent, PriceIntent
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.errors import NotFound
from tests.builders import T0, a_deployment
from tests.unit.skerry.cli.test_deployments import answering

CLOSED = CordonIntent(part=Part(scope=Scope.REGION, name="gcp/west"), reason="moving")
SPOT = PoolIntent(pool="gcp-x--cpu", terms=PoolTerms(price_per_accelerator_hour=2.5))
PRICE = PriceIntent(pool="gcp-x--cpu", valid_from=T0, price_per_accelerator_hour=3.0)
H100 = AcceleratorKind(name="h100", memory_bytes=80 * 2**30)


@dataclass
class Fleet:
    """An operator API over some values; `ending` are names of deployments being deleted."""

    deployments: Sequence[Deployment] = ()
    entries: Sequence[Any] = ()
    pools: Sequence[PoolIntent] = ()
    cordons: Sequence[CordonIntent] = ()
    prices: Sequence[PriceIntent] = ()
    ending: Sequence[str] = ()
    reported: Sequence[Any] = field(default_factory=list)

    def list_deployments(self) -> tuple[DeploymentRow, ...]:
        return tuple(map(self._row, self.deployments))

    def get_deployment(self, name: str) -> DeploymentRow:
        for one in self.deployments:
            if one.name == name:
                return self._row(one)
        raise NotFound("no such deployment")

    def list_entries(self, kind: EntryKind[Any]) -> tuple[EntryRow[Any], ...]:
        return tuple(
            EntryRow(value=value, etag=etag, created_at=T0, updated_at=T0)
            for values, etag in ((self.entries, "1"), (self.reported, ""))
            for value in values
            if type(value) is kind.value
        )

    def list_pool_intents(self) -> Sequence[PoolIntent]:
        return self.pools

    def list_cordon_intents(self) -> Sequence[CordonIntent]:
        return self.cordons

    def list_prices(self) -> tuple[PriceRow, ...]:
        return tuple(
            PriceRow(
                pool=one.pool,
                valid_from=one.valid_from,
                price_per_accelerator_hour=one.price_per_accelerator_hour,
            )
            for one in self.prices
        )

    def _row(self, deployment: Deployment) -> DeploymentRow:
        wanted = 0 if deployment.name in self.ending else deployment.scaling.min_replicas
        return DeploymentRow(
            deployment=deployment,
            replicas_wanted=wanted,
            replicas_placed=0,
            replicas_ready=0,
            cost_per_hour=0.0,
            pending=(),
            etag="1",
            deleting=deployment.name in self.ending,
        )


WHOLE = Fleet(
    deployments=(a_deployment("b"), a_deployment("a")),
    entries=(H100, Region(name="gcp/west"), Cloud(name="gcp")),
    pools=(SPOT,),
    cordons=(CLOSED,),
    prices=(PRICE,),
)
EXPORTED = (
    *(Cloud(name="gcp"), Region(name="gcp/west"), H100),
    *(SPOT, PRICE, CLOSED, a_deployment("a"), a_deployment("b")),
)


def test_an_export_says_all_in_an_order_that_does_not_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(WHOLE, monkeypatch):  # type: ignore[arg-type]
        assert run(["export"]) == 0
    assert read_objects(capsys.readouterr().out.encode(), "x") == EXPORTED


def test_what_is_being_deleted_is_not_exported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = Scaling(min_replicas=0, max_replicas=4)
    deployments = (
        *(a_deployment("stays"), a_deployment("ends")),
        *(a_deployment("idle", scaling=idle), a_deployment("idle-ends", scaling=idle)),
    )
    fleet = Fleet(deployments=deployments, ending=("ends", "idle-ends"))
    with answering(fleet, monkeypatch):  # type: ignore[arg-type]
        assert run(["export"]) == 0
        found = read_objects(capsys.readouterr().out.encode(), "x")
    assert found == (deployments[2], deployments[0])


def test_what_planes_report_and_nobody_said_is_not_exported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(reported=(Cloud(name="gcp"), Region(name="gcp/west")))
    with answering(fleet, monkeypatch):  # type: ignore[arg-type]
        assert run(["export"]) == 0
    assert capsys.readouterr().out == ""


def test_an_export_to_a_directory_is_a_file_each_and_tells_what_is_there_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fleet"
    (folder / "deployment").mkdir(parents=True)
    (folder / "deployment" / "gone.yaml").write_text("kind: Deployment\n")
    with answering(WHOLE, monkeypatch):  # type: ignore[arg-type]
        assert run(["export", "-o", str(folder)]) == 0
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")}
    assert names == {
        "accelerator-kind/h100.yaml",
        "cloud/gcp.yaml",
        "cordon/regions/gcp/west.yaml",
        "deployment/a.yaml",
        "deployment/b.yaml",
        "deployment/gone.yaml",
        "pool/gcp-x--cpu.yaml",
        "price/gcp-x--cpu/2026-01-01T000000Z.yaml",
        "region/gcp/west.yaml",
    }
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"8 files written to {folder}"
    assert told[1:] == [f"  warning: {folder}/deployment/gone.yaml says what the fleet does not"]
    (folder / "deployment" / "gone.yaml").unlink()
    with answering(WHOLE, monkeypatch):  # type: ignore[arg-type]
        assert run(["diff", "-f", str(folder)]) == 0
    assert capsys.readouterr().out == ""


def test_an_export_that_cannot_be_written_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with answering(WHOLE, monkeypatch):  # type: ignore[arg-type]
        assert run(["export", "-o", str(tmp_path / "file")]) == 2
    assert "give a directory to write to" in capsys.readouterr().err


def a_file(path: Path, *objects: Object) -> str:
    from skerry.client.manifest_rendering import render_text

    path.write_text(render_text(objects))
    return str(path)


def test_a_diff_shows_each_line_that_applying_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = a_file(
        tmp_path / "x.yaml",
        replace(H100, vendor="nvidia"),
        SPOT,
        replace(CLOSED, reason="", draining=True),
        a_deployment("a"),
        Cloud(name="aws"),
    )
    with answering(WHOLE, monkeypatch):  # type: ignore[arg-type]
        assert run(["diff", "-f", name]) == 1
    told = capsys.readouterr().out
    changed = [line for line in told.splitlines() if line[:1] in "+-"]
    assert changed == [
        *("--- in force", f"+++ {name}", "+  vendor: nvidia"),
        *("--- in force", f"+++ {name}", "+  draining: true"),
        *("--- not there yet", f"+++ {name}", "+apiVersion: skerry/v1", "+kind: Cloud"),
        *("+metadata:", "+  name: aws"),
    ]


def test_a_cordon_that_holds_for_another_reason_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = a_file(tmp_path / "x.yaml", replace(CLOSED, reason="another"))
    with answering(WHOLE, monkeypatch):  # type: ignore[arg-type]
        assert run(["diff", "-f", name]) == 0
    assert capsys.readouterr().out == ""
