"""Pages of what the store has much of: plans and changes, read in pieces where a filter is given.

`operator_service.py` answers ListPlans and ListChanges with it.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from control_plane.api import convert, validation
from control_plane.api.filters import Matcher, order_of, parse_filter
from control_plane.api.pagination import (
    Page,
    ordered_page_of,
    page_read,
    sequence_after,
    size_of,
    token_of,
)
from control_plane.api.views import FleetView
from control_plane.store.changes import list_changes
from control_plane.store.engine import Database
from control_plane.store.plans import list_plans
from control_plane.store.values import Change, StoredPlan
from skerry.api.operator.v1 import change_pb2, placement_pb2
from skerry.plumbing.errors import InvalidInput

PLANS_AT_ONCE = 100  # of the thousand that are kept: a decision may be a megabyte
CHANGES_AT_ONCE = 1_000
# Of one call with a filter, which then says where to go on: 0.2 s, most of it in threads.
CHANGES_READ_MAX = 5_000
# What one asks for by name; lists have it empty, so that a filter would find nothing.
NOT_IN_LISTED_CHANGES = frozenset({"before", "after"})
NOT_IN_LISTED_PLANS = frozenset({"placements", "rejections", "deployments"})

_NUMBERS_MAX = 10**18  # no plan has a higher number


async def plans_page(database: Database, view: FleetView, request: Any) -> Page[Any]:
    """Return the page of plans that a request asks for, the newest first unless ordered."""
    passes = parse_filter(request.filter, placement_pb2.Plan, NOT_IN_LISTED_PLANS)
    order = order_of(request.order_by, placement_pb2.Plan)
    listing, token = f"ListPlans {request.parent}", request.page_token
    if not request.filter.strip() and not order:
        below, size = sequence_after(listing, token), size_of(request.page_size)
        found = await database.run_read(list_plans, below, size + 1)
        page = page_read(found, lambda plan: plan.number, listing, size)
        made = tuple(convert.listed_plan_to_proto(view, plan) for plan in page.items)
        return Page(items=made, next_token=page.next_token)
    listing = f"{listing} {request.filter} {request.order_by}"
    every = await _passing_plans(database, view, passes)
    return ordered_page_of(every, order, listing, request.page_size, token, _newest_first)


async def changes_page(database: Database, request: Any, project: str) -> Page[change_pb2.Change]:
    """Return the page of a project's changes that a request asks for, from either end.

    With a filter it may be short, or empty, though more follow.
    """
    above = validation.check_sequence(request.from_sequence)
    newest = _is_newest_first(request)
    passes = parse_filter(request.filter, change_pb2.Change, NOT_IN_LISTED_CHANGES)
    listing = f"ListChanges {request.parent} {above} {newest}"
    size = size_of(request.page_size)
    if not request.filter.strip():
        after = sequence_after(listing, request.page_token)
        span = _span(above, after, newest, size + 1)
        read = await database.run_read(list_changes, *span, project)
        page = page_read(read, lambda change: change.sequence, listing, size)
        made = tuple(map(convert.change_to_proto, page.items))
        return Page(items=made, next_token=page.next_token)
    listing = f"{listing} {request.filter}"
    after = sequence_after(listing, request.page_token)
    found: list[change_pb2.Change] = []
    for _ in range(CHANGES_READ_MAX // CHANGES_AT_ONCE):
        span = _span(above, after, newest, CHANGES_AT_ONCE)
        read = await database.run_read(list_changes, *span, project)
        passing = await asyncio.to_thread(_passing_changes, read, passes)
        room = size - len(found)
        found += passing[:room]
        if len(passing) > room:
            after = found[-1].sequence
            break
        if len(read) < CHANGES_AT_ONCE:
            return Page(items=tuple(found), next_token="")
        after = read[-1].sequence
        if len(found) == size:
            break
    return Page(items=tuple(found), next_token=token_of(listing, str(after)))


def _span(
    above: int, after: int | None, newest: bool, limit: int
) -> tuple[int, int, bool, int | None]:
    """Return what the store is asked for: the changes that follow `after` in the list."""
    return (above, limit, True, after) if newest else (after or above, limit, False, None)


def _is_newest_first(request: Any) -> bool:
    order = order_of(request.order_by, change_pb2.Change)
    if not order:
        return bool(request.newest_first)
    if len(order) > 1 or order[0][0] != "sequence":
        raise InvalidInput(
            "order_by: changes are ordered by `sequence` or `sequence desc` alone",
            field="order_by",
        )
    falls = order[0][1]
    if request.newest_first and not falls:
        raise InvalidInput("order_by says the oldest first, newest_first not", field="order_by")
    return falls


def _passing_changes(read: Sequence[Change], passes: Matcher) -> list[change_pb2.Change]:
    return [made for change in read if passes(made := convert.change_to_proto(change))]


async def _passing_plans(database: Database, view: FleetView, passes: Matcher) -> list[Any]:
    """Return the plans of all that are kept that pass, as lists have them."""

    def passing(read: Sequence[StoredPlan]) -> list[Any]:
        return [made for one in read if passes(made := convert.listed_plan_to_proto(view, one))]

    found: list[Any] = []
    below: int | None = None
    while True:
        read = await database.run_read(list_plans, below, PLANS_AT_ONCE)
        found += await asyncio.to_thread(passing, read)
        if len(read) < PLANS_AT_ONCE:
            return found
        below = read[-1].number


def _newest_first(message: placement_pb2.Plan) -> str:
    return f"{_NUMBERS_MAX - int(message.name.rpartition('/')[2]):019d}"
