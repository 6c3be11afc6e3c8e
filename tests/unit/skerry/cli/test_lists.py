"""What the command line asks lists for: filters, orders, the changes that are meant; pool terms."""

import pytest

from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.api.operator.v1 import pool_pb2
from skerry.cli.get import KINDS
from skerry.plumbing.errors import NotFound
from skerry.wire.supply import pool_shape_to_proto
from tests.builders import a_shape
from tests.unit.skerry.cli.conftest import OperatorApi

POOL = "projects/default/pools/onprem-fra--cpu"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "changes"])
def test_every_list_is_filtered_and_ordered_by_the_control_plane(
    kind: str, api: OperatorApi
) -> None:
    named = ["demo"] if kind == "revisions" else []
    assert api.run("get", kind, *named, "--filter", "name:x", "--sort-by", "name desc") in (0, 1)
    (asked,) = [request for name, request in api.asked if name.startswith("List")]
    assert (asked.filter, asked.order_by) == ("name:x", "name desc")


def answer_with_changes(api: OperatorApi) -> None:
    told = pb.ListChangesResponse()
    for sequence, actor in ((4, "user:ada"), (3, "plane:x"), (2, "user:bob"), (1, "user:ada")):
        told.changes.add(
            sequence=sequence, actor=actor, kind="deployment.applied", subject=f"p/d-{sequence}"
        )
    api.answers["ListChanges"] = told


@pytest.mark.parametrize(
    ("order", "shown"), [("", "1 2 4"), ("sequence", "1 2 4"), ("sequence desc", "4 2 1")]
)
def test_changes_that_pass_are_shown_in_either_order(
    order: str, shown: str, api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with_changes(api)
    assert api.run("get", "changes", "--filter", 'actor = "user:*"', "--sort-by", order) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert " ".join(row.split()[0] for row in rows) == shown


def test_changes_have_no_other_order(api: OperatorApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert api.run("get", "changes", "--sort-by", "actor") == 2
    assert "sequence" in capsys.readouterr().err


def test_what_is_named_is_not_filtered(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api.run("get", "planes", "x", "--filter", "name:x") == 2
    assert "without a name" in capsys.readouterr().err


def test_changes_asked_for_are_chosen_by_the_control_plane(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_with_changes(api)
    options = ("--subject", "d-", "--kind", "deploy", "--actor", "user:a", "--count", "9")
    assert api.run("changes", *options) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["1", "4"]
    *_, asked = api.asked_of("ListChanges")
    assert (asked.newest_first, asked.page_size, asked.from_sequence) == (True, 9, 0)


def test_what_is_too_old_to_be_looked_through_is_told(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    told = pb.ListChangesResponse()
    told.changes.add(sequence=100_007, actor="user:ada", kind="price.set")
    api.answers["ListChanges"] = told
    assert api.run("changes", "--kind", "plane") == 0
    assert [asked.from_sequence for asked in api.asked_of("ListChanges")] == [0, 7]
    assert "newest 100,000 changes" in capsys.readouterr().err


def test_quotes_in_what_is_looked_for_are_taken_as_they_are(api: OperatorApi) -> None:
    answer_with_changes(api)
    assert api.run("changes", "--subject", 'a"b\\') == 0
    *_, asked = api.asked_of("ListChanges")
    assert asked.filter == r'subject = "*a\"b\\*"'


@pytest.mark.parametrize("command", ["pool", "pools"])
def test_only_the_terms_that_are_given_are_set(command: str, api: OperatorApi) -> None:
    pool = pool_pb2.Pool(name=POOL, shape=pool_shape_to_proto(a_shape()))
    api.answers["GetPool"] = api.answers["UpdatePool"] = pool
    assert api.run(command, "set", "onprem-fra--cpu", "--price", "0.5", "--cordon") == 0
    (asked,) = api.asked_of("UpdatePool")
    assert asked.name == POOL
    assert list(asked.update_mask.paths) == ["terms.cordoned", "terms.price_per_accelerator_hour"]
    assert (asked.terms.price_per_accelerator_hour, asked.terms.cordoned) == (0.5, True)
    assert asked.etag == ""


def test_terms_are_not_left_waiting_for_a_misspelt_pool(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["GetPool"] = NotFound("pool 'x--y' was not reported")
    assert api.run("pool", "set", "x--y", "--price", "0.5") == 1
    assert api.asked_of("UpdatePool") == []


def test_help_names_the_command_in_the_singular(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api.run("--help") == 0
    commands = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert "pool" in commands
    assert "pools" not in commands
