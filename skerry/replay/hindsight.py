"""What hindsight would have paid: plans made from the trace itself, the cheapest that serves it.

No autoscaler can know this; it is what they are compared with. The plans are of one family (work
ahead, divided by one utilisation), so it is a good answer and no proof of the least.
"""

import math
from collections.abc import Sequence

import numpy as np

from scheduler.compiled import Floats
from skerry.fleet.autoscaling.fleetwide import PlaneShare, largest_remainder, nearest
from skerry.replay.arrivals import Arrivals
from skerry.replay.policies import Fixed, Planned
from skerry.replay.world import FleetModel, Outcome, run

UTILIZATION_MIN, UTILIZATION_MAX = 0.4, 1.2
STEPS = 5  # halvings of the range of utilisations: to 3 %
SMOOTH_SECONDS = 30.0


def work_by_tick(fleet: FleetModel, arrivals: Arrivals) -> Floats:
    """Return busy replicas by tick and region, of what really was asked for."""
    ticks = int(arrivals.seconds / fleet.tick_seconds) + 1
    engine = fleet.engine
    costs = engine.coefficients
    each = costs.decode_seconds_per_token + costs.iteration_seconds / engine.batch
    seconds = arrivals.prompt * costs.prefill_seconds_per_token + arrivals.output * each
    work = np.zeros((ticks, len(fleet.regions)))
    tick = np.minimum((arrivals.at / fleet.tick_seconds).astype(np.int64), ticks - 1)
    np.add.at(work, (tick, arrivals.region), seconds / fleet.tick_seconds)
    return work


def pooled_hindsight(fleet: FleetModel, arrivals: Arrivals, objective: float) -> Outcome:
    """Return the cheapest plan of the family that meets the objective, all regions as one."""
    work = work_by_tick(fleet, arrivals)
    least, most, best = UTILIZATION_MIN, UTILIZATION_MAX, None
    for _ in range(STEPS):
        middle = 0.5 * (least + most)
        found = _planned(fleet, arrivals, work, middle)
        if found.attainment >= objective:
            least = middle
            if best is None or found.replica_hours < best.replica_hours:
                best = found
        else:
            most = middle
    return best or _planned(fleet, arrivals, work, UTILIZATION_MIN)


def static_hindsight(
    fleet: FleetModel, arrivals: Arrivals, objective: float, pooled: bool
) -> Outcome:
    """Return the smallest fixed fleet that meets the objective, sized by region or by the sum."""
    work = work_by_tick(fleet, arrivals)
    name = "static + spillover, by hindsight" if pooled else "static, by hindsight"
    peaks = _smoothed(work, int(300.0 / fleet.tick_seconds)).max(axis=0)
    least, most, best = 0.2, 1.5, None
    for _ in range(STEPS):
        middle = 0.5 * (least + most)
        if pooled:
            sum_peak = _smoothed(
                work.sum(axis=1, keepdims=True), int(300.0 / fleet.tick_seconds)
            ).max()
            total = math.ceil(sum_peak / middle)
            replicas = _shares(fleet, total, peaks)
        else:
            replicas = [
                min(max(region.floor, 1, math.ceil(peak / middle)), region.ceiling)
                for region, peak in zip(fleet.regions, peaks, strict=True)
            ]
        found = run(fleet, arrivals, Fixed(replicas, name), warm=replicas)
        if found.attainment >= objective:
            least = middle
            if best is None or found.replica_hours < best.replica_hours:
                best = found
        else:
            most = middle
            best = best if best is not None and best.attainment >= objective else found
    assert best is not None
    return best


def _planned(fleet: FleetModel, arrivals: Arrivals, work: Floats, utilization: float) -> Outcome:
    tick = fleet.tick_seconds
    mean = _smoothed(work, int(SMOOTH_SECONDS / tick))
    total = mean.sum(axis=1)
    # To be ready when it is needed, and not to go and come back within a cold start.
    lead = int(fleet.cold_start_seconds / tick) + 1
    ahead = np.array([total[k : k + 2 * lead].max() for k in range(len(total))])
    whole = np.ceil(ahead / utilization).astype(np.int64)
    plan = [_shares(fleet, int(whole[0]), mean[: 2 * lead].mean(axis=0))]
    for number, count in enumerate(whole[1:].tolist(), start=1):
        # Those that run stay where they are: a move would cost a cold start.
        if count != whole[number - 1]:
            weights = mean[number : number + 2 * lead].mean(axis=0)
            plan.append(_changed(fleet, plan[-1], int(count), weights))
        else:
            plan.append(plan[-1])
    policy = Planned(plan, tick, "hindsight, pooled")
    return run(fleet, arrivals, policy, warm=plan[0])


def _changed(fleet: FleetModel, running: Sequence[int], total: int, weights: Floats) -> list[int]:
    """Return `total` replicas that are added to, or taken from, those that run."""
    ideal = _shares(fleet, total, weights)
    shares = [
        PlaneShare(
            plane=region.name,
            running=many,
            floor=region.floor,
            ceiling=region.ceiling,
            engine=None,
            price_per_hour=region.price_per_hour,
        )
        for region, many in zip(fleet.regions, running, strict=True)
    ]
    by_name = {region.name: many for region, many in zip(fleet.regions, ideal, strict=True)}
    found = nearest(total, shares, by_name)
    return [found[region.name] for region in fleet.regions]


def _smoothed(work: Floats, ticks: int) -> Floats:
    """Return means over so many ticks around each."""
    ticks = max(1, ticks)
    sums = np.cumsum(np.vstack([np.zeros((1, work.shape[1])), work]), axis=0)
    high = np.minimum(np.arange(len(work)) + (ticks + 1) // 2, len(work))
    low = np.maximum(np.arange(len(work)) - ticks // 2, 0)
    found: Floats = (sums[high] - sums[low]) / (high - low)[:, None]
    return found


def _shares(fleet: FleetModel, total: int, weights: Sequence[float] | Floats) -> list[int]:
    """Return a sum split by weights inside the regions' bounds."""
    shares = [
        PlaneShare(
            plane=region.name,
            running=0,
            floor=region.floor,
            ceiling=region.ceiling,
            engine=None,
            price_per_hour=region.price_per_hour,
        )
        for region in fleet.regions
    ]
    by_plane = {
        region.name: float(weight) for region, weight in zip(fleet.regions, weights, strict=True)
    }
    found = largest_remainder(total, shares, by_plane)
    return [found[region.name] for region in fleet.regions]
