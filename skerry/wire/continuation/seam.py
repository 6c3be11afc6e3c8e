"""Stop texts that begin before a seam and end behind it, which no engine can see.

Pure. An engine that goes on looks for stop texts in what it generates itself; the part before the
seam is prompt to it.
"""

from collections.abc import Sequence
from enum import StrEnum


class Sight(StrEnum):
    """What is seen of the stop texts at a seam."""

    CLEAR = "clear"  # none can span the seam any more
    MAY_BE = "may-be"  # what came may be the middle of one: it must not be shown yet
    MET = "met"


class SeamWatch:
    """Watches the first text behind one seam."""

    __slots__ = ("_joined", "_seam", "_stops")

    def __init__(self, told: str, stops: Sequence[str]) -> None:
        """Remember as much of what was told as a stop text may reach back."""
        self._stops = tuple(stop for stop in stops if stop)
        reach = max((len(stop) for stop in self._stops), default=1) - 1
        self._joined = told[-reach:] if reach else ""
        self._seam = len(self._joined)

    def look(self, text: str = "") -> Sight:
        """Say what is seen with the next piece of text."""
        self._joined += text
        joined, seam = self._joined, self._seam
        may_be = False
        for stop in self._stops:
            for start in range(max(0, seam - len(stop) + 1), seam):
                if joined.startswith(stop, start):
                    # What ends at the seam was told whole and did not stop the one who told it.
                    if start + len(stop) > seam:
                        return Sight.MET
                elif stop.startswith(joined[start:]):
                    may_be = True
        return Sight.MAY_BE if may_be else Sight.CLEAR
