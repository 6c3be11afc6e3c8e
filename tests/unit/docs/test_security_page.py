"""The threat model and the security page name tests that exist; every topic has one, or a lack."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("SECURITY.md", "docs/security.md")
LINK = re.compile(r"\[([a-z0-9_]+)\]\(((?:\.\./)?tests/[^)]+\.py)\)")
# At least: the page is a table of all that may be asked about.
TOPICS_MIN = 25


def named() -> Iterator[tuple[str, str]]:
    """Yield (path, function) of every test that a page names."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for function, path in LINK.findall(text):
            yield path.removeprefix("../"), f"test_{function}"


def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, found)}


@pytest.mark.parametrize(("path", "function"), sorted(set(named())))
def test_every_test_that_is_named_exists(path: str, function: str) -> None:
    assert function in functions_of(path), f"{path} has no {function}"


@pytest.mark.parametrize("page", PAGES)
def test_whatever_links_to_tests_is_checked_here(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(LINK.findall(text)) == text.count("tests/") > 0


def test_every_topic_is_held_by_a_test_or_says_what_is_not_there_yet() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= TOPICS_MIN
    for topic, holds, tests, lacks in rows:
        assert holds.strip(), topic
        assert LINK.search(tests) or lacks.strip(), topic
