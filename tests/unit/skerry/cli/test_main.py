"""The command line: exit codes, one clear line for every failure, never a traceback."""

from pathlib import Path

import pytest

from skerry.cli.main import hoist_global_options, run
from skerry.cli.render import render_yaml, to_plain
from skerry.cli.session import describe
from skerry.client.manifest import read_manifests
from skerry.client.rows import DeploymentRow
from skerry.plumbing.errors import FieldViolation, InvalidInput, NotFound

EXAMPLE = Path(__file__).parents[4] / "examples" / "demo-cpu.yaml"


def test_global_options_may_stand_anywhere() -> None:
    given = ["get", "planes", "--config", "x", "-o", "json", "--no-color", "--endpoint=h:1"]
    hoisted = hoist_global_options(given)
    assert hoisted == [
        "--config", "x", "--no-color", "--endpoint=h:1", "get", "planes", "-o", "json",
    ]  # fmt: skip


def test_a_project_is_an_option_of_every_command_and_a_token_is_for_several() -> None:
    given = ["get", "deployments", "--project", "team-a", "--project=-"]
    assert hoist_global_options(given)[:3] == ["--project", "team-a", "--project=-"]
    given = ["--config", "x", "token", "create", "ci", "--project", "a", "--project", "b"]
    assert hoist_global_options(given) == given


def test_after_two_dashes_nothing_is_an_option_of_ours() -> None:
    assert hoist_global_options(["chat", "--", "--config"]) == ["chat", "--", "--config"]


def test_an_error_names_places_in_files_and_no_fields_of_requests() -> None:
    told = "node 'a--b' is not reported"
    assert describe(NotFound(told, field="name")) == told
    wrong = InvalidInput("3 is below 5", field="spec.scaling.max_replicas")
    assert describe(wrong) == "3 is below 5\n  field: spec.scaling.max_replicas"
    several = (
        FieldViolation(path="name", message="must not be empty"),
        FieldViolation(path="spec.scaling", message="is missing"),
    )
    lines = describe(InvalidInput("the deployment is wrong", violations=several)).splitlines()
    assert lines[1:] == ["  name: must not be empty", "  spec.scaling: is missing"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "boats"], "there is no kind 'boats'"),
        (["get", "planes", "-o", "xml"], "-o must be one of table, json, yaml"),
        (["get"], "Missing argument"),
        (["nonsense"], "No such command"),
        (["apply"], "Missing option"),
        (["apply", "-f", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
        (["apply", "-f", "/"], "Is a directory"),
        (["up", "--planes", "0"], "--planes must be 1..32"),
        (["up", "--planes", "three"], "--planes"),
        (["up", "--engine", "abacus"], "--engine must be llamacpp or simulated"),
        (["load", "--rate", "0"], "the rate must be above 0"),
        (["load", "--mix", "talk=1"], "kinds: chat-stream, chat, completion-stream"),
        (["load", "--arrivals", "bursts"], "must be one of poisson, constant"),
        (["load", "--trace", "nowhere.csv"], "there is no trace nowhere.csv"),
        (["load", "--in-flight", "0"], "requests in flight must be 1.."),
        (["pools", "set", "p--cpu"], "nothing to set"),
        (["pools", "set", "p--cpu", "--price", "nan"], "--price must be"),
        (["--config", "nowhere.yaml", "get", "planes"], "there is no context file"),
        (["--endpoint", "nowhere", "get", "planes"], "is not HOST:PORT"),
        (["chat", "--gateway", "nowhere", "-m", "hi"], "must be HOST:PORT"),
    ],
)
def test_wrong_usage_ends_with_two_and_says_what_is_wrong(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SKERRY_CONFIG", raising=False)
    monkeypatch.delenv("SKERRY_DATA_DIR", raising=False)
    assert run(arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_every_bad_file_is_named_and_none_is_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: skerry/v1\nkind: Deployment\nmetadata: {nam: x}\nspec: {}\n")
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    code = run(["apply", "-f", str(EXAMPLE), "-f", str(bad), "-f", str(empty)])
    told = capsys.readouterr().err
    assert code == 2
    assert f"{bad}:3:12: metadata.nam: unknown field; did you mean name?" in told
    assert f"{empty}:1:1: holds no document" in told


def test_down_where_nothing_runs_is_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["down", "--data-dir", str(tmp_path / "none")]) == 0
    assert "nothing runs" in capsys.readouterr().out


def test_only_without_a_supervisor_says_how_to_start_the_fleet(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["up", "--only", "aws-us-east-1", "--data-dir", str(tmp_path)]) == 1
    assert f"skerry up --data-dir {tmp_path}" in capsys.readouterr().err


def test_logs_of_an_unknown_part_list_the_parts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(f"endpoint: h:1\ndataDirectory: '{tmp_path}'\n")
    assert run(["--config", str(tmp_path / "config.yaml"), "logs", "mars"]) == 1
    assert "control-plane, supervisor" in capsys.readouterr().err


def test_logs_show_the_last_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"endpoint: h:1\ndataDirectory: '{tmp_path}'\n")
    (tmp_path / "control-plane").mkdir()
    (tmp_path / "control-plane" / "log").write_text("one\ntwo\nthree\n")
    assert run(["--config", str(tmp_path / "config.yaml"), "logs", "-n", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree\n"


def test_a_deployment_printed_as_yaml_can_be_applied_again() -> None:
    (deployment,) = read_manifests(EXAMPLE.read_bytes(), "x")
    row = DeploymentRow(
        deployment=deployment,
        replicas_wanted=4,
        replicas_placed=4,
        replicas_ready=3,
        cost_per_hour=0.1,
        pending=(),
        etag="1",
    )
    assert read_manifests(render_yaml((row,)).encode(), "x") == (deployment,)
    assert to_plain(row)["status"]["replicas_ready"] == 3
