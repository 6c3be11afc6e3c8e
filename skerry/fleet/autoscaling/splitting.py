"""Whole replicas over planes inside floors and ceilings: by load, by price, in few moves. Pure.

`fleetwide` splits the sum with it, the control plane a plane's part over its pools. Thousands
of planes are split each half minute: nothing here takes planes by replicas.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.fleet.autoscaling.work import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneShare:
    """One plane of a deployment: what it runs (starting ones count), its envelope, its price.

    `engine` None: nothing is known of what its replicas cost, so it keeps what it runs. `granted`
    is its target that holds: what it keeps at least while it is silent.
    """

    plane: str
    running: int
    floor: int
    ceiling: int
    engine: Engine | None
    price_per_hour: float = 0.0
    granted: int = 0

    def __post_init__(self) -> None:
        """Refuse an envelope that has nothing in it."""
        if not 0 <= self.floor <= self.ceiling or self.running < 0:
            raise ValueError(f"{self.plane}: need 0 <= floor <= ceiling and running >= 0")


def split(
    total: int,
    shares: Sequence[PlaneShare],
    weights: Mapping[str, float],
    utilization: float,
) -> dict[str, int]:
    """Return `total` replicas over planes: by load, the spare ones where they are cheapest.

    The sum is `total` wherever floors and ceilings allow it, the nearest that they do otherwise.
    """
    most = sum(share.ceiling for share in shares)
    total = min(max(total, sum(share.floor for share in shares)), most)
    busy = math.ceil(math.fsum(weights.values()) / utilization) if utilization > 0.0 else total
    found = largest_remainder(min(total, busy), shares, weights)
    spare = total - sum(found.values())
    for share in sorted(shares, key=lambda one: (one.price_per_hour, one.plane)):
        taken = min(spare, share.ceiling - found[share.plane])
        found[share.plane] += taken
        spare -= taken
    return found


def largest_remainder(
    total: int, shares: Sequence[PlaneShare], weights: Mapping[str, float]
) -> dict[str, int]:
    """Return whole numbers nearest to the weights' parts of `total`, inside floors and ceilings.

    Their sum is exactly `total` moved into what the bounds leave.
    """
    floors, ceilings = sum(s.floor for s in shares), sum(s.ceiling for s in shares)
    total = min(max(total, floors), ceilings)
    exact = _parts(total, shares, weights)
    found = {
        share.plane: min(max(math.floor(exact[share.plane]), share.floor), share.ceiling)
        for share in shares
    }
    left = total - sum(found.values())
    order = sorted(
        shares, key=lambda one: (found[one.plane] - exact[one.plane], one.price_per_hour, one.plane)
    )
    while left > 0:  # one each by the largest remainder, as long as there is room
        for share in order:
            if left > 0 and found[share.plane] < share.ceiling:
                found[share.plane] += 1
                left -= 1
    while left < 0:  # floors took more than their part
        for share in reversed(order):
            if left < 0 and found[share.plane] > share.floor:
                found[share.plane] -= 1
                left += 1
    return found


def nearest(total: int, shares: Sequence[PlaneShare], ideal: Mapping[str, int]) -> dict[str, int]:
    """Return `total` replicas that only add to, or only take from, those that run.

    What is added goes where most lack by the ideal, what is taken goes where most are too many.
    """
    found = {one.plane: held(one, one.running) for one in shares}
    left = total - sum(found.values())
    way = 1 if left > 0 else -1
    # The best first; among equals the cheapest to add to, the dearest to take from, the last name.
    order = sorted(shares, key=lambda one: one.plane, reverse=True)
    waiting = [
        (way * (found[one.plane] - ideal[one.plane]), way * one.price_per_hour, rank)
        for rank, one in enumerate(order)
    ]
    heapq.heapify(waiting)
    left = abs(left)
    while left > 0 and waiting:
        lacks, price, rank = waiting[0]
        one = order[rank]
        bound = one.ceiling if way > 0 else one.floor
        if found[one.plane] == bound:
            heapq.heappop(waiting)
            continue
        found[one.plane] += way
        left -= 1
        heapq.heapreplace(waiting, (lacks + 1, price, rank))
    return found


def _parts(
    total: int, shares: Sequence[PlaneShare], weights: Mapping[str, float]
) -> dict[str, float]:
    """Return each plane's exact part, those at a bound fixed there and the rest shared anew."""
    fixed: dict[str, float] = {}
    free = list(shares)
    exact: dict[str, float] = {}
    while free:
        left = total - math.fsum(fixed.values())
        weight = math.fsum(max(0.0, weights.get(one.plane, 0.0)) for one in free)
        exact = {
            one.plane: left * max(0.0, weights.get(one.plane, 0.0)) / weight
            if weight > 0.0
            else left / len(free)
            for one in free
        }
        low = [one for one in free if exact[one.plane] < one.floor]
        high = [one for one in free if exact[one.plane] > one.ceiling]
        short = math.fsum(one.floor - exact[one.plane] for one in low)
        over = math.fsum(exact[one.plane] - one.ceiling for one in high)
        if not low and not high:
            break
        bound = low if short >= over else high
        for one in bound:
            fixed[one.plane] = float(one.floor if bound is low else one.ceiling)
        free = [one for one in free if one.plane not in fixed]
    return {**exact, **fixed}


def held(share: PlaneShare, replicas: int) -> int:
    """Return the number inside the share's bounds that is nearest."""
    return min(max(replicas, share.floor), share.ceiling)
