"""A page of a list: filtered and ordered by its messages where asked, else straight by its key."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from control_plane.api.filters import order_of, parse_filter
from control_plane.api.pagination import Page, ordered_page_of, page_of

Item = TypeVar("Item")


def listed(
    request: Any,
    items: Sequence[Item],
    key: Callable[[Item], str],
    make: Callable[[Item], Any],
    message: type[Message],
) -> Page[Any]:
    """Return the page of messages that a List request asks for.

    Without a filter and an order only the page's own items are made into messages.
    """
    listing = f"{type(request).__name__} {request.parent} {request.filter} {request.order_by}"
    size, token = request.page_size, request.page_token
    passes = parse_filter(request.filter, message)
    order = order_of(request.order_by, message)
    if not request.filter.strip() and not order:
        page = page_of(items, key, listing, size, token)
        return Page(items=tuple(map(make, page.items)), next_token=page.next_token)
    found = [made for item in sorted(items, key=key) if passes(made := make(item))]
    return ordered_page_of(found, order, listing, size, token)
