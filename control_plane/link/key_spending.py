"""What planes told of the tokens that API keys used; in memory, each plane's last word.

`service` writes, the API reads. A plane counts for itself and goes on from its own file, so a
control plane that began anew knows all again once every plane told it.
"""

from collections.abc import Iterable

from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.api_key import BUDGET_TOKENS_MAX
from skerry.fleet.names import NAME_CHARACTERS_MAX
from skerry.fleet.token_budget import KEYS_TOLD_MAX

# `2026-11-27` is the longest name of a period that a plane of ours tells.
_PERIOD_CHARACTERS_MAX = 10


class KeySpending:
    """The tokens of every key in the day or month that planes told last."""

    def __init__(self) -> None:
        """Know of no plane."""
        self._planes: dict[str, dict[str, tuple[str, int]]] = {}
        # Kept as sums: a list of a thousand keys must not go through thousands of planes for each.
        self._sums: dict[tuple[str, str], int] = {}

    def take(self, plane: str, spent: Iterable[plane_service_pb2.KeySpent]) -> None:
        """Keep what a plane told; one that tells nothing has not taken back what it told before."""
        for one in spent:
            known = self._planes.setdefault(plane, {})
            if len(one.key) > NAME_CHARACTERS_MAX or len(one.period) > _PERIOD_CHARACTERS_MAX:
                continue
            if one.key not in known and not self._has_room(known, one.period):
                continue
            before = known.get(one.key)
            now = (one.period, max(0, min(one.tokens, BUDGET_TOKENS_MAX)))
            if before != now:
                if before is not None:
                    self._add(one.key, before[0], -before[1])
                self._add(one.key, *now)
                known[one.key] = now

    def _has_room(self, known: dict[str, tuple[str, int]], period: str) -> bool:
        """Say whether one more is kept of a plane; keys of days and months before give way."""
        if len(known) >= KEYS_TOLD_MAX:
            for key, (before, tokens) in list(known.items()):
                if len(before) == len(period) and before < period:
                    self._add(key, before, -tokens)
                    del known[key]
        return len(known) < KEYS_TOLD_MAX

    def of(self, key: str, period: str) -> int:
        """Return the tokens of a key in a day or month, all planes' together."""
        return self._sums.get((key, period), 0)

    def _add(self, key: str, period: str, tokens: int) -> None:
        if total := self._sums.get((key, period), 0) + tokens:
            self._sums[key, period] = total
        else:
            self._sums.pop((key, period), None)
