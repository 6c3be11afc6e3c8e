"""`get --watch`: all rows, then those that changed, and the names of those that are gone."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from skerry.api.operator.v1 import node_pb2, operator_service_pb2
from skerry.cli import watched_rows
from skerry.cli.watched_rows import printer, watch_rows
from skerry.client.operations import NodeRow
from skerry.client.rows import PriceRow, ReplicaRow
from skerry.plumbing.errors import Infeasible
from tests.builders import T0, a_replica
from tests.fakes.clock import FakeClock
from tests.unit.skerry.cli.conftest import OperatorApi


def a_row(name: str = "a--rack-1", **fields: Any) -> NodeRow:
    row = NodeRow(
        name=name,
        plane="a",
        pool="a--cpu",
        state="ready",
        message="",
        accelerators=4,
        accelerators_used=0,
        replicas=(),
        cordoned=False,
        draining=False,
        updated_at=T0,
    )
    return replace(row, **fields)


def watched(*looks: Sequence[Any]) -> list[list[Any]]:
    """Return what is shown at each look that shows anything; a look takes its second."""
    clock, waiting, shown = FakeClock(), list(looks), []

    def read() -> Sequence[Any]:
        clock.advance(watched_rows.LOOK_SECONDS)
        return waiting.pop(0)

    watch_rows(read, lambda rows: shown.append(list(rows)), clock, looks_max=len(looks))
    return shown


def test_all_rows_are_shown_once_and_then_those_that_changed() -> None:
    first, second = a_row("a--rack-1"), a_row("a--rack-2")
    cordoned, new = replace(second, cordoned=True), a_row("a--rack-3")
    shown = watched([first, second], [first, second], [first, cordoned], [first, cordoned, new])
    assert shown == [[first, second], [cordoned], [new]]


def test_what_is_gone_is_named_once_and_shown_when_it_is_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = a_row("a--rack-1"), a_row("a--rack-2")
    assert watched([first, second], [first], [first], [first, second]) == [
        [first, second],
        [second],
    ]
    assert capsys.readouterr() == ("", "a--rack-2 gone\n")


def test_that_a_report_grows_older_is_no_change() -> None:
    row = ReplicaRow(plane="a", observed=a_replica(), report_age_seconds=0.1)
    restarted = replace(row, observed=a_replica(restarts=1), report_age_seconds=0.3)
    assert watched([row], [replace(row, report_age_seconds=1.1)], [restarted]) == [
        [row],
        [restarted],
    ]


def test_a_price_is_known_by_its_pool_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    price = PriceRow(pool="a--cpu", valid_from=T0, price_per_accelerator_hour=0.1)
    later = replace(price, valid_from=T0 + timedelta(hours=1))
    dearer = replace(later, price_per_accelerator_hour=0.2)
    assert watched([price, later], [price, dearer], [dearer]) == [[price, later], [dearer]]
    assert capsys.readouterr().err == "a--cpu 2026-01-01T00:00:00+00:00 gone\n"


def test_nothing_is_nothing_to_show() -> None:
    assert watched([], []) == []


def test_a_table_has_its_head_once() -> None:
    console = Console(record=True, width=200)
    show = printer("nodes", "table", console)
    show([a_row()])
    show([a_row(cordoned=True)])
    lines = console.export_text().splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["NAME", "POOL", "STATE"],
        ["a--rack-1", "a--cpu", "ready"],
        ["a--rack-1", "a--cpu", "cordoned"],
    ]


def test_what_is_shown_later_stands_below_what_came_before() -> None:
    console = Console(record=True, width=200)
    show = printer("nodes", "table", console)
    show([a_row("a--rack-of-long-names-1"), a_row("a--rack-1")])
    show([a_row("a--rack-1", cordoned=True)])
    lines = console.export_text().splitlines()
    assert {line.index("a--cpu") for line in lines[1:]} == {lines[0].index("POOL")}
    assert {line.index("0/4") for line in lines[1:3]} == {lines[0].index("USED")}


def test_programs_read_a_line_or_a_document_for_each_row(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [a_row("a--rack-1"), a_row("a--rack-2")]
    printer("nodes", "json", Console())(rows)
    told = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["a--rack-1", "a--rack-2"]
    printer("nodes", "yaml", Console())(rows)
    assert capsys.readouterr().out.count("---\nname: a--rack-") == 2


def test_a_list_is_followed_through_the_command_line(
    api: OperatorApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watched_rows, "LOOK_SECONDS", 0.0)
    node = node_pb2.Node(name="projects/default/nodes/a--rack-1", plane="a", pool="a--cpu")
    cordoned = node_pb2.Node(cordoned=True)
    cordoned.MergeFrom(node)
    looks = [[node], [node], [cordoned]]

    def answer(request: Any, _: Any) -> Any:
        if not looks:
            return Infeasible("the test is over")
        return operator_service_pb2.ListNodesResponse(nodes=looks.pop(0))

    api.answers["ListNodes"] = answer
    assert api.run("get", "nodes", "-w", "--filter", 'plane = "a"') == 1
    told = capsys.readouterr()
    assert [line.split()[2] for line in told.out.splitlines()] == ["STATE", "unknown", "cordoned"]
    assert told.err == "error: the test is over\n"
    assert {asked.filter for asked in api.asked_of("ListNodes")} == {'plane = "a"'}


@pytest.mark.parametrize(("kind", "name"), [("revisions", "demo"), ("changes", "1")])
def test_what_has_a_better_way_to_be_followed_is_refused(
    kind: str, name: str, api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api.run("get", kind, name, "--watch") == 2
    assert f"-w is not for {kind}; `skerry watch` follows all changes" in capsys.readouterr().err
    assert api.asked == []
