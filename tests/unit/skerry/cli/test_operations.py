"""`cordon`, `drain`, `failover` and `move`: what is sent, what people read, and how they end."""

import _thread
import json
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from skerry.api.operator.v1 import catalogue_service_pb2, placement_pb2
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.cli import operations
from skerry.cli.main import run
from skerry.client import steering
from skerry.plumbing.errors import Infeasible, NotFound
from tests.unit.skerry.cli.conftest import OperatorApi

FRA = "projects/default/planes/onprem-fra"
AGAIN_SECONDS = 3.0
State = pb.DrainResponse.State


def left(replicas: int, *waits: str, ready: int = 0) -> pb.DrainResponse:
    """So many replicas of demo are left."""
    return pb.DrainResponse(
        state=State.STATE_DRAINING,
        replicas_left=replicas,
        deployments=[
            pb.DrainingDeployment(
                deployment="demo",
                replicas_left=replicas,
                replicas_wanted=2,
                replicas_ready_elsewhere=ready,
            )
        ],
        waits_for=waits,
    )


DRAINED = pb.DrainResponse(state=State.STATE_DRAINED)


def test_a_drain_is_followed_until_it_is_empty(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["Drain"] = [
        left(2),
        left(1, "1 replicas of demo find no other place: full", ready=1),
        DRAINED,
    ]
    assert api.run("drain", "plane/onprem-fra") == 0
    assert capsys.readouterr().out.splitlines() == [
        "plane/onprem-fra draining: 2 replicas left: demo 2 (0 of 2 ready elsewhere)",
        "plane/onprem-fra draining: 1 replica left: demo 1 (1 of 2 ready elsewhere)",
        "  waits: 1 replicas of demo find no other place: full",
        "plane/onprem-fra drained: nothing left",
    ]
    (asked,) = api.asked_of("Drain")
    assert (asked.name, asked.validate_only) == (FRA, False)
    assert asked.request_id


def test_a_drain_that_is_ended_by_uncordon_is_no_success(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = pb.DrainResponse(state=State.STATE_ENDED, replicas_left=1)
    api.answers["Drain"] = [left(2), ended]
    assert api.run("drain", "plane/onprem-fra") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "plane/onprem-fra ended: 1 replica left"


def test_a_dry_run_shows_what_is_there_and_begins_nothing(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    told = left(2)
    told.state = State.STATE_NOT_STARTED
    api.answers["Drain"] = [told]
    assert api.run("drain", "plane/onprem-fra", "--dry-run") == 0
    assert "plane/onprem-fra not started: 2 replicas left" in capsys.readouterr().out
    assert [asked.validate_only for asked in api.asked_of("Drain")] == [True]


def test_who_does_not_wait_leaves_after_the_first_word(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = threading.Event()

    def drain(_: Any, context: Any) -> Iterator[pb.DrainResponse]:
        context.add_callback(gone.set)
        yield left(2)
        gone.wait()

    api.answers["Drain"] = drain
    assert api.run("drain", "plane/onprem-fra", "--no-wait") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert gone.is_set() or gone.wait(10)


def test_programs_read_a_line_of_json_for_each_word(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["Drain"] = [left(1, ready=1), DRAINED]
    assert api.run("drain", "plane/onprem-fra", "-o", "json") == 0
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["state"] == "draining"
    assert first["deployments"] == [
        {
            "deployment": "demo",
            "replicas_left": 1,
            "replicas_wanted": 2,
            "replicas_ready_elsewhere": 1,
        }
    ]
    assert (last["state"], last["replicas_left"]) == ("drained", 0)


def test_a_line_of_progress_and_what_it_waits_for_have_an_end(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    told = pb.DrainResponse(state=State.STATE_DRAINING, replicas_left=25)
    for number in range(25):
        told.deployments.add(deployment=f"d{number}", replicas_left=1)
        told.waits_for.append(f"plane p{number} is suspect")
    api.answers["Drain"] = [told, DRAINED]
    assert api.run("drain", "cloud/aws") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("d19 1 (0 of 0 ready elsewhere), and 5 more")
    assert lines[20] == "  waits: plane p19 is suspect"
    assert lines[21:] == ["  and waits for 5 more", "cloud/aws drained: nothing left"]


def test_an_interrupted_drain_says_that_it_goes_on(
    api: OperatorApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, print_drain = threading.Event(), operations.print_drain

    def show(*told: Any) -> None:
        print_drain(*told)
        shown.set()

    def drain(_: Any, context: Any) -> Iterator[pb.DrainResponse]:
        gone = threading.Event()
        context.add_callback(gone.set)
        yield left(2)
        shown.wait()
        _thread.interrupt_main()
        # One that arrives inside a callback of gRPC's is lost there; a person presses again, too.
        while not gone.wait(AGAIN_SECONDS):
            _thread.interrupt_main()

    monkeypatch.setattr(operations, "print_drain", show)
    api.answers["Drain"] = drain
    assert api.run("drain", "plane/onprem-fra") == 130
    assert capsys.readouterr().err == (
        "the drain of plane/onprem-fra goes on; `skerry drain plane/onprem-fra` follows it,"
        " `skerry uncordon plane/onprem-fra` ends it\n"
    )


@pytest.mark.parametrize(("option", "told"), [("--wait", "may have begun"), ("--dry-run", "")])
def test_a_drain_that_is_interrupted_before_its_first_word_says_what_is_known(
    option: str,
    told: str,
    api: OperatorApi,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: Any, **__: Any) -> Iterator[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("skerry.client.operator.OperatorClient.drain", interrupted)
    assert api.run("drain", "plane/onprem-fra", option) == 130
    said = capsys.readouterr().err
    assert told in said
    assert bool(said) is bool(told)


def test_a_drain_that_nobody_answers_any_more_says_that_it_goes_on(
    api: OperatorApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steering, "WATCH_TRIES_MAX", 1)

    def drain(_: Any, context: Any) -> Iterator[Any]:
        yield left(2)
        context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    api.answers["Drain"] = drain
    assert api.run("drain", "plane/onprem-fra") == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("the drain of plane/onprem-fra goes on;")
    assert rest[0].startswith("error: ")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("plane/onprem-fra", "planes/onprem-fra"),
        ("planes/onprem-fra", "planes/onprem-fra"),
        ("node/onprem-fra--rack-1", "nodes/onprem-fra--rack-1"),
        ("pool/onprem-fra--cpu", "pools/onprem-fra--cpu"),
        ("region/aws/us-east-1", "regions/aws/us-east-1"),
        ("cloud/aws", "clouds/aws"),
    ],
)
def test_every_part_of_the_fleet_has_a_name(api: OperatorApi, part: str, name: str) -> None:
    api.answers["Drain"] = [DRAINED]
    api.answers["Cordon"] = catalogue_service_pb2.CordonResponse(changed=True)
    assert api.run("drain", part) == 0
    assert api.run("cordon", part) == 0
    asked = [request.name for _, request in api.asked]
    assert asked == [f"projects/default/{name}"] * 2


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("onprem-fra", "must be plane/X, node/PLANE--NODE"),
        ("plane/", "must be plane/X"),
        ("zone/a", "must be plane/X"),
        ("region/aws", "must look like CLOUD/REGION"),
        ("node/rack-1", "must look like PLANE--NODE"),
        ("plane/onprem-fra--cpu", "must look like PLANE"),
        ("cloud/My Cloud", "must be 1-63 characters"),
    ],
)
@pytest.mark.parametrize("command", ["cordon", "uncordon", "drain", "failover"])
def test_what_names_no_part_is_refused_before_anything_is_sent(
    command: str, part: str, told: str, api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api.run(command, part) == 2
    assert told in capsys.readouterr().err
    assert api.asked == []


def test_a_part_that_is_not_there_is_told_with_the_servers_words(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["Drain"] = NotFound("nothing that planes reported lies in plane 'nowhere'")
    assert api.run("drain", "plane/nowhere") == 1
    assert capsys.readouterr().err == (
        "error: nothing that planes reported lies in plane 'nowhere'\n"
    )


def test_a_cordon_says_whether_it_was_new(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["Cordon"] = catalogue_service_pb2.CordonResponse(changed=True)
    assert api.run("cordon", "node/onprem-fra--rack-1") == 0
    assert api.run("uncordon", "node/onprem-fra--rack-1") == 0
    assert capsys.readouterr().out.splitlines() == [
        "node/onprem-fra--rack-1 is cordoned",
        "node/onprem-fra--rack-1 is not cordoned already",
    ]


def test_a_failover_names_who_is_lost_and_who_is_not(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["Failover"] = pb.FailoverResponse(
        planes=["aws-a", "aws-b"], heard=["aws-c"], lost_before=["aws-d"]
    )
    assert api.run("failover", "cloud/aws") == 0
    assert capsys.readouterr().out.splitlines() == [
        "plane aws-a is declared lost",
        "plane aws-b is declared lost",
        "plane aws-d was lost before",
        "plane aws-c is heard and left alone",
    ]
    (asked,) = api.asked_of("Failover")
    assert asked.name == "projects/default/clouds/aws"
    assert (asked.even_if_serving, asked.validate_only) == (False, False)
    assert asked.request_id


def test_a_failover_of_planes_that_serve_takes_a_second_word(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["Failover"] = pb.FailoverResponse(planes=["aws-a"])
    assert api.run("failover", "plane/aws-a", "--even-if-serving", "--dry-run") == 0
    assert capsys.readouterr().out == "plane aws-a would be declared lost\n"
    (asked,) = api.asked_of("Failover")
    assert (asked.even_if_serving, asked.validate_only) == (True, True)


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (pb.FailoverResponse(heard=["aws-a"]), 1),
        (pb.FailoverResponse(heard=["aws-a"], lost_before=["aws-b"]), 0),
        (pb.FailoverResponse(planes=["aws-a"]), 0),
    ],
    ids=["all are heard", "it was lost before", "it is lost"],
)
def test_a_failover_of_nothing_is_no_success(
    output: str,
    answer: pb.FailoverResponse,
    code: int,
    api: OperatorApi,
    capsys: pytest.CaptureFixture[str],
) -> None:
    api.answers["Failover"] = answer
    assert api.run("failover", "cloud/aws", "-o", output) == code
    if output == "json":
        told = json.loads(capsys.readouterr().out)
        assert told["heard"] == list(answer.heard)


def test_a_failover_that_is_refused_says_why(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["Failover"] = Infeasible("plane aws-a is heard; `skerry drain plane/aws-a`")
    assert api.run("failover", "plane/aws-a") == 1
    assert "error: plane aws-a is heard" in capsys.readouterr().err


MOVE = ("move", "demo", "--from", "gcp-x--cpu", "--to", "onprem-fra--cpu")


def a_plan() -> placement_pb2.Plan:
    """Two replicas of demo leave gcp-x for onprem-fra."""
    plan = placement_pb2.Plan(cost_per_hour_before=0.4, cost_per_hour_after=0.2, solver="keep")
    plan.solver_reason = "moved by an operator"
    plan.levels.add(level="cost", value=0.2, gap=1.0, unit="USD/h")
    told = "moved from gcp-x--cpu by an operator"
    plan.placements.add(
        deployment="demo", pool="onprem-fra--cpu", replicas_after=2, cost_per_hour=0.2, reason=told
    )
    planned = plan.deployments.add(deployment="demo", replicas_before=2, replicas_after=2)
    planned.moves.add(
        deployment="demo", from_pool="gcp-x--cpu", to_pool="onprem-fra--cpu", replicas=2
    )
    return plan


def test_a_move_is_sent_as_asked_and_its_plan_shown(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["MoveReplica"] = a_plan()
    assert api.run(*MOVE, "--replicas", "2") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("moving 2 of demo from gcp-x--cpu to onprem-fra--cpu\n")
    assert "2 gcp-x--cpu -> onprem-fra--cpu" in shown
    assert "moved from gcp-x--cpu by an operator" in shown
    assert "cost per hour: 0.400 -> 0.200 USD" in shown
    assert "gap" not in shown, "nothing is proven of what the solver did not choose"
    assert "better solver" not in shown
    (asked,) = api.asked_of("MoveReplica")
    assert asked.name == "projects/default/deployments/demo"
    assert (asked.from_pool, asked.to_pool, asked.replicas) == ("gcp-x--cpu", "onprem-fra--cpu", 2)
    assert asked.request_id
    assert not asked.validate_only


def test_a_move_is_of_one_replica_and_can_be_shown_first(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["MoveReplica"] = a_plan()
    assert api.run(*MOVE, "--dry-run", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["cost_per_hour_after"] == 0.2
    assert api.run(*MOVE, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("would move 1 of demo from gcp-x--cpu")
    assert {(asked.replicas, asked.validate_only) for _, asked in api.asked} == {(1, True)}


def test_a_move_that_may_not_be_says_why(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["MoveReplica"] = Infeasible("the move would break a promise: survival goes ...")
    assert api.run(*MOVE) == 1
    assert "error: the move would break a promise" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["move", "demo", "--to", "b--cpu"],
        [*MOVE, "--replicas", "0"],
        [*MOVE, "-o", "yaml"],
        ["drain", "plane/a", "-o", "yaml"],
        ["failover", "plane/a", "-o", "yaml"],
        ["drain"],
    ],
    ids=" ".join,
)
def test_a_command_that_says_too_little_or_nonsense_is_wrong_usage(arguments: list[str]) -> None:
    assert run(arguments) == 2
