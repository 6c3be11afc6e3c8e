"""Chance by seed, listener and number: the same input each time. And bytes with something wrong."""

import random
from collections.abc import Callable

# Most are short: what is wrong with a long one is wrong with a short one, and sooner found.
CHUNK_BYTES_MAX = 64
RUN_BYTES_MAX = 4_096
# Past the 4 MiB that ports take; seldom, as it costs as much as a thousand others.
HUGE_BYTES, HUGE_SHARE = 4 * 1024 * 1024 + 1, 0.0005
TOKENS = (
    b"\x00",
    b"\xff\xfe",
    b"\xc0\x80",  # a null in more bytes than it takes
    b"\xed\xa0\x80",  # half of a pair
    b"\xf0\x9f\x9a\xa2",
    b"\r\n",
    b"\r\n\r\n",
    b"..//",
    b"%00",
    b"%s%n",
    b"{}",
    b"[" * 300,
    b'"' * 7,
    b"1e999",
    b"-1",
    b"NaN",
    b"9" * 400,
    b"null",
    b"\x80" * 11,  # a varint that never ends
    b"\xff\xff\xff\xff\x0f",
)


def dice_of(seed: int, listener: str, number: int) -> random.Random:
    """Return the chance of one input."""
    return random.Random(f"{seed}/{listener}/{number}")


def mutated(dice: random.Random, data: bytes) -> bytes:
    """Return the bytes with one to four things wrong."""
    if dice.random() < HUGE_SHARE:
        return data + bytes(HUGE_BYTES)
    for _ in range(dice.randint(1, 4)):
        data = dice.choice(_WAYS)(dice, data)
    return data


def _flip(dice: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    at = dice.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]


def _insert(dice: random.Random, data: bytes) -> bytes:
    at = dice.randint(0, len(data))
    return data[:at] + dice.randbytes(dice.randint(1, CHUNK_BYTES_MAX)) + data[at:]


def _insert_token(dice: random.Random, data: bytes) -> bytes:
    at = dice.randint(0, len(data))
    return data[:at] + dice.choice(TOKENS) + data[at:]


def _span(dice: random.Random, data: bytes) -> tuple[int, int]:
    at = dice.randint(0, len(data))
    return at, min(len(data), at + dice.randint(1, CHUNK_BYTES_MAX))


def _delete(dice: random.Random, data: bytes) -> bytes:
    at, end = _span(dice, data)
    return data[:at] + data[end:]


def _double(dice: random.Random, data: bytes) -> bytes:
    at, end = _span(dice, data)
    times = dice.choice((1, 1, 1, RUN_BYTES_MAX // CHUNK_BYTES_MAX))
    return data[:end] + data[at:end] * times + data[end:]


def _cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randint(0, len(data))]


def _overwrite(dice: random.Random, data: bytes) -> bytes:
    at, end = _span(dice, data)
    return data[:at] + dice.randbytes(end - at) + data[end:]


_WAYS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip,
    _flip,
    _insert,
    _insert_token,
    _delete,
    _double,
    _cut,
    _overwrite,
)
