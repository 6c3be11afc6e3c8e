"""What `skerry explain scaling` and `skerry scaling` print, and the plots they write."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from skerry.cli import session
from skerry.cli.main import run
from skerry.cli.scaling import spark_lines
from skerry.cli.scaling_plot import draw, html_of, series_of
from skerry.client.rows import DeploymentRow
from skerry.client.scaling import PlaneScalingRow, ScalingExplanation
from skerry.fleet.autoscaling.need import Need
from skerry.fleet.autoscaling.scaled import FleetRecord, ShareRecord
from skerry.fleet.autoscaling.told import ToldDecision
from skerry.fleet.coefficients import Coefficients
from tests.builders import a_deployment

BEGAN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
NEED = Need(
    replicas=3, exact=2.4, work=1.5, reserve=0.2, queue=0.0, saturation=1.0, utilization=0.7
)
RECORD = FleetRecord(
    deployment="demo",
    decided_at=BEGAN,
    sentence="3 replicas (fra 3) in place of 1: need.",
    because="need",
    running=1,
    total=3,
    wanted=4,
    unmet=1,
    demand=3,
    floor=1,
    unmet_dollars_per_hour=2.5,
    dollars_per_hour=7.5,
    need=NEED,
    highest=3,
    shares=(
        ShareRecord(plane="fra", running=1, floor=1, ceiling=4, target=3, price_per_hour=2.5),
        ShareRecord(
            plane="gcp", running=0, floor=0, ceiling=1, target=None, price_per_hour=3.0, heard=False
        ),
    ),
)
DECISIONS = tuple(
    replace(RECORD, decided_at=BEGAN - timedelta(seconds=30 * n), wanted=max(0, 4 - n))
    for n in range(20)
)
PLANE = PlaneScalingRow(
    plane="fra",
    decision=ToldDecision(
        decided_at=BEGAN,
        sentence="start 2, for 3 (1 ready).",
        because="granted",
        target=3,
        ready=1,
        starting=0,
        draining=0,
        floor=1,
        ceiling=4,
    ),
    counts=True,
)
OWN = tuple(
    ToldDecision(
        decided_at=BEGAN - timedelta(seconds=30 * n),
        sentence=f"keep {n}, <by concurrency>.",
        because="steady",
        target=n,
        ready=n,
        starting=0,
        draining=0,
        floor=0,
        ceiling=4,
        concurrency=1.25,
    )
    for n in range(4)
)
FOUND = ScalingExplanation(
    deployment="demo",
    sentence=RECORD.sentence,
    min_replicas=1,
    max_replicas=8,
    strategy="token_work",
    paused=False,
    decisions=DECISIONS,
    planes=(PLANE,),
)


class Operator:
    """An operator API with one deployment."""

    def explain_scaling(self, deployment: str, decisions: int) -> ScalingExplanation:
        assert deployment == "demo"
        return replace(FOUND, decisions=FOUND.decisions[:decisions])

    def pause_scaling(self, deployment: str) -> DeploymentRow:
        return self.row(deployment)

    def resume_scaling(self, deployment: str) -> DeploymentRow:
        return self.row(deployment)

    def list_deployments(self, which: object) -> tuple[DeploymentRow, ...]:
        return (self.row("demo"),)

    def row(self, name: str) -> DeploymentRow:
        return DeploymentRow(
            deployment=a_deployment(name),
            replicas_wanted=3,
            replicas_placed=3,
            replicas_ready=2,
            cost_per_hour=1.0,
            pending=(),
            etag="",
            replicas_needed=4,
            replicas_short=1,
            short_dollars_per_hour=2.5,
        )


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(_: session.Session) -> Iterator[Operator]:
        yield Operator()

    monkeypatch.setattr(session.Session, "operator", connect)
    monkeypatch.setenv("COLUMNS", "200")


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_people_read_a_sentence_a_table_and_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "scaling", "demo"]) == 0
    lines = printed(capsys)
    assert lines[0] == f"demo (1 to 8 replicas by token_work): {RECORD.sentence}"
    assert lines[1] == "fra: start 2, for 3 (1 ready)."
    assert "fra 1 1/3/4 2.500 yes" in lines
    assert "gcp 0 0/own/1 3.000 no" in lines
    assert any(line.endswith("1 3 7.50 4 1 1.50 0.20 0.00 70% need") for line in lines)
    assert "and 5 before" in lines
    assert lines[-2].startswith("needed ")
    assert "▄" in lines[-2]


def test_people_read_what_planes_decided_by_themselves_also_of_one_that_is_not_heard(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = PlaneScalingRow(plane="gcp", decision=None, counts=False, decisions=OWN)
    costs = Coefficients(
        accelerator="cpu",
        prefill_seconds_per_token=0.0001,
        decode_seconds_per_token=0.001,
        iteration_seconds=0.0125,
    )
    new = PlaneScalingRow(plane="new", decision=None, counts=True, costs=(costs,))
    monkeypatch.setattr(
        Operator, "explain_scaling", lambda *_: replace(FOUND, planes=(PLANE, gone, new))
    )
    assert run(["explain", "scaling", "demo"]) == 0
    lines = printed(capsys)
    assert any(
        one.startswith("gcp: is not heard; at 2026-03-02") and one.endswith(OWN[0].sentence)
        for one in lines
    )
    place = lines.index("new: has not decided yet")
    assert lines[place + 1] == (
        "measured on cpu: 0.1 ms a token of prompts, 12.5 ms an iteration and 1 ms a token in it"
    )
    assert any(one.startswith("gcp 2026") and one.endswith("3 - 3 - 1.25 steady") for one in lines)
    assert "gcp █▆▃ 0" in lines


def test_a_plane_that_counts_is_heard_though_it_decides_nothing_now(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PlaneScalingRow(plane="gcp", decision=None, counts=True, decisions=OWN)
    monkeypatch.setattr(Operator, "explain_scaling", lambda *_: replace(FOUND, planes=(row,)))
    assert run(["explain", "scaling", "demo"]) == 0
    (line,) = (one for one in printed(capsys) if one.startswith("gcp: "))
    assert line.startswith("gcp: decides nothing now; at 2026-03-02")
    assert line.endswith(OWN[0].sentence)


def test_what_was_not_known_is_no_number_in_a_plot_and_breaks_its_lines(tmp_path: Path) -> None:
    known = replace(DECISIONS[0], need=NEED)
    unknown = replace(known, need=None)
    records = [known, known, unknown, known]
    decisions = tuple(
        replace(one, decided_at=BEGAN - timedelta(seconds=30 * n)) for n, one in enumerate(records)
    )
    found = replace(FOUND, decisions=decisions, planes=(replace(PLANE, decisions=OWN),))
    fleet, own = series_of(found)
    assert [one.busy for one in fleet.points] == [1.5, None, 1.5, 1.5]
    assert {(one.needed, one.busy) for one in own.points} == {(None, None)}
    text = html_of(found, [fleet])
    assert text.count("<polyline") == 5, "busy is two pieces"
    alone = html_of(found, [own])
    assert alone.count("<polyline") == 2, "target and running"
    assert alone.count("<td>-</td><td>-</td>") == len(OWN), "needed and unmet"
    for suffix in (".png", ".html"):
        draw(tmp_path / f"scaling{suffix}", found)


def test_a_plot_shows_each_planes_own_decisions_though_the_global_loop_made_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PlaneScalingRow(plane="gcp", decision=None, counts=False, decisions=OWN)
    alone = replace(FOUND, decisions=(), planes=(row,))
    monkeypatch.setattr(Operator, "explain_scaling", lambda *_: alone)
    page, picture = tmp_path / "scaling.html", tmp_path / "scaling.png"
    assert run(["explain", "scaling", "demo", "--plot", str(page)]) == 0
    text = page.read_text()
    assert "gcp: replicas, by its own loop" in text
    assert (text.count("<polyline"), text.count("<tr>")) == (2, 5), "needed, busy are not known"
    assert "&lt;by concurrency&gt;" in text
    assert run(["explain", "scaling", "demo", "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_programs_read_all_decisions(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "scaling", "demo", "-o", "json", "--decisions", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["wanted"] for one in told["decisions"]] == [4, 3, 2]


def test_a_plot_is_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "scaling.html"
    assert run(["explain", "scaling", "demo", "--plot", str(page)]) == 0
    text = page.read_text()
    assert text.count("<polyline") == 4
    assert text.count("<tr>") == 21
    assert "http" not in text


def test_a_plot_is_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "scaling.png"
    assert run(["explain", "scaling", "demo", "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_plot_of_another_kind_or_of_nothing_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", "scaling", "demo", "--plot", "x.gif"]) == 2
    assert ".png or .html" in capsys.readouterr().err
    page = str(tmp_path / "x.html")
    assert run(["explain", "scaling", "demo", "--decisions", "1", "--plot", page]) == 1
    assert "too few for a plot" in capsys.readouterr().err


def test_bars_grow_with_what_is_needed() -> None:
    needed, target = spark_lines(DECISIONS[:5])
    assert needed == "needed  ▂▄▆█ 4"
    assert target.startswith("target ▆▆▆▆▆ 3  (")
    assert spark_lines(DECISIONS[:1]) == ()


def test_pausing_says_what_stays_and_how_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scaling", "pause", "demo"]) == 0
    assert printed(capsys) == ["demo: paused at 2 ready replicas; `skerry scaling resume demo`"]
    assert run(["scaling", "resume", "demo"]) == 0
    assert printed(capsys) == ["demo: follows its load again, 3 to 3 replicas"]


def test_what_is_short_is_listed_with_its_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", "deployments"]) == 0
    assert printed(capsys)[-1].endswith(
        "3 1.000 4 1 more for its load find no free accelerators ($2.50 an hour)"
    )
