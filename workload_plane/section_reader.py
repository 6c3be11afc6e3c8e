"""How a section of a plane's settings is read: what takes its values, and what no section knows.

`settings` brings the reader that collects the faults of the whole file.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeVar

Value = TypeVar("Value")


class Reader(Protocol):
    """What takes values out of decoded settings and collects what is wrong with them."""

    values: Mapping[str, object]

    def fault(self, key: str, message: str) -> None:
        """Note what is wrong with a setting."""
        ...

    def take(self, key: str, kind: type[Value], default: Value) -> Value:
        """Return a setting of the kind, the default without one or with a fault."""
        ...

    def inner(self, key: str) -> "Reader | None":
        """Return the reader of a section, None without one."""
        ...


def names_of(section: type[Any], reader: Reader, what: str) -> list[str]:
    """Return the settings that a section (a dataclass) has; each other one is a fault."""
    known = [field.name for field in fields(section)]
    for key in reader.values:
        if key not in known:
            reader.fault(str(key), f"is not a setting of {what}: {', '.join(known)}")
    return known
