"""A plane's number of replicas, over its pools: each inside its envelope. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBounds:
    """One pool's envelope: its floor, the target it was told, its ceiling."""

    pool: str
    floor: int
    target: int
    ceiling: int


def share(total: int, pools: Sequence[PoolBounds], before: Mapping[str, int]) -> dict[str, int]:
    """Return how many replicas each pool is to run so that they are `total`, as far as may be.

    What runs `before` stays where it is. More go first where the control plane would have them,
    then to the first pool with room; fewer are taken first where it would have fewer.
    """
    found = {
        one.pool: min(max(before.get(one.pool, one.target), one.floor), one.ceiling)
        for one in pools
    }
    missing = total - sum(found.values())
    for wished in (True, False):
        for one in pools if missing > 0 else reversed(pools):
            if missing > 0:
                most = min(one.target, one.ceiling) if wished else one.ceiling
                more = min(missing, max(0, most - found[one.pool]))
            else:
                least = max(one.target, one.floor) if wished else one.floor
                more = -min(-missing, max(0, found[one.pool] - least))
            found[one.pool] += more
            missing -= more
    return found
