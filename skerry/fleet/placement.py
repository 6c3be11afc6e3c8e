"""The decision: how many replicas of a deployment on which pool, and the bounds a plane gets."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """`count` replicas of `deployment` on `pool` (fleet-wide id), and why."""

    deployment: str
    pool: str
    count: int
    reason: str = ""

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"a placement's count must not be negative: {self.count}")


def counts_of(placements: Iterable[Placement]) -> dict[tuple[str, str], int]:
    """Return how many replicas are placed, by (deployment, pool); pairs without any left out."""
    return {(p.deployment, p.pool): p.count for p in placements if p.count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Replica bounds of one deployment on one pool, granted to a plane; it never expires.

    The plane may run any number in floor..ceiling; the global loop moves `target` inside them.
    """

    deployment: str
    pool: str
    floor: int
    target: int
    ceiling: int

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.target <= self.ceiling:
            raise ValueError(
                "need 0 <= floor <= target <= ceiling,"
                f" not {self.floor}, {self.target}, {self.ceiling}"
            )
