"""Both clients have the same methods, told alike; what they repeat is safe to repeat; pages end."""

import inspect

import pytest

from skerry.api.operator.v1 import (
    catalogue_service_pb2,
    operations_service_pb2,
    operator_service_pb2,
)
from skerry.client import intent_calls, paging
from skerry.client import operator_calls as calls
from skerry.client import operator_methods as ask
from skerry.client.connections import Methods
from skerry.client.context import Context
from skerry.client.operator import AsyncOperatorClient, OperatorClient
from skerry.client.operator_calls import Page
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Exhausted, SkerryError, Unavailable
from skerry.plumbing.ids import SystemIds
from tests.builders import a_deployment

SERVICES = [
    service
    for file in (operator_service_pb2, catalogue_service_pb2, operations_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
# What a method does that changes nothing begins with one of these, or is a question.
READS = ("Get", "List", "Watch", "Plan", "Explain", "WhatIf", "Survive", "Verify")


def public(kind: type[object]) -> dict[str, object]:
    return {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    blocking, awaited = public(OperatorClient), public(AsyncOperatorClient)
    assert list(blocking) == list(awaited)
    for name, method in blocking.items():
        told, other = inspect.signature(method), inspect.signature(awaited[name])  # type: ignore[arg-type]
        assert [*map(str, told.parameters.values())] == [*map(str, other.parameters.values())], name
        assert method.__doc__ == awaited[name].__doc__, name
        assert method.__name__.removeprefix("list_") == name.removeprefix("list_")  # type: ignore[attr-defined]


def test_everything_that_can_be_asked_is_a_method() -> None:
    functions = {
        name
        for name, function in inspect.getmembers(ask, inspect.isfunction)
        if function.__module__ == ask.__name__ and not name.startswith("_") and name != "described"
    }
    methods = public(OperatorClient)
    missing = {n for n in functions if n not in methods and f"iter_{n}" not in methods}
    assert missing == set()


def test_what_carries_no_request_id_changes_nothing() -> None:
    # The clients repeat such calls: whoever adds a write without the field must learn it here.
    for service in SERVICES:
        for method in service.methods:
            is_write = not method.name.startswith(READS)
            assert is_write == ("request_id" in method.input_type.fields_by_name), method.full_name


def test_no_two_services_share_a_method() -> None:
    names = [method.name for service in SERVICES for method in service.methods]
    assert len(names) == len(set(names))


def test_every_method_of_the_api_is_found() -> None:
    class Channel:
        def __getattr__(self, name: str) -> object:
            return lambda path, **_: path

    methods = Methods(Channel())
    for service in SERVICES:
        for method in service.methods:
            assert methods[method.name] == f"/{service.full_name}/{method.name}"


def test_reads_and_writes_with_a_request_id_may_be_repeated() -> None:
    assert calls.get_plane("p", "a").is_repeatable
    assert calls.apply_deployment("p", a_deployment("a"), "id").is_repeatable
    assert not calls.apply_deployment("p", a_deployment("a"), "").is_repeatable


def test_a_deployment_of_a_file_is_of_the_project_that_its_call_is_about() -> None:
    asked = (
        calls.apply_deployment("team-a", a_deployment("a"), "id").request.spec,
        calls.plan_deployment("team-a", a_deployment("a")).request.spec,
        *calls.apply_all("team-a", [a_deployment("a")], "id", validate_only=True).request.specs,
        *intent_calls.apply_everything(
            "team-a", [a_deployment("a")], (), "id", validate_only=True
        ).request.specs,
    )
    assert [spec.project for spec in asked] == ["", "", "", ""], "the parent says it"
    own = a_deployment("a", project="team-a")
    assert calls.apply_deployment("team-a", own, "id").request.spec.project == "team-a"


def test_a_list_without_end_is_an_error_and_not_cut_off() -> None:
    cursor = paging.PageCursor(3)
    for token, found in (("a", ()), ("b", (1,))):
        cursor.took(Page(rows=found, next_token=token))
        assert (cursor.token, cursor.is_over) == (token, False)
    with pytest.raises(Exhausted, match="after 3 pages with 1 rows; narrow it with a filter"):
        cursor.took(Page(rows=(), next_token="c"))


def test_a_token_that_is_repeated_is_an_error() -> None:
    cursor = paging.row_by_row()
    cursor.took(Page(rows=(), next_token="a"))
    with pytest.raises(SkerryError, match="repeats a page's token"):
        cursor.took(Page(rows=(), next_token="a"))


def test_the_last_page_ends_a_list() -> None:
    cursor = paging.whole()
    cursor.took(Page(rows=(), next_token=""))
    assert cursor.is_over


def test_a_client_without_endpoints_says_so() -> None:
    with OperatorClient(Context(endpoints=()), SystemIds(SystemClock()), "user:a") as client:
        with pytest.raises(Unavailable, match="no endpoint is configured"):
            client.list_planes()
        with pytest.raises(Unavailable, match="no endpoint is configured"):
            next(client.watch(0))
