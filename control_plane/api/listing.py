"""A page of a list: filtered and ordered by its messages where asked, else straight by its key.

`item_of` encodes what stands in many answers once: a response is its items' bytes, one after
another, and a thousand of them are joined in the time that two are copied and encoded.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from control_plane.api.filters import order_of, parse_filter
from control_plane.api.pagination import Page, ordered_page_of, page_of

Item = TypeVar("Item")

_LENGTH_DELIMITED = 2  # protobuf's wire type of a message


def listed(
    request: Any,
    items: Sequence[Item],
    key: Callable[[Item], str],
    make: Callable[[Item], Any],
    message: type[Message],
    name_of: Callable[[Any], str] = lambda message: str(message.name),
) -> Page[Any]:
    """Return the page of messages that a List request asks for; equal in its order by `name_of`.

    Without a filter and an order only the page's own items are made into messages.
    """
    parent = getattr(request, "parent", "")  # projects have none
    listing = f"{type(request).__name__} {parent} {request.filter} {request.order_by}"
    listing += getattr(request, "pool", "")  # of prices
    listing += " ".join(getattr(request, "deployments", ()))  # of service levels
    size, token = request.page_size, request.page_token
    passes = parse_filter(request.filter, message)
    order = order_of(request.order_by, message)
    if not request.filter.strip() and not order:
        page = page_of(items, key, listing, size, token)
        return Page(items=tuple(map(make, page.items)), next_token=page.next_token)
    found = [made for item in sorted(items, key=key) if passes(made := make(item))]
    return ordered_page_of(found, order, listing, size, token, name_of)


def item_of(message: Message, number: int = 1) -> bytes:
    """Return a message as an item of a response's repeated field of that number, encoded."""
    assert 1 <= number < 16, "the tag is one byte"
    encoded = message.SerializeToString()
    head, left = bytearray((number << 3 | _LENGTH_DELIMITED,)), len(encoded)
    while left > 0x7F:
        head.append(left & 0x7F | 0x80)
        left >>= 7
    head.append(left)
    return bytes(head) + encoded
