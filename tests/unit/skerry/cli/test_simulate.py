"""`skerry simulate`: what it prints of a small trace, and what it refuses with a remedy."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skerry.cli.main import app, run
from skerry.cli.simulate import _in_flight_target, read_costs, read_moment, read_regions
from skerry.client.manifest import read_manifests
from skerry.fleet.autoscaling.factors import factors_of

ROOT = Path(__file__).resolve().parents[4]
LLAMA = str(ROOT / "examples/llama-70b-h100-tensorrt.yaml")


def a_trace(folder: Path, *, regions: bool = True) -> str:
    """Write ten minutes of a request a second in two regions."""
    path = folder / "trace.csv"
    head = "arrival_s,input_tokens,output_tokens" + (",region" if regions else "")
    rows = [
        f"{second},500,40" + (f",{'eu' if second % 2 else 'us'}" if regions else "")
        for second in range(600)
    ]
    path.write_text("\n".join([head, *rows]) + "\n")
    return str(path)


def simulate(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["simulate", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_json_has_the_figures_of_each_policy(tmp_path: Path) -> None:
    told = json.loads(
        simulate(
            a_trace(tmp_path), "-f", LLAMA, "--region", "eu@10", "--region", "us@8", "-o", "json"
        )
    )
    by_name = {one["policy"]: one for one in told}
    assert {"two levels, pooled", "token-work, local loop", "five factors", "KPA"} <= set(by_name)
    for one in told:
        assert one["requests"] == 600
        assert one["attainment"] > 0.9
    # Its floor of four is two in each region, and more is never needed: ten minutes at 18 dollars.
    fixed = by_name["two levels, pooled"]
    assert fixed["replica_hours"] == pytest.approx(4 * 600 / 3_600, rel=0.02)
    assert fixed["dollars"] == pytest.approx(fixed["replica_hours"] * 9.0)


def test_the_table_names_the_trace(tmp_path: Path) -> None:
    told = simulate(
        a_trace(tmp_path, regions=False), "-f", LLAMA, "--region", "a", "--region", "b",
        "--policy", "HPA",
    )  # fmt: skip
    assert "REPLICA-HOURS" in told
    assert "HPA" in told
    assert "600 requests in 0.17 h of a, b" in told


def test_a_plot_is_a_png(tmp_path: Path) -> None:
    target = tmp_path / "day.png"
    simulate(a_trace(tmp_path), "-f", LLAMA, "--policy", "HPA", "--plot", str(target))
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_is_named_html_is_a_page_with_the_picture_and_the_table(tmp_path: Path) -> None:
    target = tmp_path / "day.html"
    simulate(a_trace(tmp_path), "-f", LLAMA, "--policy", "HPA", "--plot", str(target))
    page = target.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "data:image/png;base64,iVBORw0KGgo" in page
    assert "<td>HPA</td>" in page
    assert "600 requests in 0.17 h" in page


def test_others_fill_the_engine_where_the_file_does_not_say_how_many_a_replica_is_for() -> None:
    (parsed,) = read_manifests(Path(LLAMA).read_bytes(), LLAMA)
    slots = float(parsed.revision.engine.concurrent_requests)
    factors = factors_of(replace(parsed.scaling, concurrency_target=1.0))
    assert _in_flight_target(parsed, factors) == slots
    assert _in_flight_target(parsed, replace(factors, concurrency_target=3.0)) == 3.0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--plot", "day.svg"], "ends in .png or .html"),
        (["--policy", "magic"], "must be one of"),
        (["--region", "eu=5..1"], "floor <= ceiling"),
        (["--region", "eu"], "name them by --region"),
        (["--costs", "1,2"], "three numbers"),
        (["--copies", "0"], "copies"),
        (["--begins", "monday"], "must be a moment"),
        (["--objective", "2"], "between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", a_trace(tmp_path), "-f", LLAMA, *arguments]) != 0
    assert told in capsys.readouterr().err


def test_a_trace_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "nowhere.csv", "-f", LLAMA]) != 0
    assert "there is no trace nowhere.csv" in capsys.readouterr().err


def test_a_region_is_its_name_its_bounds_and_its_price() -> None:
    deployment = read_manifests(Path(LLAMA).read_bytes(), LLAMA)[0]
    first, second = read_regions(["eu=1..9@10.5", "us"], (), deployment)
    assert (first.name, first.floor, first.ceiling, first.price_per_hour) == ("eu", 1, 9, 10.5)
    assert (second.name, second.floor, second.ceiling, second.price_per_hour) == ("us", 2, 12, 0.0)


def test_a_moment_without_a_time_zone_is_utc() -> None:
    assert read_moment("2026-03-02T08:00") == read_moment("2026-03-02T09:00+01:00")


def test_costs_are_those_of_a_profile() -> None:
    found = read_costs("1e-4,0.02,2e-4")
    assert found.work_seconds(1_000, 100, 10) == pytest.approx(0.1 + 100 * (2e-4 + 0.002))
