"""The timeline's topics: whatever the store writes into the change log is found under one."""

import ast
from collections.abc import Iterator
from pathlib import Path

from control_plane.dashboard.timeline import TOPICS
from control_plane.store import catalogue, drills
from control_plane.store.snapshot import _WRITTEN

STORE = Path(__file__).resolve().parents[4] / "control_plane" / "store"
BEGINNINGS = [begin for topic in TOPICS.values() for begin in topic]


def words_written() -> Iterator[str]:
    """Yield the first words of kinds, as calls of `append_change` in the store's code have them."""
    for path in STORE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "append_change":
                for part in ast.walk(node.args[2]):
                    word, dot, _ = str(getattr(part, "value", "")).partition(".")
                    if isinstance(part, ast.Constant) and word and dot:
                        yield word


def test_every_kind_of_change_is_under_one_topic() -> None:
    kinds = [one for one in vars(catalogue).values() if isinstance(one, catalogue.Kind)]
    named = [*_WRITTEN, drills.HELD, drills.BROKE, *(kind.key for kind in kinds)]
    written = {key.partition(".")[0] for key in named} | set(words_written())
    assert {"domain", "api-key", "project", "drill", "token", "database"} <= written
    found = {word: [one for one in BEGINNINGS if f"{word}." == one] for word in sorted(written)}
    assert {word for word, topics in found.items() if len(topics) != 1} == set()
    assert {one.removesuffix(".") for one in BEGINNINGS} <= written
