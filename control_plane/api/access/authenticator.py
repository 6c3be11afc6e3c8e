"""A call's metadata -> the principal that calls, or why it is nobody.

`door.py` asks at every call. Order: no credential, the bootstrap token, a service token, a JWT.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane.access_settings import OidcSettings, OperatorAccessSettings
from control_plane.api.access.attempts import Attempts
from control_plane.api.access.issuer_keys import IssuerKeys
from control_plane.api.access.oidc import TOKEN_CHARACTERS_MAX, key_wanted, principal_of
from control_plane.api.access.shelf import TokenShelf
from control_plane.instruments import ACCESS_REFUSALS
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.service_tokens import USE_NOTED_AFTER, StoredToken, note_use
from skerry.fleet.access import EVERY_PROJECT, Grant, Principal, Role, ServiceToken
from skerry.fleet.service_token import (
    BOOTSTRAP_TOKEN,
    NO_DIGEST,
    PREFIX,
    digest_of_token,
    is_digest_of,
    name_in,
)
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Exhausted, InvalidInput, SkerryError, Unauthenticated

_log = logs.get_logger(__name__)

AUTHORIZATION_KEY = "authorization"
SCHEME = "bearer"
BOOTSTRAP_FILE_BYTES_MAX = 1_024
# Who calls where nobody is asked for a credential; its actor is what it says.
ANYBODY = Principal(actor="", grants=(Grant(role=Role.ADMIN, projects=(EVERY_PROJECT,)),))
_BOOTSTRAP = Principal(
    actor=f"token:{BOOTSTRAP_TOKEN}", grants=ANYBODY.grants, credential=f"token:{BOOTSTRAP_TOKEN}"
)
_HOW = (
    "send `authorization: Bearer TOKEN`: the command line takes it from the context file's"
    " tokenFile, SKERRY_TOKEN_FILE or SKERRY_TOKEN; `skerry token create` makes one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where credentials are looked up; `epoch` is 0 while this control plane does not lead."""

    database: Database
    clock: Clock
    epoch: Callable[[], int]


class Authenticator:
    """Knows every credential of one control plane."""

    def __init__(
        self,
        settings: OperatorAccessSettings,
        sources: Sources,
        keys: IssuerKeys | None = None,
    ) -> None:
        """Take service tokens, the bootstrap token if one is told, and the issuer's with `keys`."""
        assert (settings.oidc is None) == (keys is None), "an issuer has keys"
        self._required = settings.required
        self._oidc: OidcSettings | None = settings.oidc
        self._keys = keys
        self._sources = sources
        self._attempts = Attempts()
        self._bootstrap = bootstrap_digest(settings)
        self.shelf = TokenShelf(sources.database, sources.clock)

    @property
    def is_required(self) -> bool:
        """Say whether every caller must show a credential."""
        return self._required

    def now(self) -> float:
        """Return the monotonic clock."""
        return self._sources.clock.monotonic()

    async def principal(self, metadata: Sequence[tuple[str, Any]], peer: str) -> Principal:
        """Return who calls; Unauthenticated says what to show, Exhausted when to try again."""
        now = self.now()
        if self._required and not any(key == AUTHORIZATION_KEY for key, _ in metadata):
            # No attempt at anything: it is not counted as one.
            ACCESS_REFUSALS.labels(code="UNAUTHENTICATED").inc()
            raise Unauthenticated(f"this method needs a credential; {_HOW}")
        try:
            text = credential_in(metadata)
            if text is None:
                return ANYBODY
            if text.startswith(PREFIX):
                return await self._of_token(text)
            if self._attempts.is_over(peer, now):
                raise Exhausted(
                    f"too many credentials from {peer} were none; wait, or use a service token",
                    retry_after_seconds=1.0,
                )
            return await self._of_jwt(text)
        except Unauthenticated as error:
            ACCESS_REFUSALS.labels(code="UNAUTHENTICATED").inc()
            if self._attempts.failed(peer, now):
                _log.warning("access.failing", peer=peer, error=error.message)
            raise

    async def _of_token(self, text: str) -> Principal:
        name = name_in(text)
        if name == BOOTSTRAP_TOKEN and is_digest_of(text, self._bootstrap):
            return _BOOTSTRAP
        stored = await self._sources_of(name)
        digest = NO_DIGEST if stored is None else stored.digest
        if not is_digest_of(text, digest) or stored is None:
            raise Unauthenticated(
                "the service token is unknown: mistyped, or revoked; an admin makes another:"
                " `skerry token create`"
            )
        token = stored.token
        if token.is_expired(self._sources.clock.now()):
            raise Unauthenticated(
                f"the service token {token.name!r} has expired; an admin makes another:"
                " `skerry token create`"
            )
        await self._note_use(token)
        actor = f"token:{token.name}"
        return Principal(actor=actor, grants=(token.grant,), credential=actor)

    async def _sources_of(self, name: str | None) -> StoredToken | None:
        return None if name is None else await self.shelf.find(name)

    async def _of_jwt(self, text: str) -> Principal:
        if self._oidc is None or self._keys is None:
            raise Unauthenticated(
                f"the credential is no service token, and no issuer is set; {_HOW}"
            )
        wanted = key_wanted(text, self._oidc.algorithms)
        key = await self._keys.key(*wanted)
        return principal_of(text, key, self._oidc, self._sources.clock.now())

    async def _note_use(self, token: ServiceToken) -> None:
        epoch, now = self._sources.epoch(), self._sources.clock.now()
        used = token.last_used_at
        if not epoch or (used is not None and now - used < USE_NOTED_AFTER):
            return
        write = WriteContext(epoch=epoch, actor=f"token:{token.name}", now=now)
        # A note for people: no reason to refuse a call.
        with contextlib.suppress(SkerryError):
            await self._sources.database.run_unannounced(note_use, write, token.name)
            self.shelf.expire()


def credential_in(metadata: Sequence[tuple[str, Any]]) -> str | None:
    """Return the bearer credential of a call's metadata, None where it has none."""
    told = [value for key, value in metadata if key == AUTHORIZATION_KEY]
    if not told:
        return None
    scheme, _, text = told[0].partition(" ") if isinstance(told[0], str) else ("", "", "")
    text = text.strip()
    if len(told) > 1 or scheme.lower() != SCHEME or not text or len(text) > TOKEN_CHARACTERS_MAX:
        raise Unauthenticated(
            f"authorization must stand once, as `Bearer TOKEN` of at most {TOKEN_CHARACTERS_MAX}"
            " characters"
        )
    return text


def bootstrap_digest(settings: OperatorAccessSettings) -> bytes:
    """Return the digest of the bootstrap token that is told, NO_DIGEST without one.

    InvalidInput for what is no such token; it is not shown.
    """
    if settings.bootstrap_token is not None:
        return _digest_of(settings.bootstrap_token.strip(), "operator_access.bootstrap_token")
    if settings.bootstrap_token_file is not None:
        return read_bootstrap(settings.bootstrap_token_file)
    return NO_DIGEST


def read_bootstrap(path: Path) -> bytes:
    """Return the digest of the token in a file; InvalidInput when there is none, or others read it.

    The token itself is not kept.
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            text = file.read(BOOTSTRAP_FILE_BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the bootstrap token {path}: {error}") from None
    if mode & 0o077:
        raise InvalidInput(f"{path} is open to others than its owner: `chmod 600 {path}`")
    return _digest_of(text, str(path))


def _digest_of(text: str, where: str) -> bytes:
    if name_in(text) != BOOTSTRAP_TOKEN:
        raise InvalidInput(
            f"{where} must hold skt_{BOOTSTRAP_TOKEN}_SECRET, where SECRET is 32 random bytes in"
            " URL-safe base 64 without padding"
        )
    return digest_of_token(text)
