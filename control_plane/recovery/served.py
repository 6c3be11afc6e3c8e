"""Who keeps a served name that several deployments have once what planes hold is believed. Pure.

A name passes on when its deployment is deleted; a plane that was away then still names the old one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A deployment as it will be known, and what says how new that is.

    `told`: a plane that holds more than the database names it; `epoch` is the highest of those
    planes and `holders` their number. `stored`: the database has it.
    """

    deployment: str
    served_name: str
    deleting: bool
    stored: bool
    told: bool = False
    epoch: int = 0
    holders: int = 0

    @property
    def rank(self) -> tuple[bool, bool, int, bool, int, str]:
        """Return what the highest of keeps the name: the newest, as far as anybody can know."""
        newer = not self.stored  # made since the backup
        return not self.deleting, self.told, self.epoch, newer, self.holders, self.deployment


def takers_of(claims: Iterable[Claim]) -> Mapping[str, str]:
    """Return, by deployment that loses its served name, the one that has it by now."""
    by_name: dict[str, list[Claim]] = {}
    for claim in claims:
        by_name.setdefault(claim.served_name, []).append(claim)
    takers: dict[str, str] = {}
    for rivals in by_name.values():
        taker = max(rivals, key=lambda claim: claim.rank)
        takers |= {one.deployment: taker.deployment for one in rivals if one is not taker}
    return dict(sorted(takers.items()))
