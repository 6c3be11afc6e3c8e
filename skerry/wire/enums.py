"""Two-way tables between the fleet's enums and the wire's, with one error for unknown numbers."""

from collections.abc import Mapping
from typing import TypeVar

from skerry.plumbing.errors import InvalidInput

Value = TypeVar("Value")


def from_number(table: Mapping[Value, int], number: int, what: str) -> Value:
    """Return the fleet value of a wire number; raise InvalidInput for one this release lacks."""
    for value, known in table.items():
        if known == number:
            return value
    raise InvalidInput(f"{what} {number} is not known to this release; upgrade the receiver")
