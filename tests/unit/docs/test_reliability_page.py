"""docs/reliability.md says what was measured, all of it, and names tests that exist."""

import ast

import pytest

from tools.fault_rows import PROMISES, ROWS
from tools.gen_reliability import PAGE, ROOT, page, read_results

NAMED = sorted({test for one in (*ROWS, *PROMISES) for test in one.tests})


def test_the_page_has_the_tables_of_the_results() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text, read_results())


@pytest.mark.parametrize("named", NAMED)
def test_every_test_that_is_named_exists(named: str) -> None:
    path, _, function = named.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    functions = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert function in functions or function == "*", f"tools/fault_rows.py names {named}"


def test_every_fault_is_held_by_a_test_or_says_why_not() -> None:
    assert [row.number for row in ROWS if not row.tests and not row.lacks] == []
    numbers = [row.number for row in ROWS]
    assert numbers == sorted(set(numbers))
