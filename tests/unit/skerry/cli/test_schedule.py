"""`skerry schedule`: what it reads, what it prints, what it refuses, and that the docs tell so."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scheduler.check import violations
from scheduler.solve import solve
from skerry.cli.main import app
from skerry.cli.schedule import read_file, read_problem
from skerry.plumbing.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[4]
SURVIVAL = ROOT / "examples/scheduling/survival.json"
GUIDE = ROOT / "docs/scheduling.md"
SHARED = ROOT.parent / "shared" / "data" / "placement"
# Times differ from run to run.
SECONDS = re.compile(r"[0-9.]+ s$", re.MULTILINE)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["schedule", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def worked_examples() -> Iterator[tuple[str, str]]:
    """Yield the commands of the guide and what it says they print."""
    blocks = re.findall(r"```console\n\$ skerry schedule (.*?)\n(.*?)```", GUIDE.read_text(), re.S)
    yield from blocks


def test_json_says_the_plan_its_bound_and_its_levels() -> None:
    told = json.loads(run(str(SURVIVAL), "-o", "json"))
    assert told["optimal"] is True
    assert told["cost_per_hour"] == 24.0
    assert [(p["deployment"], p["pool"], p["replicas"]) for p in told["placements"]] == [
        ("d-000000", "plane-0000--pool-00000", 1),
        ("d-000000", "plane-0002--pool-00002", 1),
    ]
    assert all(p["reason"] and p["ceiling"] >= p["replicas"] for p in told["placements"])
    cost = next(level for level in told["levels"] if level["level"] == "cost")
    assert (cost["value"], cost["bound"], cost["gap"]) == (24.0, 24.0, 0.0)


def test_a_packed_file_is_read_like_a_plain_one(tmp_path: Path) -> None:
    packed = tmp_path / "problem.json.gz"
    packed.write_bytes(gzip.compress(SURVIVAL.read_bytes()))
    assert read_file(packed) == read_file(SURVIVAL)


def test_the_guide_prints_what_the_commands_of_its_examples_print(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    examples = list(worked_examples())
    assert len(examples) == 3
    for command, told in examples:
        printed = "\n".join(line.rstrip() for line in run(*command.split()).splitlines())
        assert SECONDS.sub("T s", printed.strip()) == SECONDS.sub("T s", told.strip())


def test_eligible_pools_are_filtered_by_the_memory_of_their_nodes() -> None:
    values: dict[str, Any] = json.loads(SURVIVAL.read_text())
    values["pools"][0]["host_mem_gib_per_node"] = 63
    plan = solve(read_problem(values, "x"))
    assert all(p.pool != "plane-0000--pool-00000" for p in plan.placements)


def test_the_shared_problem_is_solved_to_a_small_gap_with_no_rule_broken() -> None:
    path = SHARED / "placement_10x50_seed1.json.gz"
    if not path.exists():
        pytest.skip("the shared data is not here")
    problem = read_problem(read_file(path), "x")
    plan = solve(problem)
    assert violations(plan, problem) == ()
    assert next(level.gap for level in plan.levels if level.level == "cost") < 0.005


def changed(*path: str | int, to: object) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(SURVIVAL.read_text())
    at: Any = values
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to
    return values


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (changed("pools", to=None), "NoneType"),
        (changed("pools", 0, to={}), "lacks 'plane'"),
        (changed("pools", 0, "nodes", to=-1), "out of range"),
        (changed("pools", 0, "nodes", to=1e400), "infinity"),
        (changed("pools", 0, "price_gpu_hour", to=float("nan")), "price"),
        (changed("pools", 0, "market", to="free"), "free"),
        (changed("pools", 1, "id", to=0), "lacks 1"),
        (changed("deployments", 0, "demand", to=-1), "tokens/s"),
        (changed("deployments", 0, "demand", to=1e12), "more than"),
        (changed("deployments", 0, "configs", "H100", "throughput", to=0), "throughput"),
        (changed("deployments", 0, "configs", "H100", "tp", to=0), "accelerator"),
        (changed("deployments", 0, "eligible_pools", to=[7]), "lacks 7"),
        (changed("deployments", 0, "spot_share_max", to=2), "spot_share_max"),
    ],
)
def test_a_broken_problem_is_refused_with_its_fault(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        read_problem(values, "problem.json")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\x1f\x8bnot gzip", b"[" * 100_000])
def test_a_file_that_is_no_problem_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "problem.json"
    path.write_bytes(text)
    with pytest.raises(InvalidInput, match=r"problem\.json"):
        read_file(path)
    with pytest.raises(InvalidInput, match=r"none\.json"):
        read_file(tmp_path / "none.json")
