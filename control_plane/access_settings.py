"""Settings of who may call the operator API: the section `operator_access` of the settings file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from skerry.fleet.access import SCOPE_NAMES_MAX, Grant, Role
from skerry.plumbing.errors import FieldViolation, InvalidInput
from skerry.plumbing.secret_references import source_of

_STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)
# Signatures by a key that others cannot have: no `none`, and no HS*, whose key is a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
GRANTS_MAX = 1_000
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_Text = Annotated[str, Field(min_length=1, max_length=255)]
_Names = Annotated[tuple[_Text, ...], Field(max_length=SCOPE_NAMES_MAX)]


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class OidcGrantSettings:
    """Who has `value` as the claim, or in the list that the claim is, has the role there."""

    claim: _Text
    value: _Text
    role: Annotated[Role, Field(strict=False)]
    projects: _Names
    planes: _Names = ()

    def grant(self) -> Grant:
        """Return the grant; ValueError says what is wrong with it."""
        return Grant(role=self.role, projects=self.projects, planes=self.planes)


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class OidcSettings:
    """Whose tokens are taken, and what they are good for.

    `actor_claim` becomes the actor `user:VALUE` of the change log.
    """

    issuer: _Text
    audience: _Text
    jwks_url: _Text
    ca: Path | None = None  # PEM of the issuer's authority, where it is none that the system knows
    actor_claim: _Text = "sub"
    algorithms: Annotated[tuple[_Text, ...], Field(min_length=1)] = ("RS256", "ES256", "EdDSA")
    grants: Annotated[tuple[OidcGrantSettings, ...], Field(max_length=GRANTS_MAX)] = ()


@checked_dataclass(frozen=True, kw_only=True, config=_STRICT)
class OperatorAccessSettings:
    """Whether callers of the operator API must show a credential, and which ones are taken.

    The bootstrap token is an admin's: with it the first others are made. Of a file
    `bootstrap_token` says where it is, and `control_plane.settings.load_settings` puts it there.
    """

    required: bool = False
    bootstrap_token_file: Path | None = None
    bootstrap_token: str | None = Field(default=None, repr=False)
    oidc: OidcSettings | None = None


def _is_safe(url: str) -> bool:
    try:
        address = urlsplit(url)
    except ValueError:
        return False
    is_local = address.scheme == "http" and address.hostname in _LOOPBACK
    return bool(address.hostname) and (address.scheme == "https" or is_local)


def _bootstrap_faults(told: OperatorAccessSettings) -> Iterator[FieldViolation]:
    if told.bootstrap_token is None:
        return
    path = "operator_access.bootstrap_token"
    try:
        source_of(told.bootstrap_token, {})
    except InvalidInput as fault:
        # Not shown: it may be the token.
        yield FieldViolation(path=path, message=f"says where the token is: {fault.message}")
    if told.bootstrap_token_file is not None:
        message = "and bootstrap_token_file name two tokens; leave one of them out"
        yield FieldViolation(path=path, message=message)


def access_faults(told: OperatorAccessSettings) -> Iterator[FieldViolation]:
    """Yield what contradicts itself in the section."""
    tokens = [one for one in (told.bootstrap_token_file, told.bootstrap_token) if one is not None]
    if told.required and not tokens and told.oidc is None:
        yield FieldViolation(
            path="operator_access.required",
            message="nobody could call: give bootstrap_token, bootstrap_token_file or oidc",
        )
    yield from _bootstrap_faults(told)
    if told.oidc is None:
        return
    at, oidc = "operator_access.oidc", told.oidc
    if not _is_safe(oidc.jwks_url):
        message = "must be https://..., or http:// on loopback: who answers it says who may call"
        yield FieldViolation(path=f"{at}.jwks_url", message=message)
    if unknown := sorted(set(oidc.algorithms) - set(ALGORITHMS)):
        message = f"{', '.join(unknown)} cannot be taken; there are {', '.join(ALGORITHMS)}"
        yield FieldViolation(path=f"{at}.algorithms", message=message)
    for index, grant in enumerate(oidc.grants):
        try:
            grant.grant()
        except ValueError as error:
            yield FieldViolation(path=f"{at}.grants.{index}", message=str(error))
