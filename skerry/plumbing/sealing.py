"""Bytes at rest under a key that lies elsewhere: AES-256-GCM, with the id of the key beside them.

Composition roots read the keys by reference (`secret_references`); the first of a keyring seals,
all of them open, which is how a key is replaced. Without keys everything stays as it was: plain.
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skerry.plumbing.errors import Corrupt, Infeasible, InvalidInput
from skerry.plumbing.ids import IdSource
from skerry.plumbing.secret_references import is_reference, source_of

KEY_BYTES = 32
# More are no rotation any more: each is asked for at every start.
KEYS_MAX = 8
_PREFIX = "sks_"
_KEY = re.compile(rf"{_PREFIX}([A-Za-z0-9_-]{{43}})")
_MAGIC = b"skerry-sealed-1 "
_ID_CHARACTERS = 16  # 64 bits: nobody has so many keys that two are taken for one
# As NIST SP 800-38D has it; random ones are good for 2**32 seals by one key.
_NONCE_BYTES = 12
_SEALED = re.compile(rb"skerry-sealed-1 ([0-9a-f]{16}) ([A-Za-z0-9+/]+=*)\n?")


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A key of 256 bits, which no representation shows."""

    secret: bytes

    def __post_init__(self) -> None:
        """Check the size."""
        assert len(self.secret) == KEY_BYTES, "of AES-256"

    @property
    def id(self) -> str:
        """Return what sealed bytes name it by: it tells nothing of the key."""
        digest = hashlib.sha256(b"skerry sealing key\0" + self.secret).hexdigest()
        return digest[:_ID_CHARACTERS]

    def __repr__(self) -> str:
        """Return the id."""
        return f"SealingKey({self.id})"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of which the first seals and all open; with none bytes are kept as they are."""

    keys: tuple[SealingKey, ...] = ()

    def seal(self, data: bytes, what: str) -> bytes:
        """Return the bytes sealed as `what`, one line of ASCII; as they are without a key."""
        if not self.keys:
            return data
        key, nonce = self.keys[0], os.urandom(_NONCE_BYTES)
        sealed = AESGCM(key.secret).encrypt(nonce, data, _associated(key.id, what))
        return _MAGIC + key.id.encode() + b" " + base64.b64encode(nonce + sealed) + b"\n"

    def open(self, data: bytes, what: str, where: object) -> bytes:
        """Return what was sealed as `what`; bytes that are not sealed are returned as they are.

        Infeasible names the key that is wanted and not here, Corrupt says that it is not what was
        sealed; both say `where` that is.
        """
        wanted = sealed_by(data)
        if wanted is None:
            return data
        key = next((key for key in self.keys if key.id == wanted), None)
        if key is None:
            raise Infeasible(
                f"{where} is sealed by the key {wanted}, and {self._told()}: name that key in"
                " sealing_keys, behind the newer one if there is one"
            )
        try:
            body = _body(data)
            nonce, sealed = body[:_NONCE_BYTES], body[_NONCE_BYTES:]
            return AESGCM(key.secret).decrypt(nonce, sealed, _associated(key.id, what))
        except (InvalidTag, ValueError):
            raise Corrupt(
                f"{where} is not {what} as the key {wanted} sealed it: put back the file that was"
                " there"
            ) from None

    def _told(self) -> str:
        ids = ", ".join(key.id for key in self.keys)
        return f"only {ids} is here" if ids else "no key is here"


PLAIN = Keyring()


def sealed_by(data: bytes) -> str | None:
    """Return the id of the key that sealed the bytes; None for bytes that are not sealed."""
    if not data.startswith(_MAGIC):
        return None
    return data[len(_MAGIC) : len(_MAGIC) + _ID_CHARACTERS].decode("ascii", "replace")


def new_key_text(ids: IdSource) -> str:
    """Return a new key as its file, its variable or its store holds it."""
    return f"{_PREFIX}{ids.token(KEY_BYTES)}"


def keyring_of(texts: Iterable[str]) -> Keyring:
    """Return the keyring of keys as they are written, the sealing one first.

    InvalidInput for what is no key; it is not shown.
    """
    keys = []
    for number, text in enumerate(texts, start=1):
        match = _KEY.fullmatch(text.strip())
        if match is None:
            raise InvalidInput(
                f"sealing key {number} is none: it must be sks_ and 43 characters of URL-safe"
                " base 64, as `skerry secrets new-key` makes one"
            )
        # 43 characters are 258 bits; the two that are over are not looked at.
        keys.append(SealingKey(base64.urlsafe_b64decode(match.group(1) + "=")))
    return Keyring(tuple(keys))


def read_keyring(references: Iterable[str], environment: Mapping[str, str]) -> Keyring:
    """Return the keyring of keys by where they are; Infeasible where one is not to be had."""
    return keyring_of(source_of(one, environment).read() for one in references)


def check_references(references: tuple[str, ...]) -> tuple[str, ...]:
    """Return references of keys as they are; ValueError for what names no place of a key."""
    if len(references) > KEYS_MAX:
        raise ValueError(f"at most {KEYS_MAX} keys: take out those that seal nothing any more")
    for one in references:
        if not is_reference(one):
            # Not shown: it may be the key.
            raise ValueError("a key is told by where it is, env:, file: or command:, not by itself")
        try:
            source_of(one, {})
        except InvalidInput as fault:
            raise ValueError(fault.message) from None
    return references


def _body(data: bytes) -> bytes:
    """Return nonce and ciphertext; ValueError for what is not written as we write it."""
    match = _SEALED.fullmatch(data)
    body = base64.b64decode(match.group(2), validate=True) if match else b""
    # Two texts in base 64 may stand for the same bytes: only ours is taken.
    if match is None or base64.b64encode(body) != match.group(2):
        raise ValueError("it was written by nobody who seals")
    return body


def _associated(key_id: str, what: str) -> bytes:
    """Return what is sealed along: bytes sealed as one thing are not taken for another."""
    return _MAGIC + key_id.encode() + b" " + what.encode()
