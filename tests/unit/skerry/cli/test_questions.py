"""`skerry explain`, `what-if`, `survive` and `plan`: what they ask, print and refuse."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from skerry.cli import session
from skerry.cli.answers import NOT_SOLVED, print_losses
from skerry.cli.main import run
from skerry.client import questions, rows
from skerry.fleet.deployment import FailureDomain
from skerry.plumbing.errors import NotFound

SHED = rows.ShedRow(
    deployment="last", pool="fra--cpu", replicas=2, taken_by=("first",), reason="gives way"
)
UNPLACED = rows.UnplacedRow(deployment="last", replicas=1, reason="needs 1 replica more")
LEVELS = (
    rows.LevelRow(level="unmet-class-0", value=0.0, bound=0.0, gap=0.0, unit="deployments"),
    rows.LevelRow(level="cost", value=4.0, bound=3.0, gap=0.25, unit="USD/h"),
)
EXPLANATION = questions.Explanation(
    deployment="demo",
    pool=None,
    replicas=2,
    reasons=("2 on fra--cpu: cheapest",),
    conflict=("residency", "size of pools"),
    ways=(
        questions.WayOut(change="+4 cpu accelerators in fra--cpu", dollars_per_hour=0.4),
        questions.WayOut(change="par--gpu had a price (unknown)", dollars_per_hour=None),
    ),
)
CONSEQUENCES = questions.Consequences(
    placed=(questions.ReplicasRow(deployment="first", pool="aws--cpu", replicas=1, reason="x"),),
    moved=(rows.MoveRow(deployment="demo", from_pool="fra--cpu", to_pool="aws--cpu", replicas=3),),
    evicted=(questions.ReplicasRow(deployment="last", pool="fra--cpu", replicas=2, reason="y"),),
    shed=(SHED,),
    unplaced=(UNPLACED,),
    unplaced_before=(),
    cost_per_hour_before=1.0,
    cost_per_hour_after=1.5,
    levels=LEVELS,
    solver="cp-sat",
    optimal=True,
)
LOSS = questions.LossRow(
    domain=FailureDomain.CLOUD,
    name="aws",
    holds=False,
    survivors=(
        questions.SurvivorRow(
            deployment="demo", wanted=4.0, left=1.0, promised=2.0, shortfall=1.0, unmet_after=0
        ),
    ),
    shed=(SHED,),
    solved=True,
)
PLAN = rows.PlanPreview(
    placements=(
        rows.PlannedRow(
            deployment="demo",
            pool="fra--cpu",
            replicas_before=2,
            replicas_after=2,
            cost_per_hour=0.2,
            reason="kept where it runs; first placed: cheapest",
        ),
    ),
    rejections=(),
    unplaced=(UNPLACED,),
    cost_per_hour_before=0.2,
    cost_per_hour_after=0.2,
    solver="greedy",
    solve_seconds=0.1,
    optimal=False,
    shed=(SHED,),
    levels=LEVELS,
    prices=(rows.PoolPriceRow(pool="fra--cpu", dollars_per_hour=1.2),),
    solver_reason="cp-sat: late",
)


class Operator:
    """An operator API that knows one answer to each question."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def explain(self, deployment: str, pool: str | None = None) -> questions.Explanation:
        self.asked.append((deployment, pool))
        if deployment == "nope":
            raise NotFound("no deployment 'nope' is to be served; there are demo", field="name")
        return replace(EXPLANATION, pool=pool)

    def what_if(self, changes: Sequence[questions.Hypothesis]) -> questions.Consequences:
        self.asked.append(tuple(changes))
        return CONSEQUENCES

    def survive(self, domains: Sequence[FailureDomain] = ()) -> tuple[questions.LossRow, ...]:
        self.asked.append(tuple(domains))
        none = replace(LOSS, name="gcp", holds=True, survivors=(), shed=())
        return (LOSS, none)

    def get_plan(self) -> rows.PlanPreview:
        return PLAN


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Operator:
    answering = Operator()

    @contextmanager
    def connect(_: session.Session) -> Iterator[Operator]:
        yield answering

    monkeypatch.setattr(session.Session, "operator", connect)
    return answering


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the words of every line."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_explaining_says_reasons_conflict_and_the_ways_out(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", "deployment", "demo"]) == 0
    assert printed(capsys) == [
        "demo: 2 replicas",
        "2 on fra--cpu: cheapest",
        "ruled out together by: residency, size of pools",
        "USD/H MORE IT WOULD FIT IF",
        "0.4 +4 cpu accelerators in fra--cpu",
        "? par--gpu had a price (unknown)",
    ]
    assert run(["explain", "deployment", "demo", "--pool", "aws--cpu"]) == 0
    assert printed(capsys)[0] == "demo on aws--cpu: 2 replicas"
    assert operator.asked == [("demo", None), ("demo", "aws--cpu")]


def test_what_if_asks_for_every_option_and_says_what_would_happen(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--price", "3@fra--cpu", "--lose", "region/aws/us-east-1", "--demand", "1.5"]
    assert run(["what-if", *options, "--lose", "plane/fra", "--demand", "0@last"]) == 0
    assert operator.asked == [
        (
            questions.Lose(domain=FailureDomain.REGION, name="aws/us-east-1"),
            questions.Lose(domain=FailureDomain.PLANE, name="fra"),
            questions.ScalePrice(factor=3.0, pool="fra--cpu"),
            questions.ScaleDemand(factor=1.5),
            questions.ScaleDemand(factor=0.0, deployment="last"),
        )
    ]
    lines = printed(capsys)
    assert lines[0].startswith("if region aws/us-east-1 is lost and plane fra is lost and fra--cpu")
    assert lines[1:] == [
        "3 replicas would move, 1 start, 2 end; +$0.500/h; 1 replica without a place (now 0)",
        "CHANGE DEPLOYMENT REPLICAS FROM TO",
        "move demo 3 fra--cpu aws--cpu",
        "start first 1 - aws--cpu",
        "end last 2 fra--cpu -",
        "GIVEN UP POOL REPLICAS FOR WHY",
        "last fra--cpu 2 first gives way",
        "1 replica of last has no place: needs 1 replica more",
        "cost per hour: 1.000 -> 1.500 USD (optimal; cp-sat)",
    ]


def test_the_matrix_says_what_is_left_and_whose_promise_breaks(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["survive", "--domain", "cloud"]) == 0
    assert operator.asked == [(FailureDomain.CLOUD,)]
    assert printed(capsys) == [
        "LOST DEPLOYMENT WANTED LEFT PROMISED MISSING UNMET AFTER MOVES",
        "cloud aws demo 4 1 2 1 -",
        "cloud gcp (none runs there) - - - - -",
        "after the loss of cloud aws:",
        "GIVEN UP POOL REPLICAS FOR WHY",
        "last fra--cpu 2 first gives way",
        "a promise breaks with the loss of: cloud aws",
    ]


def test_losses_that_were_not_solved_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    survivor = replace(LOSS.survivors[0], unmet_after=None)
    loss = replace(LOSS, survivors=(survivor,), shed=(), solved=False)
    print_losses(Console(width=200), (loss,))
    assert printed(capsys)[1:] == [
        "cloud aws demo 4 1 2 1 ?",
        f"? {NOT_SOLVED}",
        "a promise breaks with the loss of: cloud aws",
    ]


def test_the_plan_in_force_shows_what_is_proven_scarce_and_given_up(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan"]) == 0
    assert printed(capsys) == [
        "the plan in force",
        "DEPLOYMENT POOL REPLICAS USD/H WHY",
        "demo fra--cpu 2 -> 2 0.200 kept where it runs; first placed: cheapest",
        "1 replica of last has no place: needs 1 replica more",
        "GIVEN UP POOL REPLICAS FOR WHY",
        "last fra--cpu 2 first gives way",
        "LEVEL VALUE BOUND GAP UNIT",
        "cost 4 3 25.00% USD/h",
        "at 0, which no plan beats: unmet-class-0",
        "certified gap: 25.00% of cost (no plan is below 3 USD/h)",
        "SCARCE POOL ONE MORE ACCELERATOR IS WORTH USD/H",
        "fra--cpu 1.2000",
        "not by a better solver: cp-sat: late",
        "cost per hour: 0.200 -> 0.200 USD (feasible, not proven best; greedy, 100 ms)",
    ]


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["explain", "deployment", "demo"], ("ways", 0, "dollars_per_hour"), 0.4),
        (["what-if", "--lose", "cloud/aws"], ("moved", 0, "to_pool"), "aws--cpu"),
        (["survive"], (0, "survivors", 0, "shortfall"), 1.0),
        (["plan"], ("prices", 0, "dollars_per_hour"), 1.2),
    ],
)
def test_json_has_all_of_it(
    operator: Operator,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    path: tuple[str | int, ...],
    value: object,
) -> None:
    assert run([*arguments, "-o", "json"]) == 0
    told: Any = json.loads(capsys.readouterr().out)
    for step in path:
        told = told[step]
    assert told == value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["what-if"], "nothing to ask; give --lose, --price or --demand"),
        (["what-if", "--lose", "fra"], "write plane/NAME, region/CLOUD/REGION or cloud/NAME"),
        (["what-if", "--lose", "region/us-east-1"], "write plane/NAME"),
        (["what-if", "--lose", "plane/a/b"], "write plane/NAME"),
        (["what-if", "--price", "nan"], "write a factor from 0 to 1e+06"),
        (["what-if", "--price", "-2"], "write a factor"),
        (["what-if", "--price", "inf@fra--cpu"], "write a factor"),
        (["what-if", "--demand", "2@"], "or 1.5@NAME for one only"),
        (["what-if", "--demand", "much"], "write a factor"),
        (["what-if", "--demand", "2", "-o", "yaml"], "-o must be table or json"),
        (["survive", "--domain", "moon"], "--domain must be one of plane, region, cloud"),
        (["explain", "deployment", "demo", "-o", "xml"], "-o must be table or json"),
        (["plan", "-o", "xml"], "-o must be table or json"),
    ],
)
def test_a_question_that_cannot_be_asked_ends_with_two_and_says_how_to_ask(
    operator: Operator, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err
    assert operator.asked == []


def test_what_the_fleet_refuses_ends_with_one(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", "deployment", "nope"]) == 1
    assert "there are demo" in capsys.readouterr().err


SCARCE = str(Path(__file__).parents[4] / "examples" / "scheduling" / "scarce.json")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--explain", "d-000000"], "2 on plane-0000--pool-00000: cheapest eligible pool"),
        (["--explain", "d-000002"], "ruled out together by: what other deployments hold"),
        (
            ["--explain", "d-000000", "--pool", "plane-0001--pool-00001"],
            "d-000000 on plane-0001--pool-00001: 0 replicas",
        ),
        (["--what-if", "lose=plane/plane-0001"], "64 end; -$51.200/h"),
        (["--what-if", "price=2", "--what-if", "demand=0.5@d-000002"], "every pool costs 2"),
        (["--survive"], "no promise is broken by any of these"),
    ],
)
def test_a_file_is_asked_the_same(
    capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run(["schedule", SCARCE, *options]) == 0
    assert said in capsys.readouterr().out
    assert run(["schedule", SCARCE, *options, "-o", "json"]) == 0
    json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--explain", "nope"], 1, "no deployment 'nope'"),
        (["--explain", "d-000000", "--pool", "x"], 1, "no pool 'x'"),
        (["--what-if", "lose=plane/x"], 1, "known: plane-0000, plane-0001"),
        (["--what-if", "plane/x"], 2, "write lose=..., price=... or demand=..."),
        (["--what-if", "price=nan"], 2, "write a factor"),
        (["--pool", "x"], 2, "--pool goes with --explain"),
        (["--survive", "--explain", "d-000000"], 2, "one thing at a time"),
    ],
)
def test_a_bad_question_to_a_file_is_refused(
    capsys: pytest.CaptureFixture[str], options: list[str], code: int, said: str
) -> None:
    assert run(["schedule", SCARCE, *options]) == code
    assert said in capsys.readouterr().err
