"""The reference pages are those of the definitions, and every method and command is on them."""

import json
from pathlib import Path

import jsonschema
import pytest

from skerry.api.operator.v1 import catalogue_service_pb2, operator_service_pb2
from skerry.client.manifest import FILES
from skerry.plumbing import yaml_document
from tools.gen_reference import DOCS, pages

FOUND = pages()


@pytest.mark.parametrize("name", sorted(FOUND))
def test_what_is_checked_in_is_what_the_definitions_make(name: str) -> None:
    path: Path = DOCS / name
    assert path.read_text() == FOUND[name], "run `make reference`"


def test_every_method_is_told_with_what_it_does() -> None:
    for file in (operator_service_pb2, catalogue_service_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                assert f"| `{method.name}` |" in FOUND["reference/api.md"]


def test_the_schema_takes_quantities_as_people_write_them() -> None:
    schema = json.loads(FOUND["schema/deployment.json"])
    memory = schema["$defs"]["ResourcePart"]["properties"]["hostMemory"]
    assert {"string", "integer"} == {kind["type"] for kind in memory["anyOf"]}


def test_the_schema_of_all_kinds_takes_every_example_and_no_other_field() -> None:
    schema = jsonschema.Draft202012Validator(json.loads(FOUND["schema/skerry.json"]))
    kinds = set()
    for path in (DOCS.parent / "examples").glob("*.yaml"):
        for document in yaml_document.parse(path.read_bytes(), path.name):
            assert isinstance(document.value, dict)
            assert [error.message for error in schema.iter_errors(document.value)] == []
            kinds.add(document.value["kind"])
            wrong = {**document.value, "metadata": {"name": "x", "nmae": "y"}}
            assert [list(error.path) for error in schema.iter_errors(wrong)] == [["metadata"]]
    assert kinds == set(FILES)
    assert not schema.is_valid({"apiVersion": "skerry/v1", "kind": "Pol", "metadata": {}})
