"""An issuer's JWT -> the principal it stands for. Pure: keys and the time are arguments.

The library checks form, signature, issuer and audience; times are checked here, with the caller's
`now`. Keys that the token itself names or brings (`jku`, `jwk`, `x5u`) are never looked at.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from control_plane.access_settings import OidcSettings
from skerry.fleet.access import Grant, Principal, is_actor
from skerry.plumbing.errors import Corrupt, Unauthenticated

# Clocks of an issuer and ours differ by less; an hour's token lives a minute longer.
SKEW_SECONDS = 60.0
# gRPC refuses some calls whose metadata pass 8 KiB, and all past 16; with a hundred groups it is 4.
TOKEN_CHARACTERS_MAX = 6_144
JWKS_BYTES_MAX = 256 * 1024
KEYS_MAX = 64  # issuers have two or three; each is built once for every algorithm it can do
KID_CHARACTERS_MAX = 255
RSA_BITS_MIN = 2_048
CLAIM_VALUES_MAX = 1_000
# Far past any calendar: a float of it would still compare, a `datetime` would not be made.
_SECONDS_MAX = 2**40

Keys = Mapping[tuple[str, str], jwt.PyJWK]  # by (key id, algorithm)

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = MappingProxyType({"P-256": ("ES256",), "P-384": ("ES384",), "Ed25519": ("EdDSA",)})


def read_keys(data: bytes, algorithms: tuple[str, ...]) -> Keys:
    """Return an issuer's keys for these algorithms; Corrupt when there is none among the bytes.

    What is unusable, for encryption, of a shared secret or too short is left out.
    """
    try:
        told = json.loads(data) if len(data) <= JWKS_BYTES_MAX else None
        listed = told["keys"] if isinstance(told, dict) else None
    except (ValueError, KeyError, RecursionError):
        listed = None
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise Corrupt(
            f"the issuer's key set is no JSON of at most {JWKS_BYTES_MAX} bytes and {KEYS_MAX} keys"
        )
    keys = {
        (kid, algorithm): key
        for entry in listed
        if isinstance(entry, dict)
        for kid, algorithm, key in _keys_of(entry, algorithms)
    }
    if not keys:
        raise Corrupt(f"the issuer has no key that can sign with {', '.join(algorithms)}")
    return MappingProxyType(keys)


def key_wanted(token: str, algorithms: tuple[str, ...]) -> tuple[str, str]:
    """Return the key id and algorithm that a token says; Unauthenticated when it has no such form.

    Of what nobody vouches for yet: it only says which key is to be tried.
    """
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise Unauthenticated(f"the token is longer than {TOKEN_CHARACTERS_MAX} characters")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("the token is neither a service token nor a JWT") from None
    kid, algorithm = header.get("kid"), header.get("alg")
    if algorithm not in algorithms:
        raise Unauthenticated(f"the token's algorithm is not among {', '.join(algorithms)}")
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_CHARACTERS_MAX:
        raise Unauthenticated("the token does not say which of the issuer's keys signed it (kid)")
    return kid, algorithm


def principal_of(token: str, key: jwt.PyJWK, oidc: OidcSettings, now: datetime) -> Principal:
    """Return whom a token stands for; Unauthenticated when it proves nothing, or nothing now."""
    try:
        claims = jwt.decode(
            token,
            key=key,
            algorithms=[key.algorithm_name],
            audience=oidc.audience,
            issuer=oidc.issuer,
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.InvalidIssuerError:
        raise Unauthenticated("the token is of another issuer than `oidc.issuer`") from None
    except jwt.InvalidAudienceError:
        raise Unauthenticated("the token is for another audience than `oidc.audience`") from None
    except jwt.MissingRequiredClaimError as error:
        raise Unauthenticated(f"the token lacks the claim {error.claim}") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("the token's signature or form is wrong") from None
    _check_times(claims, now.timestamp())
    actor = f"user:{claims.get(oidc.actor_claim)}"
    if not isinstance(claims.get(oidc.actor_claim), str) or not is_actor(actor):
        raise Unauthenticated(
            f"the token's claim {oidc.actor_claim!r} names nobody: it must be printable ASCII"
            " without spaces, of at most 123 characters"
        )
    return Principal(actor=actor, grants=tuple(_grants(claims, oidc)), credential=oidc.issuer)


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    if now >= _seconds(claims, "exp") + SKEW_SECONDS:
        raise Unauthenticated("the token has expired; sign in again")
    for claim in ("nbf", "iat"):
        if claim in claims and now < _seconds(claims, claim) - SKEW_SECONDS:
            raise Unauthenticated(f"the token is not good yet ({claim}); compare the clocks")


def _seconds(claims: Mapping[str, Any], claim: str) -> float:
    told = claims[claim]
    # `bool` is an int to Python; NaN compares with nothing, so it must not pass.
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told < _SECONDS_MAX:
        raise Unauthenticated(f"the token's claim {claim} is no time")
    return float(told)


def _grants(claims: Mapping[str, Any], oidc: OidcSettings) -> Iterator[Grant]:
    for told in oidc.grants:
        held = claims.get(told.claim)
        values = held[:CLAIM_VALUES_MAX] if isinstance(held, list) else [held]
        if any(isinstance(value, str) and value == told.value for value in values):
            yield told.grant()


def _keys_of(
    entry: dict[str, Any], algorithms: tuple[str, ...]
) -> Iterator[tuple[str, str, jwt.PyJWK]]:
    kid = entry.get("kid")
    if not isinstance(kid, str) or entry.get("use", "sig") != "sig":
        return
    can = _RSA if entry.get("kty") == "RSA" else _CURVES.get(str(entry.get("crv")), ())
    for algorithm in can:
        if algorithm not in algorithms or entry.get("alg", algorithm) != algorithm:
            continue
        try:
            key = jwt.PyJWK(_public(entry), algorithm)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key.Algorithm, RSAAlgorithm) and not _is_long_enough(key.key):
            continue
        yield kid, algorithm, key


def _public(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a key without its private part, should an issuer be so careless as to show it."""
    return {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}


def _is_long_enough(key: Any) -> bool:
    return isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS_MIN
