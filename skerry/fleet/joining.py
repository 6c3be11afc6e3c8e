"""Who belongs to the fleet: invites to planes, what proves a plane, and the text of a join token.

A token is `skj_PLANE_SECRET_AUTHORITY`. The first three parts are what is shown to the control
plane, which keeps their SHA-256; AUTHORITY is the certificate of the fleet's authority, so that
whoever joins knows from the first byte on whom it speaks to.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.names import NAME_CHARACTERS_MAX

PREFIX = "skj_"
SECRET_BYTES = 32
DIGEST_BYTES = 32
_SECRET_CHARACTERS = 43  # of 32 bytes in URL-safe base 64 without padding
# An authority on P-256 takes 500 bytes, one with 4,096 bits of RSA 1,400.
AUTHORITY_BYTES_MAX = 4_096
CHARACTERS_MAX = (
    len(PREFIX) + NAME_CHARACTERS_MAX + 2 + _SECRET_CHARACTERS + 4 * (AUTHORITY_BYTES_MAX // 3 + 1)
)
_PROOF = rf"skj_([a-z](?:[a-z0-9-]*[a-z0-9])?)_[A-Za-z0-9_-]{{{_SECRET_CHARACTERS}}}"
_PROOF_FORM = re.compile(_PROOF, re.ASCII)
_FORM = re.compile(rf"({_PROOF})_([A-Za-z0-9_-]+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A token taken apart: for which plane, what proves it, and the authority's certificate (DER).

    `proof` is secret.
    """

    plane: str
    proof: str
    authority: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneInvite:
    """An invitation of one plane, without its secret; times are aware.

    `replaces`: it may take the place of a plane that has joined already.
    """

    plane: str
    creator: str
    created_at: datetime
    expires_at: datetime
    replaces: bool = False
    used_at: datetime | None = None

    def is_open(self, now: datetime) -> bool:
        """Say whether it can still be used."""
        return self.used_at is None and now < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneIdentity:
    """What proves a plane: the digest of its key, and its newest certificate; times are aware.

    Without a digest nothing was ever issued to it here, and it is known for being revoked.
    """

    plane: str
    key_digest: bytes = b""
    serial: str = ""  # of the certificate that was issued last, in hexadecimal
    joined_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


def proof_text(plane: str, secret: str) -> str:
    """Return what proves an invitation, of a secret of `SECRET_BYTES` in URL-safe base 64."""
    text = f"{PREFIX}{plane}_{secret}"
    assert plane_of_proof(text) == plane, "a DNS label and a secret make a proof"
    return text


def plane_of_proof(proof: str) -> str | None:
    """Return the plane that a proof is for, None where it is no proof."""
    found = _PROOF_FORM.fullmatch(proof) if len(proof) <= CHARACTERS_MAX else None
    if found is None or len(found[1]) > NAME_CHARACTERS_MAX:
        return None
    return found[1]


def token_text(proof: str, authority: bytes) -> str:
    """Return the whole token of a proof and the authority's certificate (DER)."""
    assert 0 < len(authority) <= AUTHORITY_BYTES_MAX, "a certificate, and not a chain of them"
    return f"{proof}_{base64.urlsafe_b64encode(authority).decode().rstrip('=')}"


def parse_token(text: str) -> JoinToken:
    """Return the parts of a token; ValueError where it is none, without showing it."""
    found = _FORM.fullmatch(text) if len(text) <= CHARACTERS_MAX else None
    try:
        if found is None or (plane := plane_of_proof(found[1])) is None:
            raise ValueError
        authority = base64.b64decode(
            found[3] + "=" * (-len(found[3]) % 4), altchars=b"-_", validate=True
        )
    except (ValueError, binascii.Error):
        raise ValueError(
            "this is no join token: take the whole line that `skerry plane invite` showed"
        ) from None
    return JoinToken(plane=plane, proof=found[1], authority=authority)


def digest_of_proof(proof: str) -> bytes:
    """Return what is kept of an invitation: a digest of 256 random bits cannot be searched for."""
    return hashlib.sha256(proof.encode()).digest()


def refusal_of(identity: PlaneIdentity | None, key_digest: bytes) -> str:
    """Say why a plane with this key is not let in, empty where it is.

    Of a plane that did not join by invitation nothing is known here: its certificate decides.
    """
    if identity is None:
        return ""
    if identity.revoked_at is not None:
        return (
            f"plane {identity.plane!r} was revoked at {identity.revoked_at:%Y-%m-%d %H:%M} UTC;"
            " to let it in again, `skerry plane invite` it and join with the new token"
        )
    if identity.key_digest and identity.key_digest != key_digest:
        return (
            f"plane {identity.plane!r} has joined with another key since; join again with a new"
            " token, or stop this agent"
        )
    return ""
