"""What a request's raw bytes say of its prompt: its blocks, its length, its session. PURE.

Bodies may be cut short (Envoy sends a beginning only), so nothing is parsed as JSON: bytes are
hashed from where the prompt begins. Generate's messages are walked field by field.
"""

import re
from hashlib import blake2b
from typing import NamedTuple

# 512 tokens of about four bytes. Smaller blocks save little prefill; larger ones miss prompts
# that share a system prompt of a page.
BLOCK_TOKENS = 512
BYTES_PER_TOKEN = 4
BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN
# Where a session's key is looked for in a body: at either end, for prompts are in the middle.
_SESSION_BYTES = 4096
_SESSION = re.compile(
    rb'"(?:prompt_cache_key|session_id|safety_identifier|user)"\s{0,8}:\s{0,8}"([^"\\]{1,256})"'
)
# As the gateway bounds them; a quote inside a text is escaped, so no prompt matches.
_LIMIT = re.compile(
    rb'"(?:max_tokens|max_completion_tokens|max_output_tokens)"\s{0,8}:\s{0,8}(\d{1,9})\b'
)
_PROMPT_KEYS = (b'"messages"', b'"prompt"', b'"input"')
_FRAME_BYTES = 5
_PROMPT_FIELD, _TOKEN_IDS_FIELD = 3, 4
_VARINT_BYTES_MAX = 10
_CONTINUED = bytes(range(128, 256))


class Prompt(NamedTuple):
    """The prompt as far as it was seen; `tokens` estimates all of it."""

    blocks: tuple[int, ...]
    tokens: float
    block_tokens: float


_NOTHING = Prompt((), 0.0, float(BLOCK_TOKENS))


def read_json(body: bytes, length: int) -> Prompt:
    """Return the prompt of an OpenAI request of `length` bytes of which `body` is the beginning.

    What clients put before the prompt (a temperature, a user) is no part of its prefix. Of a body
    whose length nobody told, the tokens are those that were seen: as many as there are at least.
    """
    start = 0
    for key in _PROMPT_KEYS:
        found = body.find(key)
        if found >= 0:
            start = found
            break
    total = max(length, len(body)) - start
    return Prompt(chain(body, start, len(body)), total / BYTES_PER_TOKEN, float(BLOCK_TOKENS))


def read_message(body: bytes) -> Prompt:
    """Return the prompt of a Generate message in its gRPC frame; nothing of a compressed one."""
    if len(body) < _FRAME_BYTES or body[0] != 0:
        return _NOTHING
    at, end = _FRAME_BYTES, len(body)
    while at < end:
        tag, at = _varint(body, at)
        if tag & 7 != 2:
            return _NOTHING  # Generate's fields before the prompt are all of this kind
        length, at = _varint(body, at)
        field = tag >> 3
        if field == _PROMPT_FIELD:
            blocks = chain(body, at, min(end, at + length))
            return Prompt(blocks, length / BYTES_PER_TOKEN, float(BLOCK_TOKENS))
        if field == _TOKEN_IDS_FIELD:
            return _token_ids(body, at, min(end, at + length), length)
        at += length
    return _NOTHING


def chain(data: bytes, start: int, end: int) -> tuple[int, ...]:
    """Return the hash of each whole block, with all blocks before it in it.

    Python's own hash: fast, keyed anew in each process, and of no use outside it.
    """
    value = 0
    blocks = []
    for at in range(start, end - BLOCK_BYTES + 1, BLOCK_BYTES):
        value = hash((value, data[at : at + BLOCK_BYTES]))
        blocks.append(value)
    return tuple(blocks)


def session_in(body: bytes) -> bytes:
    """Return the key of the request's session as far as the body says one, else b""."""
    found = _SESSION.search(body, 0, _SESSION_BYTES)
    if found is None and len(body) > _SESSION_BYTES:
        found = _SESSION.search(body, len(body) - _SESSION_BYTES)
    return found.group(1) if found is not None else b""


def answer_limit(body: bytes) -> int | None:
    """Return how many tokens an OpenAI request lets its answer have; None where it says nothing.

    Looked for at either end, as a session is.
    """
    found = _LIMIT.search(body, 0, _SESSION_BYTES)
    if found is None and len(body) > _SESSION_BYTES:
        found = _LIMIT.search(body, len(body) - _SESSION_BYTES)
    return int(found[1]) if found is not None else None


def session_hash(key: bytes) -> int:
    """Return 64 bits for a session's key, the same at every gateway; 0 for no key."""
    if not key:
        return 0
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") or 1


def beginning(body: bytes) -> bytes:
    """Return what stands for the session of a request that names none: its prompt's beginning."""
    for key in _PROMPT_KEYS:
        found = body.find(key, 0, _SESSION_BYTES)
        if found >= 0:
            return body[found : found + BLOCK_BYTES]
    return body[:BLOCK_BYTES]


def _token_ids(body: bytes, at: int, end: int, length: int) -> Prompt:
    # TokenIds.ids, packed: one tag, one length, then a varint for each token.
    if at >= end:
        return _NOTHING
    tag, at = _varint(body, at)
    if tag != (1 << 3 | 2):
        return Prompt(chain(body, at, end), length / 3.0, BLOCK_BYTES / 3.0)
    _, at = _varint(body, at)
    seen = max(1, end - at)
    tokens = len(body[at:end].translate(None, _CONTINUED))  # a token's last byte is below 128
    bytes_per_token = seen / max(1, tokens)
    return Prompt(chain(body, at, end), length / bytes_per_token, BLOCK_BYTES / bytes_per_token)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return a varint and where it ends; one that is cut off or too long ends the message."""
    value = shift = 0
    for index in range(at, min(len(body), at + _VARINT_BYTES_MAX)):
        byte = body[index]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, index + 1
        shift += 7
    return 0, len(body)
