"""The chain that makes the change log an audit: each record holds the digest of the one before.

Pure. Who alters or removes a record must make all later ones anew, and the newest digest is known
to whoever exported it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from control_plane.store.values import Change

DIGEST_BYTES = 32


def digest_of_change(change: Change, previous: bytes | None) -> bytes:
    """Return the SHA-256 of a change and of the digest before it; empty before the first."""
    content = [
        change.sequence,
        change.time.isoformat(timespec="microseconds"),
        change.actor,
        change.project,
        change.kind,
        change.subject,
        change.summary,
        change.reason,
        change.before,
        change.after,
        change.epoch,
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256((previous or b"") + text.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A change as stored, with what chains it; no digest where an older release recorded it."""

    change: Change
    previous: bytes | None
    digest: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How far a chain is sound: `fault` says what is wrong with change `sequence`, if anything."""

    sequence: int
    digest: bytes | None
    checked: int
    unprotected: int
    fault: str = ""


def verify_links(links: Iterable[Link], start: Verified) -> Verified:
    """Return how far these links continue what was verified before them; stops at a fault.

    Begin with `Verified(sequence=compacted_to, digest=None, checked=0, unprotected=0)`: the first
    digest after forgotten changes is taken as it is.
    """
    sequence, digest = start.sequence, start.digest
    checked, unprotected = start.checked, start.unprotected
    for link in links:
        number, fault = link.change.sequence, ""
        if number != sequence + 1:
            fault = f"change {sequence + 1} is missing: {number} follows {sequence}"
        elif link.digest is None:
            unprotected += 1
        elif digest is not None and link.previous != digest:
            fault = f"change {number} does not follow the record before it"
        elif link.digest != digest_of_change(link.change, link.previous):
            fault = f"change {number} was altered after it was recorded"
        if fault:
            return Verified(
                sequence=number,
                digest=digest,
                checked=checked,
                unprotected=unprotected,
                fault=fault,
            )
        sequence, checked = number, checked + 1
        digest = link.digest or digest
    return Verified(sequence=sequence, digest=digest, checked=checked, unprotected=unprotected)
