"""Whose JWT is taken: one that is signed, for us, now, by a key that the issuer has."""

import base64
import hmac
import json
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from control_plane.api.access.oidc import (
    JWKS_BYTES_MAX,
    SKEW_SECONDS,
    TOKEN_CHARACTERS_MAX,
    key_wanted,
    principal_of,
    read_keys,
)
from skerry.fleet.access import Principal, Role
from skerry.plumbing.errors import Corrupt, Unauthenticated
from tests.fakes.clock import START
from tests.unit.control_plane.api.access.credentials import (
    OIDC,
    a_jwt,
    claims,
    ec_jwk,
    ec_key,
    jwks,
    rsa_jwk,
    rsa_key,
)


def verified(token: str, now: datetime = START, data: bytes | None = None) -> Principal:
    keys = read_keys(data or jwks(), OIDC.algorithms)
    kid, algorithm = key_wanted(token, OIDC.algorithms)
    key = keys.get((kid, algorithm))
    if key is None:
        raise Unauthenticated("no such key")
    return principal_of(token, key, OIDC, now)


def at(seconds: float) -> int:
    return int((START + timedelta(seconds=seconds)).timestamp())


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [("rsa", "RS256", "one"), ("rsa", "PS256", "one"), ("ec", "ES256", "two")],
)
def test_a_good_token_is_its_subject_with_what_its_groups_are_granted(
    key: str, algorithm: str, kid: str
) -> None:
    found = verified(a_jwt(rsa_key() if key == "rsa" else ec_key(), algorithm, kid))
    assert found.actor == "user:ada"
    assert [grant.role for grant in found.grants] == [Role.VIEWER]


def test_every_grant_that_a_claim_matches_counts_and_no_other() -> None:
    found = verified(a_jwt(groups=["x", "support", "platform"], team="red"))
    assert [grant.role for grant in found.grants] == [Role.VIEWER, Role.ADMIN, Role.OPERATOR]
    assert verified(a_jwt(groups=None)).grants == ()
    assert verified(a_jwt(groups={"support": True})).grants == ()
    assert verified(a_jwt(groups="platform")).grants[0].role is Role.ADMIN


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"iss": "https://id.example.com/"}, "issuer"),
        ({"iss": "https://evil.example.com"}, "issuer"),
        ({"iss": None}, "iss"),
        ({"aud": "skerry2"}, "audience"),
        ({"aud": ["other"]}, "audience"),
        ({"aud": None}, "aud"),
        ({"sub": None}, "sub"),
        ({"sub": "a b"}, "names nobody"),
        ({"sub": "x" * 200}, "names nobody"),
        ({"sub": "\u00fc"}, "names nobody"),
        ({"exp": None}, "exp"),
        ({"exp": True}, "no time"),
        ({"exp": float("nan")}, "no time"),
        ({"exp": 2**70}, "no time"),
        ({"exp": "soon"}, "no time"),
        ({"nbf": "soon"}, "no time"),
        ({"iat": -1}, "no time"),
    ],
)
def test_a_token_that_proves_nothing_to_us_is_nobodys(told: dict[str, Any], says: str) -> None:
    with pytest.raises(Unauthenticated, match=says):
        verified(a_jwt(**told))


def test_a_list_of_audiences_with_ours_in_it_is_for_us() -> None:
    assert verified(a_jwt(aud=["other", "skerry"])).actor == "user:ada"


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_clocks_may_differ_by_a_minute_and_not_by_more(claim: str) -> None:
    sign = -1 if claim == "exp" else 1
    within: dict[str, Any] = {claim: at(sign * (SKEW_SECONDS - 1))}
    past: dict[str, Any] = {claim: at(sign * (SKEW_SECONDS + 1))}
    assert verified(a_jwt(**within)).actor == "user:ada"
    with pytest.raises(Unauthenticated, match=r"expired|not good yet"):
        verified(a_jwt(**past))


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_may_not_choose_a_check_that_anybody_passes(algorithm: str) -> None:
    key: Any = None if algorithm == "none" else "x" * 64
    token = jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": "one"})
    with pytest.raises(Unauthenticated, match="algorithm"):
        verified(token)


def test_a_public_key_is_no_shared_secret() -> None:
    """The classic confusion: HS256 with the issuer's public key, which everybody has."""
    secret = (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    head = _part(json.dumps({"alg": "HS256", "kid": "one"}).encode())
    body = _part(json.dumps(claims()).encode())
    signature = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
    with pytest.raises(Unauthenticated, match="algorithm"):
        verified(f"{head}.{body}.{_part(signature)}")


def test_a_token_signed_by_another_key_of_the_same_id_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="signature"):
        verified(a_jwt(rsa_key(2_056)))
    with pytest.raises(Unauthenticated):
        verified(a_jwt(ec_key(), "ES256", "one"))  # an EC signature for the RSA key's id


def test_keys_that_the_token_brings_are_not_looked_at() -> None:
    headers = {"kid": "nobody", "jku": "http://127.0.0.1/keys", "jwk": rsa_jwk("nobody")}
    token = jwt.encode(claims(), rsa_key(), algorithm="RS256", headers=headers)
    with pytest.raises(Unauthenticated, match="no such key"):
        verified(token)


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "....",
        "x" * TOKEN_CHARACTERS_MAX,
        "x" * (TOKEN_CHARACTERS_MAX + 1),
        f"{_part(b'[' * 5_000)}.{_part(b'{}')}.x",
        f"{_part(b'[]')}.{_part(b'{}')}.x",
        f"{_part(b'{}')}.{_part(b'{}')}.x",
        f"{_part(json.dumps({'alg': 'RS256', 'kid': 7}).encode())}.{_part(b'{}')}.x",
        f"{_part(json.dumps({'alg': ['RS256'], 'kid': 'one'}).encode())}.{_part(b'{}')}.x",
        f"{_part(json.dumps({'alg': 'RS256', 'kid': 'k' * 300}).encode())}.{_part(b'{}')}.x",
        f"{_part(json.dumps({'alg': 'RS256', 'kid': 'one'}).encode())}.{_part(b'[' * 5_000)}.x",
    ],
)
def test_what_is_no_token_is_refused_whatever_it_is(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verified(token)


def test_a_tampered_token_is_refused() -> None:
    head, _, tail = a_jwt().split(".")
    body = _part(json.dumps(claims(groups=["platform"])).encode())
    with pytest.raises(Unauthenticated, match="signature"):
        verified(f"{head}.{body}.{tail}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": 1}',
        b'{"keys": []}',
        b'{"keys": [7, {}]}',
        b"[" * 100_000,
        b"\xff\xfe",
        b" " * (JWKS_BYTES_MAX + 1),
        json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "one"}]}).encode(),
        jwks(rsa_jwk(bits=1_024)),
        jwks(rsa_jwk(use="enc")),
        jwks(rsa_jwk(alg="RS512")),
        jwks({**ec_jwk(), "crv": "secp256k1"}),
        jwks({**rsa_jwk(), "n": "AQ"}),
        jwks(*(rsa_jwk(str(n)) for n in range(65))),
    ],
)
def test_a_key_set_without_a_key_that_may_be_used_is_none(data: bytes) -> None:
    with pytest.raises(Corrupt):
        read_keys(data, OIDC.algorithms)


def test_one_bad_key_does_not_take_the_good_ones_with_it() -> None:
    keys = read_keys(jwks({"kty": "RSA", "kid": "bad"}, rsa_jwk(alg="RS256")), OIDC.algorithms)
    assert set(keys) == {("one", "RS256")}
