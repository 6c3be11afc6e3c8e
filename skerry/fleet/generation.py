"""The ordered version (epoch, generation) of all that is pushed to a plane, and its order."""

from dataclasses import dataclass
from functools import total_ordering


@total_ordering
@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Epoch of the leader that wrote, then generation of the plane's desired state."""

    epoch: int
    generation: int

    def __post_init__(self) -> None:
        if self.epoch < 0 or self.generation < 0:
            raise ValueError(f"epoch and generation must not be negative: {self}")

    def __lt__(self, other: "Version") -> bool:
        return (self.epoch, self.generation) < (other.epoch, other.generation)

    def __str__(self) -> str:
        return f"{self.epoch}.{self.generation}"


NEVER = Version(epoch=0, generation=0)


def may_replace(offered: Version, held: Version) -> bool:
    """Say whether `offered` may replace `held`: no older epoch and no older generation, ever.

    An equal version is allowed (a repeat is harmless); a higher epoch with a lower generation is
    not: a restored database must first raise its generations above what the planes hold.
    """
    return offered.epoch >= held.epoch and offered.generation >= held.generation
