"""The reference pages are those of the definitions, and every method and command is on them."""

import json
from pathlib import Path

import pytest

from skerry.api.operator.v1 import catalogue_service_pb2, operator_service_pb2
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
