"""Longer texts: stories and explanations, 60 to 250 tokens, so that a stream lasts a while.

Called by `tools.base_model.corpus`.
"""

from __future__ import annotations

import random

from tools.base_model.phrases import Phrases, bind, capitalised, fill

# Deeds in one story: with 3 a story has about 80 tokens, with 9 about 220.
DEEDS_MIN = 3
DEEDS_MAX = 9
# Topics told one after the other in a detailed explanation, after the one asked for.
FURTHER_TOPICS_MAX = 3


def tell_story(phrases: Phrases, ask: str, bound: dict[str, str], rng: random.Random) -> str:
    """Return a story about the person of `bound` and the slots that the template `ask` names."""
    story = phrases.story
    bound = bound | {"hero": bound["person"]}
    deeds = rng.sample(story["deeds"], rng.randint(DEEDS_MIN, DEEDS_MAX))
    templates = [
        rng.choice(_fitting(story["starts"], ask)),
        *rng.sample(story["homes"], rng.randint(1, 2)),
        rng.choice(_fitting(story["turns"], ask)),
        rng.choice(story["troubles"]),
        *deeds,
        rng.choice(story["ends"]),
        rng.choice(story["morals"][:-1]),
        *([story["morals"][-1]] if rng.random() < 0.5 else []),
    ]
    text = " ".join(fill(template, bound, rng) for template in templates)
    for name in ("friend", "friend2", "thing", "thing2", "home"):
        text = definite_after_first(text, bound[name])
    return capitalised(text)


def explain_at_length(
    phrases: Phrases, topic_number: int, rng: random.Random
) -> tuple[str, list[str]]:
    """Return the name asked for and a text of several paragraphs' worth of sentences."""
    topic = phrases.topics[topic_number]
    lines = list(topic.lines)
    others = [other for other in phrases.topics if other is not topic]
    for other in rng.sample(others, rng.randint(1, FURTHER_TOPICS_MAX)):
        lead = rng.choice(
            ("It helps to know {0}, too.", "Let us also look at {0}.", "Next comes {0}.")
        )
        lines += [lead.format(other.names[0]), *other.lines]
    bound = bind(phrases, rng)
    return rng.choice(topic.names), [fill(line, bound, rng) for line in lines]


def definite_after_first(text: str, phrase: str) -> str:
    """Return `text` where `phrase` ("a fox") is "the fox" from its second mention on."""
    article, _, rest = phrase.partition(" ")
    head, found, tail = text.partition(phrase)
    if article not in ("a", "an") or not found:
        return text
    return head + found + tail.replace(phrase, f"the {rest}")


def _fitting(templates: list[str], ask: str) -> list[str]:
    """Return the templates that use a slot named by `ask`, or all of them if there is none."""
    slots = [slot for slot in ("{friend}", "{thing}", "{home}") if slot in ask]
    return [text for text in templates if any(slot in text for slot in slots)] or templates
