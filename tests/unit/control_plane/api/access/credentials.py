"""Builders of credentials that tests show: tokens, and JWTs of a made-up issuer."""

import json
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from control_plane.access_settings import OidcGrantSettings, OidcSettings
from skerry.fleet.access import Role
from skerry.fleet.service_token import token_text
from tests.fakes.clock import START

ISSUER, AUDIENCE = "https://id.example.com", "skerry"
SECRET = "s" * 43
BOOTSTRAP = token_text("bootstrap", SECRET)

OIDC = OidcSettings(
    issuer=ISSUER,
    audience=AUDIENCE,
    jwks_url="https://id.example.com/keys",
    algorithms=("RS256", "PS256", "ES256"),
    grants=(
        OidcGrantSettings(claim="groups", value="support", role=Role.VIEWER, projects=("default",)),
        OidcGrantSettings(claim="groups", value="platform", role=Role.ADMIN, projects=("*",)),
        OidcGrantSettings(claim="team", value="red", role=Role.OPERATOR, projects=("red",)),
    ),
)


def rsa_key(bits: int = 2_048) -> Any:
    """A private key; made once, as it takes a tenth of a second."""
    return _rsa_key(bits)


@cache
def _rsa_key(bits: int) -> Any:
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


@cache
def ec_key() -> Any:
    """A private key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def rsa_jwk(kid: str = "one", bits: int = 2_048, **more: Any) -> dict[str, Any]:
    """The public part of the RSA key as an issuer shows it."""
    told = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(bits).public_key(), as_dict=True)
    return {**told, "kid": kid, "use": "sig", **more}


def ec_jwk(kid: str = "two") -> dict[str, Any]:
    """The public part of the P-256 key as an issuer shows it."""
    told = jwt.algorithms.ECAlgorithm.to_jwk(ec_key().public_key(), as_dict=True)
    return {**told, "kid": kid}


def jwks(*keys: dict[str, Any]) -> bytes:
    """A key set; the RSA and the EC key unless told."""
    return json.dumps({"keys": keys or (rsa_jwk(), ec_jwk())}).encode()


def claims(**told: Any) -> dict[str, Any]:
    """Good claims, but for what is told; None leaves one out."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": int((START + timedelta(hours=1)).timestamp()),
        "groups": ["support"],
    }
    return {name: value for name, value in {**good, **told}.items() if value is not None}


def a_jwt(key: Any = None, algorithm: str = "RS256", kid: str | None = "one", **told: Any) -> str:
    """A token of the issuer."""
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**told), key or rsa_key(), algorithm=algorithm, headers=headers)


def written(folder: Path, text: str = BOOTSTRAP, mode: int = 0o600) -> Path:
    """A file with a token."""
    path = folder / "operator.token"
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    """The metadata that shows a credential."""
    return (("authorization", f"Bearer {text}"),)
