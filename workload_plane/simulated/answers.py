"""What the simulated engine answers: words from a list, the same for the same prompt and seed.

Pure. Tokens of a prompt are four bytes of its text each, about what English has under a vocabulary
of some 100,000 tokens, or the ids that were given; tokens of an answer are words.
"""

import hashlib
import zlib
from dataclasses import dataclass

_TEXT = (
    "rock sea tide wave gull light harbour stone wind salt shore reef boat rope anchor mast"
    " north south east west calm storm cloud rain sun moon star night day dawn dusk sand"
)
WORDS = tuple(_TEXT.split())
FIRST_WORD_TOKEN = 16
# A word that no answer has: only a prompt can bring it.
POISON_WORD = "poison"
_BYTES_PER_TOKEN = 4
# Without a limit from the user an answer ends by itself, as a real one does.
_ANSWER_TOKENS_LEAST, _ANSWER_TOKENS_MOST = 16, 64
# From a random byte to the position of a word.
_WORD_OF_BYTE = bytes(number % len(WORDS) for number in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, whichever API it came by.

    `prompt` holds four bytes per token. `max_tokens` None leaves the length to the engine;
    `variation` 0 is greedy.
    """

    prompt: bytes
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    ignore_eos: bool = False
    variation: int = 0
    use_cache: bool = True

    @property
    def prompt_tokens(self) -> int:
        """Return how many tokens the prompt has."""
        return -(-len(self.prompt) // _BYTES_PER_TOKEN) or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All tokens of an answer, laid out before the first is sent.

    `words` are positions in WORDS; `limit_tokens` is how long it might have got. `finish_reason` is
    in OpenAI's words, `stop_text` what it met: the words that spell it are generated, and
    `shown_tokens` leaves them out.
    """

    words: bytes
    shown_tokens: int
    limit_tokens: int
    finish_reason: str
    stop_text: str = ""

    @property
    def text(self) -> str:
        """Return the whole text as it is shown."""
        return "".join(f" {WORDS[number]}" for number in self.words[: self.shown_tokens])

    @property
    def tokens(self) -> list[int]:
        """Return the ids of the tokens that are shown."""
        return [FIRST_WORD_TOKEN + number for number in self.words[: self.shown_tokens]]


def answer(question: Question, *, room: int) -> Answer:
    """Return the answer, at most `room` tokens long."""
    assert room >= 1
    key = b"%d %d" % (zlib.crc32(question.prompt), question.variation)
    limit = room
    if question.max_tokens is not None:
        # Nothing cannot be generated: the first token is what computing the prompt gives.
        limit = max(1, min(room, question.max_tokens))
    length, reason = limit, "length"
    if not question.ignore_eos:
        spread = _ANSWER_TOKENS_MOST - _ANSWER_TOKENS_LEAST
        natural = _ANSWER_TOKENS_LEAST + zlib.crc32(key) % spread
        if natural < limit:
            length, reason = natural, "stop"
    words = hashlib.shake_128(key).digest(length).translate(_WORD_OF_BYTE)
    if question.stops and (met := _first_stop(words, question.stops)):
        shown, stop = met
        return Answer(
            words=words[: shown + 1],
            shown_tokens=shown,
            limit_tokens=limit,
            finish_reason="stop",
            stop_text=stop,
        )
    return Answer(words=words, shown_tokens=length, limit_tokens=limit, finish_reason=reason)


def block_keys(prompt: bytes, block_tokens: int) -> tuple[int, ...]:
    """Return a key for each whole block of the prompt, which stands for all up to its end."""
    size = block_tokens * _BYTES_PER_TOKEN
    keys: list[int] = []
    key = 0
    for end in range(size, len(prompt) + 1, size):
        key = hash((key, prompt[end - size : end]))
        keys.append(key)
    return tuple(keys)


def holds_word(question: Question, word: str) -> bool:
    """Return whether the prompt has the word in it, or the token that stands for it."""
    if word.encode() in question.prompt:
        return True
    if word not in WORDS:
        return False
    token = (FIRST_WORD_TOKEN + WORDS.index(word)).to_bytes(_BYTES_PER_TOKEN, "little")
    prompt = question.prompt
    return any(prompt[at : at + 4] == token for at in range(0, len(prompt), _BYTES_PER_TOKEN))


def _first_stop(words: bytes, stops: tuple[str, ...]) -> tuple[int, str] | None:
    """Return how many words are shown before the first stop text, and which one it is."""
    text = ""
    for position, number in enumerate(words):
        text += f" {WORDS[number]}"
        for stop in stops:
            if stop and stop in text:
                return position, stop
    return None
