"""What the global loop has decided of a deployment: what holds now, and the record of each time.

The control plane's store keeps both; reconciliation goes by the first, people read the second.
Pure values.
"""

from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.autoscaling.need import Need


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """What holds of a deployment: how many replicas are to be placed, and each plane's target.

    `floor` is the least over all planes, by the time of day too. `targets` are of the planes that
    the fleet decides for, the others go by their own signals. `unmet` are replicas that are needed
    and have no place, at `unmet_dollars_per_hour` where they would be cheapest (None: no price is
    told). `cold_start_seconds` 0: not known.
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

    def target(self, plane: str) -> int | None:
        """Return what the fleet decided for a plane, None where the plane decides."""
        return next((count for name, count in self.targets if name == plane), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRecord:
    """A plane as a decision saw it: what it ran, its bounds, its price, what came of it.

    `target` None: the plane goes by its own signals. `busy` is how many replicas its work keeps
    busy, None where nothing is known of it.
    """

    plane: str
    running: int
    floor: int
    ceiling: int
    target: int | None
    price_per_hour: float
    busy: float | None = None
    heard: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRecord:
    """A decision of the global loop with all that it rests on, and its sentence."""

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
