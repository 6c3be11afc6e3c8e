"""Plans of the large pipeline: counts of arrays told with names, levels, bounds and reasons.

`solve` and `session` call `tell` on what `large` and `refine` answer; repairs are told by `retell`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from scheduler.arrays import Arrays, arrays_of, updated
from scheduler.ceilings import grow_ceilings
from scheduler.compiled import Ints
from scheduler.draft import recount
from scheduler.envelopes import reserve_accelerators
from scheduler.feasibility import bars_by_pool, latency_table, rejection
from scheduler.greedy import complete
from scheduler.grid import Counts, Grid
from scheduler.large import LargeAnswer, WarmStart, answer_of, place_plainly, solve_large
from scheduler.levels import DIGITS
from scheduler.plan import (
    POOLS_NAMED_MAX,
    REJECTIONS_MAX,
    LevelValue,
    PlacementPlan,
    PoolPrice,
    Rejection,
    Shed,
    Unplaced,
)
from scheduler.prices import Prices
from scheduler.problem import PlacementProblem
from scheduler.refine import Refinement, own_draft, refine_large
from scheduler.relaxation import spread_missing
from scheduler.verdicts import CHEAPEST, KEPT, PROMISE, ROOM, fits_one_more, judge_columns
from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.placement import Envelope, Placement

NEAR = 1e-6
# What a start of a few hundred columns is worth: some tens of milliseconds.
START = Refinement(searches=2, steps=200)
# Prices of another fleet are worse than none.
KNOWN_SHARE = 0.7
# A pool's price is told where one more accelerator saves at least this much an hour.
PRICE_MIN = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """What a solve leaves for the next one of nearly the same fleet, by names.

    Dollars an hour per accelerator and per byte by pool, what spot costs by deployment, pools whose
    nodes sums do not describe, and how far the cost was above its bound.
    """

    accelerator: Mapping[str, float]
    memory: Mapping[str, float]
    spot: Mapping[str, float]
    tight: frozenset[str]
    gap: float


def warm_of(arrays: Arrays, answer: LargeAnswer) -> Warm:
    """Return what the next solve may start from."""
    names = arrays.names
    deployments = arrays.deployments
    prices = answer.warm.prices
    return Warm(
        accelerator=dict(zip(names, prices.accelerator.tolist(), strict=True)),
        memory=dict(zip(names, prices.memory.tolist(), strict=True)),
        spot=dict(zip(deployments, prices.spot.tolist(), strict=True)),
        tight=frozenset(names[j] for j in np.flatnonzero(answer.warm.tight).tolist()),
        gap=answer.warm.gap,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The pipeline's counts for a grid, refined, as far as they keep every rule of it."""

    counts: Counts
    arrays: Arrays
    answer: LargeAnswer


def start_of(grid: Grid) -> Start:
    """Return what the exact search of a grid may start from."""
    arrays = arrays_of(grid.problem)
    answer = refine_large(solve_large(arrays.instance), START)
    columns = arrays.instance.columns
    held = np.flatnonzero(answer.counts)
    names = [
        (arrays.deployments[d], arrays.names[j])
        for d, j in zip(columns.deployment[held].tolist(), columns.pool[held].tolist(), strict=True)
    ]
    placed = dict(zip(names, answer.counts[held].tolist(), strict=True))
    counts = tuple(placed.get((c.deployment, c.pool), 0) for c in grid.columns)
    return Start(counts=complete(grid, counts), arrays=arrays, answer=answer)


def tell_counts(grid: Grid, start: Start, counts: Counts, solver: str) -> PlacementPlan:
    """Return the plan of a grid's counts, told as the pipeline's are: in milliseconds."""
    arrays, instance = start.arrays, start.arrays.instance
    deployments = {name: number for number, name in enumerate(arrays.deployments)}
    pools = {name: number for number, name in enumerate(arrays.names)}
    table = np.zeros((len(deployments), len(pools)), np.int64)
    for column, count in zip(grid.columns, counts, strict=True):
        table[deployments[column.deployment], pools[column.pool]] = count
    state = own_draft(start.answer)
    state.counts[:] = table[instance.columns.deployment, instance.columns.pool]
    recount(state)
    answer = answer_of(state, start.answer.warm.prices, start.answer.possible)
    return tell(arrays, answer, solver)


def prepare(
    problem: PlacementProblem, warm: Warm | None, former: Arrays | None = None
) -> tuple[Arrays, WarmStart | None]:
    """Return the arrays of a problem (from `former` ones where little changed), and the last prices
    in their order.

    None where less than KNOWN_SHARE of the pools or deployments were there: that is another fleet.
    """
    arrays = (updated(former, problem) if former else None) or arrays_of(problem)
    if warm is None:
        return arrays, None
    names = arrays.names
    deployments = arrays.deployments
    known = sum(name in warm.accelerator for name in names)
    seen = sum(name in warm.spot for name in deployments)
    if known < KNOWN_SHARE * len(names) or seen < KNOWN_SHARE * len(deployments):
        return arrays, None
    prices = Prices(
        accelerator=np.array([warm.accelerator.get(name, 0.0) for name in names], np.float64),
        memory=np.array([warm.memory.get(name, 0.0) for name in names], np.float64),
        spot=np.array([warm.spot.get(name, 0.0) for name in deployments], np.float64),
    )
    tight = np.array([name in warm.tight for name in names], np.int64)
    return arrays, WarmStart(prices=prices, tight=tight, gap=warm.gap)


def attempts(
    arrays: Arrays, warm: WarmStart | None, *, searches: bool
) -> Iterator[tuple[str, Callable[[], LargeAnswer]]]:
    """Yield the solvers in the order in which they are asked."""
    if searches:
        yield "pipeline", partial(solve_large, arrays.instance, warm=warm)
    yield "greedy", partial(place_plainly, arrays.instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """An answer and what its sentences need: what fits one more, what is open."""

    arrays: Arrays
    answer: LargeAnswer
    is_open: Ints
    fits: Ints


def tell(arrays: Arrays, answer: LargeAnswer, solver: str) -> PlacementPlan:
    """Return the plan of an answer, with its levels, bounds, envelopes and reasons."""
    instance, counts = arrays.instance, answer.counts
    told = _Told(
        arrays=arrays,
        answer=answer,
        is_open=np.array([reason is None for reason in arrays.closed], np.int64),
        fits=fits_one_more(answer.draft, counts),
    )
    held, codes, cheaper = judge_columns(instance, counts, fits=told.fits, is_open=told.is_open)
    placements = _placements(told, held, codes, cheaper)
    unplaced = unplaced_told(arrays, answer)
    levels = levels_told(arrays, answer)
    return PlacementPlan(
        placements=placements,
        envelopes=_envelopes(told, held),
        unplaced=unplaced,
        rejections=_rejections(arrays, unplaced),
        levels=levels,
        cost_per_hour=_cost_per_hour(arrays, held, counts),
        solver=solver,
        optimal=all(v.value <= v.bound for v in levels[:-2]),
        shed=shed_told(arrays, answer),
        prices=_prices(told),
    )


def _cost_per_hour(arrays: Arrays, held: Ints, counts: Ints) -> float:
    """Return the bill, from prices as they were told."""
    dollars = [pool.terms.price_per_accelerator_hour or 0.0 for pool in arrays.pools]
    taken = (arrays.instance.columns.accelerators[held] * counts[held]).tolist()
    on = arrays.instance.columns.pool[held].tolist()
    return math.fsum(dollars[j] * number for j, number in zip(on, taken, strict=True))


def _placements(told: _Told, held: Ints, codes: Ints, cheaper: Ints) -> tuple[Placement, ...]:
    columns, arrays = told.arrays.instance.columns, told.arrays
    names = arrays.names
    deployments = arrays.deployments
    promises = [_promise(demanded.deployment.policy) for demanded in arrays.demands]
    order = np.lexsort((columns.pool[held], columns.deployment[held])).tolist()
    rows = list(
        zip(
            columns.deployment[held].tolist(),
            columns.pool[held].tolist(),
            told.answer.counts[held].tolist(),
            columns.current[held].tolist(),
            told.arrays.instance.bill[held].tolist(),
            codes.tolist(),
            cheaper.tolist(),
            strict=True,
        )
    )
    found = []
    for d, j, count, current, dollars, code, others in (rows[k] for k in order):
        if code == KEPT:
            closed = arrays.closed[j]
            reason = f"kept where it runs ({closed})" if closed else "kept where it runs"
        else:
            reason = _reason(code, dollars, others, names, promises[d])
            if current:
                reason = f"{current} kept where they run, {count - current} started: {reason}"
        found.append(
            Placement(deployment=deployments[d], pool=names[j], count=count, reason=reason)
        )
    return tuple(found)


def _promise(policy: PlacementPolicy) -> str:
    tolerate, spread = policy.tolerate, policy.spread
    if tolerate:
        return f"survives loss of any one {tolerate.domain} ({tolerate.keep:.0%} kept)"
    return f"spread over {spread.domain}s" if spread else ""


def _reason(
    code: int, dollars: float, others: Sequence[int], names: Sequence[str], promise: str
) -> str:
    price = f"${dollars:.4g}/h a replica"
    if code == CHEAPEST:
        return f"cheapest eligible pool, {price}"
    named = ", ".join(names[j] for j in others[1 : 1 + min(others[0], POOLS_NAMED_MAX)])
    if others[0] > POOLS_NAMED_MAX:
        named += f" and {others[0] - POOLS_NAMED_MAX} more"
    if code == ROOM:
        return f"cheapest pool with room, {price}; full: {named}"
    if code == PROMISE and promise:
        return promise
    return f"the cheaper {named} serve others, {price}"


def _envelopes(told: _Told, held: Ints) -> tuple[Envelope, ...]:
    arrays, counts = told.arrays, told.answer.counts
    columns = arrays.instance.columns
    fraction = arrays.problem.reserve_fraction
    reserve = [reserve_accelerators(pool.shape.accelerators, fraction) for pool in arrays.pools]
    ceilings = grow_ceilings(
        arrays.instance,
        counts,
        is_open=told.is_open,
        reserve=np.array(reserve, np.float64),
    )
    order = held[np.lexsort((columns.pool[held], columns.deployment[held]))]
    return tuple(
        Envelope(
            deployment=arrays.deployments[d],
            pool=arrays.names[j],
            floor=count,
            target=count,
            ceiling=ceiling,
        )
        for d, j, count, ceiling in zip(
            columns.deployment[order].tolist(),
            columns.pool[order].tolist(),
            counts[order].tolist(),
            ceilings[order].tolist(),
            strict=True,
        )
    )


def levels_told(arrays: Arrays, answer: LargeAnswer) -> tuple[LevelValue, ...]:
    """Return the levels as figures with units, survival in replicas of each first shape."""
    columns = arrays.instance.columns
    missing, least = spread_missing(arrays.instance, answer.counts)
    short = float((answer.short * arrays.replicas).sum()) + missing
    short_least = float((answer.possible.survival * arrays.replicas).sum()) + least
    started = int(np.maximum(0, answer.counts - columns.current).sum())
    same = short <= short_least + NEAR
    rows = [
        *(
            (f"unmet-class-{number}", value, bound, "deployments")
            for number, (value, bound) in enumerate(
                zip(answer.levels.unmet, answer.bounds.unmet, strict=True)
            )
        ),
        ("survival", short, short if same else short_least, "replicas"),
        ("cost", answer.levels.cost, answer.bounds.cost, "USD/h"),
        ("starts", float(started), 0.0, "replicas"),
        ("fragmentation", float(np.count_nonzero(answer.counts)), 0.0, "placements"),
    ]
    return tuple(
        LevelValue(
            level=name,
            value=round(value, DIGITS),
            bound=round(value if abs(value - bound) < NEAR else min(bound, value), DIGITS),
            unit=unit,
        )
        for name, value, bound, unit in rows
    )


def _prices(told: _Told) -> tuple[PoolPrice, ...]:
    """Return what one more accelerator of each pool without room would save."""
    arrays, room = told.arrays, told.answer.draft.room
    worth = told.answer.warm.prices.accelerator
    full = room.accelerators < np.maximum(1.0, 0.02 * room.capacity)
    return tuple(
        PoolPrice(pool=arrays.names[j], dollars_per_hour=round(float(worth[j]), DIGITS))
        for j in np.flatnonzero((worth > PRICE_MIN) & full & (told.is_open == 1)).tolist()
    )


def _missing(arrays: Arrays, answer: LargeAnswer) -> Mapping[int, int]:
    """Return the replicas of the first shape that are missing, by deployment."""
    unmet = np.ceil(answer.unmet * arrays.replicas - NEAR).astype(np.int64)
    short = np.flatnonzero(answer.unmet > 0.0)
    return {int(d): max(1, int(unmet[d])) for d in short}


def unplaced_told(arrays: Arrays, answer: LargeAnswer) -> tuple[Unplaced, ...]:
    """Return what found no place, with the numbers that say why."""
    columns, first = arrays.instance.columns, arrays.instance.first
    held = np.bincount(columns.deployment, answer.counts, minlength=len(arrays.demands))
    left = answer.draft.room.accelerators
    found = []
    for d, missing in _missing(arrays, answer).items():
        deployment = arrays.demands[d].deployment
        shape = deployment.revision.shapes[0]
        one = f"{shape.accelerators} x {shape.accelerator}"
        needs = f"needs {one}" if missing == 1 else f"needs {missing} replicas of {one}"
        mine = columns.pool[first[d] : first[d + 1]].tolist()
        if held[d] >= deployment.scaling.max_replicas:
            reason = f"{needs} more; max_replicas is {deployment.scaling.max_replicas}"
        elif not mine:
            reason = f"{needs}; no pool may host it"
        else:
            where = [
                f"{arrays.names[j]} {max(0, int(left[j]))} of {arrays.pools[j].shape.accelerators}"
                for j in mine[:POOLS_NAMED_MAX]
            ]
            more = len(mine) - POOLS_NAMED_MAX
            text = ", ".join(where) + (f" and {more} more" if more > 0 else "")
            reason = f"{needs} more; accelerators free where it may run: {text}"
        found.append(Unplaced(deployment=deployment.name, replicas=missing, reason=reason))
    return tuple(found)


def _rejections(arrays: Arrays, unplaced: Sequence[Unplaced]) -> tuple[Rejection, ...]:
    """Return which pools may not host what is unplaced, and why, as far as there is space."""
    short = {item.deployment for item in unplaced}
    bars = bars_by_pool(arrays.problem.bars)
    latencies = latency_table(arrays.problem.latencies)
    running = {(p.deployment, p.pool): p.count for p in arrays.problem.current}
    found: list[Rejection] = []
    for demanded in arrays.demands:
        name = demanded.deployment.name
        if name not in short:
            continue
        for pool in arrays.pools:
            reason = rejection(
                demanded,
                pool,
                bar=bars.get(pool.name),
                runs=running.get((name, pool.name), 0),
                latencies=latencies,
            )
            if reason:
                found.append(Rejection(deployment=name, pool=pool.name, reason=reason))
            if len(found) == REJECTIONS_MAX:
                return tuple(found)
    return tuple(found)


def shed_told(arrays: Arrays, answer: LargeAnswer) -> tuple[Shed, ...]:
    """Return what is given up of deployments that are left short, the lowest class first."""
    columns, counts = arrays.instance.columns, answer.counts
    gain = counts - columns.current
    total = np.bincount(columns.deployment, gain, minlength=len(arrays.demands))
    losers = np.flatnonzero((answer.unmet > 0.0) & (total < 0))
    priority = arrays.instance.deployments.priority
    takers: dict[int, list[int]] = defaultdict(list)
    for c in np.flatnonzero(gain > 0).tolist() if len(losers) else []:
        takers[int(columns.pool[c])].append(int(columns.deployment[c]))
    found = []
    for d in sorted(losers.tolist(), key=lambda d: (-priority[d], d)):
        left = int(-total[d])
        for c in range(int(arrays.instance.first[d]), int(arrays.instance.first[d + 1])):
            stopped = min(left, int(-gain[c]))
            if stopped <= 0:
                continue
            left -= stopped
            above = sorted({t for t in takers[int(columns.pool[c])] if priority[t] <= priority[d]})
            reason = "its pool, its plane or its own limits no longer hold it"
            if above:
                least = min(int(priority[t]) for t in above)
                reason = f"class {priority[d]} gives way to class {least}"
            found.append(
                Shed(
                    deployment=arrays.deployments[d],
                    pool=arrays.names[int(columns.pool[c])],
                    replicas=stopped,
                    taken_by=tuple(arrays.deployments[t] for t in above),
                    reason=reason,
                )
            )
    return tuple(found)
