"""How many requests of each API key are under way at this gateway, and how many may be. PURE.

`picker` counts with its tickets, `authz` asks before it picks. Keys without a bound are not
counted. What a peer forwarded was counted there.
"""

from collections.abc import Mapping


class KeyCounts:
    """The keys with a bound on requests at once."""

    def __init__(self) -> None:
        """Know no key yet."""
        self._limits: Mapping[str, int] = {}
        self._open: dict[str, int] = {}
        self.refused = 0

    def update(self, limits: Mapping[str, int]) -> None:
        """Take in how many requests at once each key may have; what is open stays counted."""
        self._limits = limits

    def admits(self, name: str) -> bool:
        """Say whether a key may have one more request; whoever asks tells what came of it."""
        limit = self._limits.get(name)
        if limit is None or self._open.get(name, 0) < limit:
            return True
        self.refused += 1
        return False

    def begin(self, name: str) -> None:
        """Count a request of a key."""
        self._open[name] = self._open.get(name, 0) + 1

    def end(self, name: str) -> None:
        """Count a request of a key as over."""
        left = self._open[name] - 1
        assert left >= 0, "each ends once"
        if left:
            self._open[name] = left
        else:
            del self._open[name]
