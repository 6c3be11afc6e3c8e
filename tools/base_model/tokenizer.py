"""A byte-level BPE tokenizer in the form llama.cpp calls `gpt2`: trained, used and spelt here.

Called by `tools.base_model.training` (encode) and `tools.base_model.gguf_file` (spellings, merges).
Token numbers: 256 bytes, then one per merge, then the special tokens.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

BYTES = 256
# A pair that is seen less often than this is noise of the sample and is not worth a row of weights.
PAIR_COUNT_MIN = 8

# llama.cpp's pre-tokenizer "gpt-2"; \p{L} and \p{N} are spelt with what `re` has.
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """Merges in the order they were learned, and the special tokens."""

    merges: tuple[Pair, ...]
    specials: tuple[str, ...]
    _ranks: dict[Pair, int] = field(init=False, repr=False, compare=False)
    _words: dict[str, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        object.__setattr__(self, "_ranks", ranks)
        object.__setattr__(self, "_words", {})

    @property
    def size(self) -> int:
        """Return the number of tokens."""
        return BYTES + len(self.merges) + len(self.specials)

    def special(self, text: str) -> int:
        """Return the number of a special token; raise ValueError for any other text."""
        return BYTES + len(self.merges) + self.specials.index(text)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`; special tokens are recognised by their spelling."""
        splitter = "(" + "|".join(map(re.escape, self.specials)) + ")"
        tokens: list[int] = []
        for fragment in re.split(splitter, text):
            if fragment in self.specials:
                tokens.append(self.special(fragment))
            else:
                for piece in _PIECES.findall(fragment):
                    tokens += self._encode_piece(piece)
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`; bytes that are no UTF-8 come out as replacement marks."""
        spelt = self.byte_strings()
        return b"".join(spelt[token] for token in tokens).decode("utf-8", "replace")

    def byte_strings(self) -> list[bytes]:
        """Return the bytes that each token stands for."""
        spelt = [bytes([byte]) for byte in range(BYTES)]
        for left, right in self.merges:
            spelt.append(spelt[left] + spelt[right])
        return spelt + [special.encode() for special in self.specials]

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        if piece not in self._words:
            tokens = list(piece.encode("utf-8"))
            while len(tokens) > 1:
                pairs = list(itertools.pairwise(tokens))
                best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self.merges)))
                if best not in self._ranks:
                    break
                tokens = merge_pair(tokens, best, BYTES + self._ranks[best])
            self._words[piece] = tuple(tokens)
        return self._words[piece]


def train_tokenizer(texts: Iterable[str], size: int, specials: tuple[str, ...]) -> Tokenizer:
    """Return a tokenizer of at most `size` tokens that merges the commonest pairs of `texts`."""
    splitter = "|".join(map(re.escape, specials))
    counts: Counter[str] = Counter()
    for text in texts:
        for fragment in re.split(splitter, text):
            counts.update(_PIECES.findall(fragment))
    words = [(list(piece.encode("utf-8")), count) for piece, count in sorted(counts.items())]
    merges: list[Pair] = []
    while BYTES + len(merges) + len(specials) < size:
        pairs: Counter[Pair] = Counter()
        for tokens, count in words:
            for pair in itertools.pairwise(tokens):
                pairs[pair] += count
        best, times = min(pairs.items(), key=lambda entry: (-entry[1], entry[0]))
        if times < PAIR_COUNT_MIN:
            break
        number = BYTES + len(merges)
        merges.append(best)
        words = [(merge_pair(tokens, best, number), count) for tokens, count in words]
    return Tokenizer(merges=tuple(merges), specials=specials)


def merge_pair(tokens: list[int], pair: Pair, number: int) -> list[int]:
    """Return `tokens` with every occurrence of `pair` replaced by `number`, from the left."""
    if pair[0] not in tokens:
        return tokens
    merged: list[int] = []
    place = 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) == pair:
            merged.append(number)
            place += 2
        else:
            merged.append(tokens[place])
            place += 1
    return merged


def printable_bytes() -> dict[int, str]:
    """Return the character by which `gpt2` vocabularies spell each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    odd = [byte for byte in range(BYTES) if byte not in plain]
    # Bytes without a printable character of their own are moved, in order, above the first 256.
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(BYTES + place) for place, byte in enumerate(odd)
    }
