"""What the global loop has decided of a deployment: what holds now, and the record of each time.

The control plane's store keeps both; reconciliation goes by the first, people read the second.
Pure values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from skerry.fleet.autoscaling.need import Need

# In a record, and of those that are not heard as many names: with all of thousands of planes an
# answer of a few records passed the 4 MiB of a message, and the store kept a megabyte each minute.
RECORD_PLANES_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """What holds of a deployment: how many replicas are to be placed, and each plane's target.

    `floor` is the least over all planes, by the time of day too. `targets` are of the planes that
    the fleet decides for, the others go by their own signals. `unmet` are replicas that are needed
    and have no place, at `unmet_dollars_per_hour` where they would be cheapest (None: no price is
    told). `cold_start_seconds` 0: not known. As it is stored, figures are those of the last move.
    """

    deployment: str
    demand: int
    floor: int
    targets: tuple[tuple[str, int], ...] = ()
    wanted: int = 0
    unmet: int = 0
    unmet_dollars_per_hour: float | None = None
    cold_start_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that contradict each other."""
        if not 0 <= self.floor <= self.demand or min(self.wanted, self.unmet) < 0:
            raise ValueError(f"{self.deployment}: need 0 <= floor <= demand and counts from 0 on")

    def is_moved_from(self, before: "Scaled | None") -> bool:
        """Say whether something else holds than before: other figures alone are no move.

        How much is wanted or unmet changes each round under a shortage; that anything is unmet, or
        nothing any more, is a move.
        """
        if before is None or bool(self.unmet) != bool(before.unmet):
            return True
        same_figures = replace(
            self,
            wanted=before.wanted,
            unmet=before.unmet,
            unmet_dollars_per_hour=before.unmet_dollars_per_hour,
        )
        return same_figures != before

    def target(self, plane: str) -> int | None:
        """Return what the fleet decided for a plane, None where the plane decides."""
        return next((count for name, count in self.targets if name == plane), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRecord:
    """A plane as a decision saw it: what it ran, its bounds, its price, what came of it.

    `target` None: the plane goes by its own signals.
    """

    plane: str
    running: int
    floor: int
    ceiling: int
    target: int | None
    price_per_hour: float
    heard: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRecord:
    """A decision of the global loop with all that it rests on, and its sentence.

    Of many planes `shares` are those that change most, `more_planes` counts the others.
    `dollars_per_hour`: what all targets cost together, of a plane that decides by itself what runs
    there. None: of one of them no price is told, or the record is of a release that kept none.
    """

    deployment: str
    decided_at: datetime
    sentence: str
    because: str
    running: int
    total: int
    wanted: int
    unmet: int
    demand: int
    floor: int
    unmet_dollars_per_hour: float | None = None
    need: Need | None = None
    highest: int | None = None
    unheard: tuple[str, ...] = ()
    shares: tuple[ShareRecord, ...] = ()
    more_planes: int = 0
    dollars_per_hour: float | None = None


def most_changed(shares: Sequence[ShareRecord]) -> tuple[ShareRecord, ...]:
    """Return the shares that a record keeps, in their order; of too many those that change most."""
    if len(shares) <= RECORD_PLANES_MAX:
        return tuple(shares)

    def change(share: ShareRecord) -> int:
        return abs(share.target - share.running) if share.target is not None else 0

    order = sorted(shares, key=lambda one: (-change(one), -(one.target or one.running), one.plane))
    return tuple(order[:RECORD_PLANES_MAX])
