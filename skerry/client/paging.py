"""Lists that come in pages: where the next page begins, and when there are too many of them.

Both clients of the operator API read pages with it, one at a time, as their rows are asked for.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from skerry.client.operator_calls import PAGES_MAX, Call, Page
from skerry.plumbing.errors import Exhausted, SkerryError

Row = TypeVar("Row")

# The call for the page of a token; empty: the first.
Listing = Callable[[str], Call[Page[Row]]]

# Four times the change log's usual length. Nothing is held: past it the server goes in circles.
ITERATED_PAGES_MAX = 8_000


class PageCursor:
    """Where one reading of a list is."""

    def __init__(self, pages_max: int) -> None:
        """Begin at the first page, and end with an error after so many."""
        self._pages_max = pages_max
        self._pages = 0
        self._rows = 0
        self.token = ""
        self.is_over = False

    def took(self, page: Page[Any]) -> None:
        """Go on to the page after this one; Exhausted where that would be one too many.

        A page may be empty and not the last: of a long log each call reads a piece.
        """
        self._pages += 1
        self._rows += len(page.rows)
        self.is_over = not page.next_token
        if self.is_over:
            return
        if page.next_token == self.token:
            raise SkerryError("the control plane repeats a page's token; its log may say more")
        if self._pages >= self._pages_max:
            raise Exhausted(
                f"the list goes on after {self._pages_max:,} pages with {self._rows:,} rows; narrow"
                " it with a filter, or read it row by row with the client's iter_ methods"
            )
        self.token = page.next_token


def whole() -> PageCursor:
    """Return the cursor for a list that is held whole."""
    return PageCursor(PAGES_MAX)


def row_by_row() -> PageCursor:
    """Return the cursor for a list of which one page is held."""
    return PageCursor(ITERATED_PAGES_MAX)
