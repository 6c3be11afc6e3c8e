"""The chain that makes the change log an audit: each record holds the digest of the one before.

Pure. Who alters or removes a record must make all later ones anew, and the newest digest is known
to whoever noted or exported it. The control plane's store verifies by it, and so does who holds an
export of the log and asks no control plane.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

DIGEST_BYTES = 32
# What a digest is of, in this order, before the digest of the record before.
CONTENT_FIELDS = (
    "sequence",
    "time",
    "actor",
    "project",
    "kind",
    "subject",
    "summary",
    "reason",
    "before",
    "after",
    "epoch",
)

_NOTED = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


class InvalidNote(ValueError):
    """A noted digest that none can be; says how they look."""


def content_of(values: Sequence[Any]) -> str:
    """Return the text that a record's digest is of: its `CONTENT_FIELDS` as one JSON array."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_of(content: str, previous: bytes | None) -> bytes:
    """Return the SHA-256 of the digest before, nothing before the first, and of a content."""
    return hashlib.sha256((previous or b"") + content.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A record with what chains it; no digest where an older release recorded it."""

    sequence: int
    content: str
    previous: bytes | None
    digest: bytes | None

    def fields(self) -> Mapping[str, Any]:
        """Return what the content says, by `CONTENT_FIELDS`; ValueError where it is no record's."""
        values = json.loads(self.content)
        if not isinstance(values, list) or values[:1] != [self.sequence]:
            raise ValueError(f"the content of record {self.sequence} is not of that record")
        return dict(zip(CONTENT_FIELDS, values, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """The newest digest as somebody noted it earlier, elsewhere."""

    sequence: int
    digest: bytes

    def __str__(self) -> str:
        """Return it as people note it: SEQUENCE:DIGEST, in hex."""
        return f"{self.sequence}:{self.digest.hex()}"


def read_noted(text: str) -> Noted:
    """Return what SEQUENCE:DIGEST says; InvalidNote for anything else."""
    found = _NOTED.fullmatch(text.strip())
    if found is None:
        raise InvalidNote(
            f"{text[:120]!r} must be SEQUENCE:DIGEST with a digest of {2 * DIGEST_BYTES} hex digits"
        )
    return Noted(sequence=int(found[1]), digest=bytes.fromhex(found[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How far a chain is sound: `fault` says what is wrong with record `sequence`, if anything.

    `digest` is that of the newest record that has one; the number of those without is
    `unprotected`, the newest of them `last_unprotected`.
    """

    sequence: int
    digest: bytes | None
    checked: int = 0
    unprotected: int = 0
    last_unprotected: int = 0
    fault: str = ""


def verify_links(links: Iterable[Link], start: Verified, noted: Noted | None = None) -> Verified:
    """Return how far these records continue what was verified before them; stops at a fault.

    Begin with the number before the first record, and its digest if that is known: None takes the
    first record's word for it, unless it is the first that ever was. What was `noted` of any of
    these records must be so.
    """
    found = start
    if noted is not None and noted.sequence == found.sequence and found.digest is None:
        found = replace(found, digest=noted.digest)
    for link in links:
        fault = _fault(link, found) or _unlike(link, found, noted)
        if fault:
            return replace(found, sequence=link.sequence, fault=fault)
        if link.digest is None:
            found = replace(
                found, unprotected=found.unprotected + 1, last_unprotected=link.sequence
            )
        found = replace(
            found,
            sequence=link.sequence,
            digest=link.digest or found.digest,
            checked=found.checked + 1,
        )
    return found


def beyond(found: Verified, noted: Noted | None) -> Verified:
    """Return the end of a log as found, a fault where what was noted lies behind it."""
    if noted is None or found.fault or noted.sequence <= found.sequence:
        return found
    told = (
        f"the log ends at change {found.sequence}, before {noted.sequence} whose digest was noted:"
        " an older backup was restored, or the newest records were removed"
    )
    return replace(found, fault=told)


def _fault(link: Link, before: Verified) -> str:
    number = link.sequence
    if number != before.sequence + 1:
        return f"change {before.sequence + 1} is missing: {number} follows {before.sequence}"
    if link.digest is None:
        return ""
    # Of a log that is read from its very first record on nothing precedes; else that is not known.
    is_known = before.digest is not None or before.sequence == before.checked
    if is_known and link.previous != before.digest:
        return f"change {number} does not follow the record before it"
    if link.digest != digest_of(link.content, link.previous):
        return f"change {number} was altered after it was recorded"
    return ""


def _unlike(link: Link, before: Verified, noted: Noted | None) -> str:
    if noted is None or noted.sequence != link.sequence:
        return ""
    if (link.digest or before.digest) == noted.digest:
        return ""
    return (
        f"change {link.sequence} has another digest than was noted: it, or a record before it,"
        " was replaced"
    )
