"""One request of a signed-in operator: whom it is for, what it may do, and how pages ask.

`site.py` makes one for each request; the modules of pages take it and return a `Page`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from aiohttp import web

from control_plane.api.access.decision import Named, refusal_of
from control_plane.api.access.matrix import PACKAGE
from control_plane.dashboard.reading import Reading
from control_plane.dashboard.sessions import Session
from skerry.client import operator_calls
from skerry.client.async_operator import AsyncOperatorClient
from skerry.client.paging import Listing
from skerry.fleet.access import Principal
from skerry.plumbing.errors import InvalidInput

Row = TypeVar("Row")

TABLE_ROWS = 50
WORD_CHARACTERS_MAX = 253  # of a name in a query; the API has its own limits behind it
# A filter has 2,048 characters at most, and a name 63.
NAMES_AT_ONCE = 15
# The places in pages that answers go into.
PARTS = ("why", "losses", "what-if")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page shows: its template and the values in it."""

    template: str
    title: str
    values: dict[str, Any]
    is_part: bool = False  # goes into a page that is open, without the frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request with its session; `now` for ages, `project` for names."""

    request: web.Request
    session: Session
    principal: Principal
    reading: Reading
    project: str
    now: datetime

    @property
    def is_part(self) -> bool:
        """Say whether the answer goes into an open page, and not in the place of all of it."""
        return self.request.headers.get("HX-Target") in PARTS

    @property
    def client(self) -> AsyncOperatorClient:
        """Return the client with the operator's own credential."""
        return self.session.client

    def query(self, name: str) -> str:
        """Return a word of the query, empty where it is not told."""
        return checked_word(self.request.query.get(name, ""), name)

    def why_not(self, method: str, planes: Collection[str] = ()) -> str:
        """Return why the operator may not call `Service/Method`, empty where it may.

        The decision is the operator port's own; the port makes it again when the call comes.
        """
        named = Named(projects=frozenset({self.project}), planes=frozenset(planes))
        refusal = refusal_of(self.principal, f"/{PACKAGE}.{method}", named)
        return "" if refusal is None else refusal.message

    async def page(
        self, key: str, listing: Listing[Row], rows: int = TABLE_ROWS
    ) -> operator_calls.Page[Row]:
        """Return the page of a list that the query's token names, of so many rows."""
        token = self.request.query.get("page", "")
        call = listing(token)
        call.request.page_size = rows
        return await self.reading.ask(f"{key} {token}", lambda: self.client.run(call))


def checked_word(text: str, name: str) -> str:
    """Return a word that came from a browser; InvalidInput for what can be no name."""
    if len(text) > WORD_CHARACTERS_MAX or not text.isprintable():
        raise InvalidInput(f"{name} must be at most {WORD_CHARACTERS_MAX} printable characters")
    return text.strip()


def quoted(text: str) -> str:
    """Return a text as a filter's value."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def any_of(field: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return filters that together pass what has one of the names in a field."""
    chunks = [names[at : at + NAMES_AT_ONCE] for at in range(0, len(names), NAMES_AT_ONCE)]
    return tuple(" OR ".join(f"{field} = {quoted(name)}" for name in chunk) for chunk in chunks)
