"""API keys for inference: what gateways are told of each, and the text that its owner shows.

A key's text is `sk-NAME_SECRET`. The secret is 256 random bits, so a plain SHA-256 cannot be
searched for it; it is made where the key is used, and everybody else is told its digest.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.names import DEFAULT_PROJECT, NAME_CHARACTERS_MAX, check_name
from skerry.fleet.token_budget import BudgetPeriod

PREFIX = "sk-"
# Of a list of deployments: all there are and will be.
EVERY_DEPLOYMENT = "*"
SECRET_BYTES = 32
DIGEST_BYTES = 32
_SECRET_CHARACTERS = 43  # of 32 bytes in URL-safe base 64 without padding
CHARACTERS_MAX = len(PREFIX) + NAME_CHARACTERS_MAX + 1 + _SECRET_CHARACTERS
_FORM = re.compile(
    rf"sk-([a-z](?:[a-z0-9-]*[a-z0-9])?)_[A-Za-z0-9_-]{{{_SECRET_CHARACTERS}}}", re.ASCII
)
# A list that is longer is no list of a key's own any more, and every gateway holds all of them.
DEPLOYMENTS_MAX = 100
# Beyond what a gateway carries; it also keeps token buckets inside 32 bits.
REQUESTS_PER_MINUTE_MAX = 10_000_000
CONCURRENT_REQUESTS_MAX = 1_000_000
TOKENS_PER_MINUTE_MAX = 1_000_000_000
# A double counts to this one by one, and a hundred times further.
BUDGET_TOKENS_MAX = 10**14


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key may: which deployments, how many requests and tokens; 0: no bound.

    The bounds are of each gateway by itself. Tokens are those of prompts and of answers together, a
    minute and of each `budget_period`.
    """

    deployments: tuple[str, ...]
    requests_per_minute: int = 0
    concurrent_requests: int = 0
    tokens_per_minute: int = 0
    budget_tokens: int = 0
    budget_period: BudgetPeriod = BudgetPeriod.MONTH

    def __post_init__(self) -> None:
        if not self.deployments:
            raise ValueError(f"a key is for some deployments, or for {EVERY_DEPLOYMENT!r}")
        if len(self.deployments) > DEPLOYMENTS_MAX:
            raise ValueError(f"a key is for at most {DEPLOYMENTS_MAX} deployments, or for '*'")
        if EVERY_DEPLOYMENT in self.deployments and len(self.deployments) > 1:
            raise ValueError(f"{EVERY_DEPLOYMENT!r} means every deployment; name no others with it")
        if not self.is_for_all:
            for name in self.deployments:
                check_name(name, "deployment")
        for what, count, most in (
            ("requests a minute", self.requests_per_minute, REQUESTS_PER_MINUTE_MAX),
            ("requests at once", self.concurrent_requests, CONCURRENT_REQUESTS_MAX),
            ("tokens a minute", self.tokens_per_minute, TOKENS_PER_MINUTE_MAX),
            ("a budget of tokens", self.budget_tokens, BUDGET_TOKENS_MAX),
        ):
            if not 0 <= count <= most:
                raise ValueError(f"{what} must be 0 (no bound) to {most}, not {count}")
        if not self.budget_tokens and self.budget_period is not BudgetPeriod.MONTH:
            raise ValueError("a period without a budget of tokens bounds nothing")

    @property
    def is_for_all(self) -> bool:
        """Say whether the key is for every deployment."""
        return self.deployments == (EVERY_DEPLOYMENT,)

    @property
    def counts_tokens(self) -> bool:
        """Say whether the key's tokens are bounded, so that somebody has to count them."""
        return self.tokens_per_minute > 0 or self.budget_tokens > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as gateways know it: a digest of its text, and never the text.

    `every_of_project`: it is for every deployment of its project, whatever its terms name; those
    are for planes of earlier releases.
    """

    name: str
    digest: bytes
    terms: KeyTerms
    expires_at: datetime | None = None
    project: str = DEFAULT_PROJECT
    every_of_project: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "key")
        check_name(self.project, "project")
        if self.every_of_project and self.terms.is_for_all:
            raise ValueError("a key for every deployment of a project is for no other one's")
        if len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"a key's digest has {DIGEST_BYTES} bytes, not {len(self.digest)}")

    def is_expired(self, now: datetime) -> bool:
        """Say whether the key has ended."""
        return self.expires_at is not None and self.expires_at <= now


def key_text(name: str, secret: str) -> str:
    """Return the key of a name and a secret of `SECRET_BYTES` in URL-safe base 64."""
    text = f"{PREFIX}{name}_{secret}"
    assert key_name_in(text) == name, "a DNS label and a secret make a key"
    return text


def key_name_in(text: str) -> str | None:
    """Return the name in a key's text, None where it is no key."""
    if len(text) > CHARACTERS_MAX:
        return None
    found = _FORM.fullmatch(text)
    return found[1] if found else None


def digest_of_key(text: str) -> bytes:
    """Return what is kept of a key: a digest of all of it, the name too."""
    return hashlib.sha256(text.encode()).digest()
