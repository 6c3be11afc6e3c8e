"""The text of a service token, `skt_NAME_SECRET`, and the digest that is kept of it.

The secret is 256 random bits, so a plain SHA-256 cannot be searched for it: a slow hash is for
what people choose. It is made where the token is used; the control plane is told its digest.
"""

import hashlib
import hmac
import re

from skerry.fleet.names import NAME_CHARACTERS_MAX

PREFIX = "skt_"
# The name of the token that the settings file of a control plane names; no other may have it.
BOOTSTRAP_TOKEN = "bootstrap"
SECRET_BYTES = 32
DIGEST_BYTES = 32
_SECRET_CHARACTERS = 43  # of 32 bytes in URL-safe base 64 without padding
CHARACTERS_MAX = len(PREFIX) + NAME_CHARACTERS_MAX + 1 + _SECRET_CHARACTERS
_FORM = re.compile(
    rf"skt_([a-z](?:[a-z0-9-]*[a-z0-9])?)_[A-Za-z0-9_-]{{{_SECRET_CHARACTERS}}}", re.ASCII
)
# Compared with where there is no such token, so that asking costs the same time.
NO_DIGEST = bytes(DIGEST_BYTES)


def token_text(name: str, secret: str) -> str:
    """Return the token of a name and a secret of `SECRET_BYTES` in URL-safe base 64."""
    text = f"{PREFIX}{name}_{secret}"
    assert name_in(text) == name, "a DNS label and a secret make a token"
    return text


def name_in(text: str) -> str | None:
    """Return the name in a token's text, None where it is no token."""
    if len(text) > CHARACTERS_MAX:
        return None
    found = _FORM.fullmatch(text)
    return found[1] if found else None


def digest_of_token(text: str) -> bytes:
    """Return what is kept of a token: a digest of all of it, the name too."""
    return hashlib.sha256(text.encode()).digest()


def is_digest_of(text: str, digest: bytes) -> bool:
    """Say whether a token is the one of a digest, in a time that does not tell how near it is."""
    return hmac.compare_digest(digest_of_token(text), digest)
