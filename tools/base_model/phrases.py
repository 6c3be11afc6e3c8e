"""Reads `phrases.toml` and fills its templates: `{slot}` and `[choice|choice]`.

Called by `tools.base_model.corpus` and `tools.base_model.stories`.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PHRASES_FILE = Path(__file__).with_name("phrases.toml")

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\[([^\[\]|]*(?:\|[^\[\]|]*)+)\]")
_SENTENCE_START = re.compile(r"(^|[.!?:] )([a-z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Ways to ask one thing and ways to answer it."""

    asks: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A thing that can be explained: its names, and sentences from short to detailed."""

    names: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """Everything in the phrases file, with the slot `word` taken from ordinary prose."""

    slots: dict[str, list[str]]
    chat: dict[str, list[str]]
    story: dict[str, list[str]]
    facts: dict[str, list[Any]]
    exchanges: tuple[Exchange, ...]
    topics: tuple[Topic, ...]


def read_phrases(words: list[str]) -> Phrases:
    """Return the phrases, with `words` as the slots `word` and `word2`."""
    table = tomllib.loads(PHRASES_FILE.read_text(encoding="utf-8"))
    slots = dict(table["slots"], word=words, word2=words)
    # A second friend and a second thing come from the same lists as the first ones.
    slots |= {"friend2": slots["friend"], "thing2": slots["thing"]}
    return Phrases(
        slots=slots,
        chat=table["chat"],
        story=table["story"],
        facts=table["facts"],
        exchanges=tuple(
            Exchange(asks=tuple(row["asks"]), answers=tuple(row["answers"]))
            for row in table["exchange"]
        ),
        topics=tuple(
            Topic(names=tuple(row["names"]), lines=tuple(row["lines"])) for row in table["topic"]
        ),
    )


def bind(phrases: Phrases, rng: random.Random) -> dict[str, str]:
    """Return one value for every slot, to be used for a whole exchange."""
    return {name: rng.choice(values) for name, values in phrases.slots.items()}


def fill(template: str, bound: dict[str, str], rng: random.Random) -> str:
    """Return `template` with choices taken and slots filled; raise KeyError for unknown slots."""
    text = template
    while choice := _CHOICE.search(text):
        text = text[: choice.start()] + rng.choice(choice[1].split("|")) + text[choice.end() :]
    return _SLOT.sub(lambda slot: bound[slot[1]], text)


def capitalised(text: str) -> str:
    """Return `text` with a capital letter at the start of every sentence."""
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)
