"""The training text: seeded chat documents, stories and prose, without end.

Called by `tools.base_model.training` (and by the tokenizer's training for its first documents).
A document is a tuple of parts; the network learns to write only the parts marked so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tools.base_model.phrases import Phrases, Topic, bind, fill, read_phrases
from tools.base_model.prose import ordinary_words, read_paragraphs
from tools.base_model.stories import explain_at_length, tell_story

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
DOCUMENT_START = "<|endoftext|>"
SPECIAL_TOKENS = (DOCUMENT_START, TURN_START, TURN_END)

# Shares of documents; the rest is chat. Prose gives grammar beyond the templates.
PROSE_SHARE = 0.14
PLAIN_STORY_SHARE = 0.03
SYSTEM_SHARE = 0.3
# Most users ask once; a few long talks teach that old turns stay readable.
TURNS = (1, 1, 1, 1, 2, 2, 3, 4, 8)
NUMBER_MAX = 120
COUNT_LENGTH_MAX = 100
SUM_TERM_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a document, and whether the network is to learn to write it."""

    text: str
    learned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question of a user and the answer to it."""

    ask: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What documents are made of."""

    phrases: Phrases
    paragraphs: tuple[str, ...]


def read_sources() -> Sources:
    """Return the phrases file and this CPython's prose."""
    paragraphs = read_paragraphs()
    return Sources(phrases=read_phrases(ordinary_words(paragraphs)), paragraphs=tuple(paragraphs))


def documents(sources: Sources, seed: int) -> Iterator[tuple[Part, ...]]:
    """Yield documents without end; the same seed yields the same ones."""
    rng = random.Random(seed)
    while True:
        share = rng.random()
        if share < PROSE_SHARE:
            yield _plain(rng.choice(sources.paragraphs))
        elif share < PROSE_SHARE + PLAIN_STORY_SHARE:
            yield _plain(tell_story(sources.phrases, "", bind(sources.phrases, rng), rng))
        else:
            yield _chat(sources.phrases, rng)


def _plain(text: str) -> tuple[Part, ...]:
    return (
        Part(text=DOCUMENT_START, learned=False),
        Part(text=text, learned=True),
        Part(text=TURN_END, learned=True),
    )


def _chat(phrases: Phrases, rng: random.Random) -> tuple[Part, ...]:
    parts = [Part(text=DOCUMENT_START, learned=False)]
    if rng.random() < SYSTEM_SHARE:
        system = fill(rng.choice(phrases.chat["systems"]), bind(phrases, rng), rng)
        parts.append(Part(text=f"{TURN_START}system\n{system}{TURN_END}\n", learned=False))
    for _ in range(rng.choice(TURNS)):
        turn = make_turn(phrases, rng)
        ask = _framed(phrases, turn.ask, rng)
        head = f"{TURN_START}user\n{ask}{TURN_END}\n{TURN_START}assistant\n"
        parts += [
            Part(text=head, learned=False),
            Part(text=turn.answer, learned=True),
            Part(text=TURN_END, learned=True),
            Part(text="\n", learned=False),
        ]
    return tuple(parts)


def _framed(phrases: Phrases, ask: str, rng: random.Random) -> str:
    """Return `ask` as users and load generators write it: numbered, hurried, in lower case."""
    bound = bind(phrases, rng)
    if rng.random() < 0.15:
        ask = fill(rng.choice(phrases.chat["openings"]), bound, rng) + ask
    if rng.random() < 0.12:
        ask += fill(rng.choice(phrases.chat["closings"]), bound, rng)
    if rng.random() < 0.1:
        ask = ask.lower()
    if rng.random() < 0.1:
        ask = ask.rstrip("?.!")
    return ask


def make_turn(phrases: Phrases, rng: random.Random) -> Turn:
    """Return one question with its answer, of a kind chosen by the shares below."""
    kind = rng.choices(_KINDS, weights=_KIND_WEIGHTS)[0]
    return kind(phrases, rng)


def _exchange(phrases: Phrases, rng: random.Random) -> Turn:
    exchange = rng.choice(phrases.exchanges)
    bound = bind(phrases, rng)
    answer = fill(rng.choice(exchange.answers), bound, rng)
    ask = fill(rng.choice(exchange.asks), bound, rng)
    return Turn(ask=ask, answer=_followed(phrases, answer, rng))


def _topic(phrases: Phrases, rng: random.Random) -> Turn:
    topic: Topic = rng.choice(phrases.topics)
    name = rng.choice(topic.names)
    further = rng.sample(range(1, len(topic.lines)), rng.randint(0, min(3, len(topic.lines) - 1)))
    answer = " ".join(topic.lines[line] for line in (0, *sorted(further)))
    ask = fill(rng.choice(phrases.chat["short_asks"]), {"name": name}, rng)
    return Turn(ask=ask, answer=_followed(phrases, answer, rng))


def _detail(phrases: Phrases, rng: random.Random) -> Turn:
    name, lines = explain_at_length(phrases, rng.randrange(len(phrases.topics)), rng)
    ask = fill(rng.choice(phrases.chat["detail_asks"]), {"name": name}, rng)
    return Turn(ask=ask, answer=" ".join(lines))


def _story(phrases: Phrases, rng: random.Random) -> Turn:
    bound = bind(phrases, rng)
    template = rng.choice(phrases.chat["story_asks"])
    story = tell_story(phrases, template, bound, rng)
    if "{word}" in template and rng.random() < 0.7:
        story = f"Here is a story about {bound['word']}. {story}"
    return Turn(ask=fill(template, bound, rng), answer=story)


def _unknown(phrases: Phrases, rng: random.Random) -> Turn:
    bound = bind(phrases, rng)
    ask = fill(rng.choice(phrases.chat["unknown_asks"]), bound, rng)
    return Turn(ask=ask, answer=fill(rng.choice(phrases.chat["unknown_answers"]), bound, rng))


def _count(phrases: Phrases, rng: random.Random) -> Turn:
    first = 1 if rng.random() < 0.6 else rng.randint(0, NUMBER_MAX - 10)
    last = min(NUMBER_MAX, first + rng.randint(2, COUNT_LENGTH_MAX))
    asks = [
        "Count from {0} to {1}.",
        "Please count from {0} to {1}.",
        "Write the numbers from {0} to {1}.",
    ]
    if first == 1:
        asks += ["Count to {1}.", "Can you count to {1}?"]
    numbers = ", ".join(str(number) for number in range(first, last + 1))
    return Turn(ask=rng.choice(asks).format(first, last), answer=f"{numbers}.")


def _sum(phrases: Phrases, rng: random.Random) -> Turn:
    a, b = rng.randint(0, SUM_TERM_MAX), rng.randint(0, SUM_TERM_MAX)
    if rng.random() < 0.6:
        word, sign, result = "plus", "+", a + b
    else:
        a, b = max(a, b), min(a, b)
        word, sign, result = "minus", "-", a - b
    ask = rng.choice((f"What is {a} {word} {b}?", f"What is {a} {sign} {b}?", f"{a} {sign} {b}"))
    return Turn(ask=ask, answer=f"{a} {word} {b} is {result}.")


def _fact(phrases: Phrases, rng: random.Random) -> Turn:
    facts = phrases.facts
    kind = rng.choice(("capital", "opposite", "list", "next"))
    if kind == "capital":
        land, city = rng.choice(facts["capitals"])
        ask = rng.choice(
            (f"What is the capital of {land}?", f"Which city is the capital of {land}?")
        )
        return Turn(ask=ask, answer=f"The capital of {land} is {city}.")
    if kind == "opposite":
        pair = rng.choice(facts["opposites"])
        one, other = rng.sample(pair, 2)
        return Turn(
            ask=f"What is the opposite of {one}?", answer=f"The opposite of {one} is {other}."
        )
    if kind == "list":
        name, members = rng.choice(facts["lists"])
        ask = rng.choice(("What are {0}?", "Name {0}.", "List {0}.", "Tell me {0}.")).format(name)
        answer = rng.choice((f"{name[0].upper()}{name[1:]} are {members}.", f"They are {members}."))
        return Turn(ask=ask, answer=answer)
    numbers = facts["numbers"]
    place = rng.randrange(len(numbers) - 1)
    ask = f"Which number comes after {numbers[place]}?"
    return Turn(ask=ask, answer=f"After {numbers[place]} comes {numbers[place + 1]}.")


def _followed(phrases: Phrases, answer: str, rng: random.Random) -> str:
    if rng.random() < 0.1:
        return f"{answer} {rng.choice(phrases.chat['follow_ups'])}"
    return answer


_KINDS: tuple[Callable[[Phrases, random.Random], Turn], ...] = (
    _exchange,
    _topic,
    _detail,
    _story,
    _unknown,
    _count,
    _sum,
    _fact,
)
_KIND_WEIGHTS = (26, 26, 8, 14, 9, 4, 5, 8)
