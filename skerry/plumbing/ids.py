"""Ids and randomness; the only caller of either in the tree.

Composition roots build `SystemIds`; everything else is handed an `IdSource`, so that a seeded
one makes a whole run repeatable.
"""

import random
import secrets
import threading
from typing import Protocol

from skerry.plumbing.clock import Clock

# Crockford's base 32 without I, L, O, U: sorts as the number does and is not misread aloud.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARS = 26  # 130 bits hold the 128 of an id, as in a ULID
_RANDOM_BITS = 80


class IdSource(Protocol):
    """Where new names and jitter come from."""

    def new_id(self) -> str:
        """Return a new id of 26 lowercase characters that sorts after every earlier one."""
        ...

    def token(self, size_bytes: int = 32) -> str:
        """Return an unguessable URL-safe secret made of `size_bytes` random bytes."""
        ...

    def random(self) -> float:
        """Return an evenly spread number in [0, 1)."""
        ...


class SystemIds:
    """Ids from the clock's milliseconds and the kernel's randomness."""

    __slots__ = ("_clock", "_last", "_lock", "_random")

    def __init__(self, clock: Clock) -> None:
        """Remember the clock whose time begins every id."""
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()
        self._random = random.SystemRandom()

    def new_id(self) -> str:
        """Return an id later than every id of this source, also when the wall clock steps back."""
        milliseconds = int(self._clock.now().timestamp() * 1000)
        fresh = (milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        with self._lock:
            # Within one millisecond, or after a step back, count on from the last id instead.
            self._last = max(fresh, self._last + 1)
            return _encode(self._last)

    def token(self, size_bytes: int = 32) -> str:
        """Return `size_bytes` of kernel randomness in URL-safe base 64."""
        return secrets.token_urlsafe(size_bytes)

    def random(self) -> float:
        """Return a number in [0, 1) from kernel randomness."""
        return self._random.random()


def _encode(number: int) -> str:
    shifts = range(5 * (_ID_CHARS - 1), -1, -5)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in shifts)
