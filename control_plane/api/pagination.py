"""Pages of a list: sizes with a limit, and tokens that only we can have made for that very list."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from control_plane.api.filters import value_at
from skerry.plumbing.errors import InvalidInput

Item = TypeVar("Item")

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000  # more is given as 1,000: an answer of 1,000 deployments is near 2 MiB
_TOKEN_CHARACTERS_MAX = 1_024
_DIGEST_CHARACTERS = 16
SEQUENCE_DIGITS_MAX = 18  # below 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """Some items, and the token of the next page; empty at the end."""

    items: tuple[Item, ...]
    next_token: str


def page_of(
    items: Sequence[Item], key: Callable[[Item], str], listing: str, size: int, token: str
) -> Page[Item]:
    """Return the page of `items` (sorted by `key` here) that follows the token's key.

    `listing` names the list with its filters: a token of another list is refused.
    """
    limit = size_of(size)
    after = after_of(listing, token)
    ordered = sorted(items, key=key)
    rest = [item for item in ordered if after is None or key(item) > after]
    more = len(rest) > limit
    chosen = tuple(rest[:limit])
    return Page(items=chosen, next_token=token_of(listing, key(chosen[-1])) if more else "")


def ordered_page_of(
    items: Sequence[Any],
    order: Sequence[tuple[str, bool]],
    listing: str,
    size: int,
    token: str,
    name_of: Callable[[Any], str] = lambda message: str(message.name),
) -> Page[Any]:
    """Return the page of messages in an order of fields (path, falls), equals by `name_of`.

    The token names the last message of the page before; one that is gone since is an error, for
    its place in the order is not known any more.
    """
    if not order:
        return page_of(items, name_of, listing, size, token)
    found = sorted(items, key=name_of)
    for path, falls in reversed(order):
        # A value that is not set comes first: it has no order with others.
        found.sort(key=lambda item: _sortable(value_at(item, path)), reverse=falls)
    limit, after = size_of(size), after_of(listing, token)
    start = 0
    if after is not None:
        names = [name_of(item) for item in found]
        if after not in names:
            raise InvalidInput(
                "the last item of the page before is gone; start again without page_token",
                field="page_token",
            )
        start = names.index(after) + 1
    chosen = tuple(found[start : start + limit])
    more = len(found) > start + limit
    return Page(items=chosen, next_token=token_of(listing, name_of(chosen[-1])) if more else "")


def page_read(
    found: Sequence[Item], number: Callable[[Item], int], listing: str, size: int
) -> Page[Item]:
    """Return the page of items by number of which one more than its size was read, if there is."""
    chosen = tuple(found[:size])
    more = len(found) > size
    return Page(items=chosen, next_token=token_of(listing, str(number(chosen[-1]))) if more else "")


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)


def size_of(asked: int) -> int:
    """Return how many items a page has; InvalidInput for a negative size."""
    if asked < 0:
        raise InvalidInput(
            f"page_size {asked} is negative; 0 means {PAGE_SIZE_DEFAULT}", field="page_size"
        )
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def token_of(listing: str, after: str) -> str:
    """Return the opaque token of the page that begins after that key."""
    text = json.dumps([_digest(listing, after), after])
    return base64.urlsafe_b64encode(text.encode()).decode()


def after_of(listing: str, token: str) -> str | None:
    """Return the key that the token's page begins after; None for the first page."""
    if not token:
        return None
    try:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise ValueError("longer than any token of ours")
        found = json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
        digest, after = found
        if not isinstance(after, str) or digest != _digest(listing, after):
            raise ValueError("not made for this list")
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise _foreign() from None
    return after


def sequence_after(listing: str, token: str) -> int | None:
    """Return the number that the token's page begins after; None for the first page."""
    after = after_of(listing, token)
    if after is None:
        return None
    if not (after.isascii() and after.isdigit() and len(after) <= SEQUENCE_DIGITS_MAX):
        raise _foreign()
    return int(after)


def _foreign() -> InvalidInput:
    return InvalidInput(
        "page_token is not one that this list gave; start again without it", field="page_token"
    )


def _digest(listing: str, after: str) -> str:
    # No secret: a token holds nothing that the caller may not see. It catches mistakes, and works
    # at every control plane and after a restart.
    text = json.dumps(["skerry-page", listing, after])
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]
