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
# How much of a prompt's end is looked at for being its answer's beginning, and how much of that
# is compared first: one in 2 million prompts needs more.
_TOLD_TOKENS_MAX = 4096
_LOOK_TOKENS = 4
_NUMBER_OF_WORD = {word.encode(): number for number, word in enumerate(WORDS)}
_WORD_BYTES_MAX = max(map(len, WORDS))
# From a random byte to the position of a word.
_WORD_OF_BYTE = bytes(number % len(WORDS) for number in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, whichever API it came by.

    `prompt` holds four bytes per token. `max_tokens` None leaves the length to the engine;
    `variation` 0 is greedy. With `told_tokens` the prompt was followed by that many tokens of its
    own answer, which goes on behind them.
    """

    prompt: bytes
    told_tokens: int = 0
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    ignore_eos: bool = False
    variation: int = 0
    use_cache: bool = True

    @property
    def prompt_tokens(self) -> int:
        """Return how many tokens the prompt has."""
        return (-(-len(self.prompt) // _BYTES_PER_TOKEN) or 1) + self.told_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All tokens of an answer, laid out before the first is sent.

    `words` are positions in WORDS; `limit_tokens` is how long it might have got. `finish_reason` is
    in OpenAI's words, `stop_text` what it met: the words that spell it are generated, and
    `shown_tokens` leaves them out. One word of which nothing is shown is the end itself, met at
    once by an answer that was told whole in the prompt.
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
    def counted_tokens(self) -> int:
        """Return how many tokens are counted as the answer's."""
        return len(self.words) if self.shown_tokens or self.stop_text else 0

    @property
    def tokens(self) -> list[int]:
        """Return the ids of the tokens that are shown."""
        return [FIRST_WORD_TOKEN + number for number in self.words[: self.shown_tokens]]


def answer(question: Question, *, room: int) -> Answer:
    """Return the answer, at most `room` tokens long."""
    assert room >= 1
    key = _key(zlib.crc32(question.prompt), question.variation)
    told, limit = question.told_tokens, room
    if question.max_tokens is not None:
        # Nothing cannot be generated: the first token is what computing the prompt gives.
        limit = max(1, min(room, question.max_tokens))
    length, reason = limit, "length"
    if not question.ignore_eos and (natural := _natural_tokens(key) - told) < limit:
        length, reason = natural, "stop"
    if length <= 0:
        return Answer(words=b"\0", shown_tokens=0, limit_tokens=limit, finish_reason=reason)
    words = _words(key, told + length)[told:]
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


def split_told(
    prompt: bytes, *, variation: int, ignore_eos: bool, are_ids: bool
) -> tuple[bytes, int]:
    """Return the prompt that was answered, and how many tokens of its answer follow it.

    As a model's, an answer goes on where a prompt's end is its own beginning: so a stream that
    broke can be continued to the very same text. `are_ids` says that the prompt is token ids.
    """
    ends = _ends_of_ids(prompt) if are_ids else _ends_of_words(prompt)
    tail = bytes(word for _, word in ends)
    crc = zlib.crc32(prompt[: ends[0][0]]) if ends else 0
    for number, (end, _) in enumerate(ends):
        if number:
            crc = zlib.crc32(prompt[ends[number - 1][0] : end], crc)
        key, told = _key(crc, variation), tail[number:]
        if _words(key, min(len(told), _LOOK_TOKENS)) != told[:_LOOK_TOKENS]:
            continue
        fits = ignore_eos or len(told) <= _natural_tokens(key)
        if end and fits and _words(key, len(told)) == told:
            return prompt[:end], len(told)
    return prompt, 0


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


def _key(prompt_crc: int, variation: int) -> bytes:
    return b"%d %d" % (prompt_crc, variation)


def _natural_tokens(key: bytes) -> int:
    """Return how long the answer is that nothing cuts short."""
    spread = _ANSWER_TOKENS_MOST - _ANSWER_TOKENS_LEAST
    return _ANSWER_TOKENS_LEAST + zlib.crc32(key) % spread


def _words(key: bytes, length: int) -> bytes:
    return hashlib.shake_128(key).digest(length).translate(_WORD_OF_BYTE)


def _ends_of_words(prompt: bytes) -> list[tuple[int, int]]:
    """Return where each of the words that end the text begins (with its blank), and which it is."""
    ends: list[tuple[int, int]] = []
    end = len(prompt)
    while len(ends) < _TOLD_TOKENS_MAX:
        start = prompt.rfind(b" ", max(0, end - _WORD_BYTES_MAX - 1), end)
        number = _NUMBER_OF_WORD.get(prompt[start + 1 : end]) if start >= 0 else None
        if number is None:
            break
        ends.append((start, number))
        end = start
    return ends[::-1]


def _ends_of_ids(prompt: bytes) -> list[tuple[int, int]]:
    ends: list[tuple[int, int]] = []
    for at in range(len(prompt) - _BYTES_PER_TOKEN, -1, -_BYTES_PER_TOKEN):
        number = int.from_bytes(prompt[at : at + _BYTES_PER_TOKEN], "little") - FIRST_WORD_TOKEN
        if not 0 <= number < len(WORDS) or len(ends) == _TOLD_TOKENS_MAX:
            break
        ends.append((at, number))
    return ends[::-1]


def _first_stop(words: bytes, stops: tuple[str, ...]) -> tuple[int, str] | None:
    """Return how many words are shown before the first stop text, and which one it is."""
    text = ""
    for position, number in enumerate(words):
        text += f" {WORDS[number]}"
        for stop in stops:
            if stop and stop in text:
                return position, stop
    return None
