"""Prices of pools by ascent on the Lagrangian dual: the certified bound and what scarcity costs.

`large` calls `ascend`; `respond` is one evaluation: every deployment answers prices in closed form
(theta in {1} or {q m / (m - 1)}, the m cheapest domains, each at most theta - q of the demand).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from scheduler.compiled import Floats, Ints, compiled
from scheduler.instance import Instance

# No deployment can promise more than 63/64 of its demand domain by domain in closed form; beyond it
# the answer is the cheapest without the promise, which is a bound all the same.
DOMAINS_USED_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Multipliers: dollars per accelerator-hour and per byte-hour of a pool, and of spot caps."""

    accelerator: Floats
    memory: Floats
    spot: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Per column and unit of throughput: dollars, accelerators, bytes."""

    dollars: Floats
    accelerators: Floats
    memory: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Ascent:
    """The best prices found, the bound they prove, and what each deployment costs under them."""

    prices: Prices
    bound: float
    cost_by_deployment: Floats
    share: Floats


def no_prices(instance: Instance) -> Prices:
    """Return prices of zero."""
    pools, deployments, _ = instance.size
    return Prices(accelerator=np.zeros(pools), memory=np.zeros(pools), spot=np.zeros(deployments))


def rates_of(instance: Instance) -> Rates:
    """Return the rates; a replica beyond `current` pays its start, where nothing runs all do."""
    columns = instance.columns
    start = np.where(columns.current == 0, columns.move_price, 0.0)
    return Rates(
        dollars=(columns.price + start) / columns.throughput,
        accelerators=columns.accelerators / columns.throughput,
        memory=columns.memory / columns.throughput,
    )


@compiled
def best_by_domain(
    d: int,
    ranges: tuple[Ints, Ints, Ints, Ints],
    rates: tuple[Floats, Floats, Floats],
    told: tuple[tuple[Floats, Floats, Floats], float, bool],
    blur: tuple[Floats, float, int],
    best: tuple[Floats, Ints],
) -> int:
    """Fill the cheapest unit price of deployment d by domain, and its column; their number.

    `told` is (prices, spot share, whether domains count), `blur` (noise, its share, its shift).
    """
    first, pool, domain, spot = ranges
    dollars, accelerators, memory = rates
    (lam, mu, nu), share, apart = told
    noise, sigma, shift = blur
    up, down = nu[d] * (1.0 - share), -nu[d] * share
    domains = 0
    for c in range(first[d], first[d + 1]):
        j = pool[c]
        unit = dollars[c] + lam[j] * accelerators[c] + mu[j] * memory[c]
        unit += up if spot[c] == 1 else down
        if sigma > 0.0:
            unit *= 1.0 + sigma * noise[(c + shift) % len(noise)]
        f = domain[c] if apart else 0
        while domains <= f:
            best[0][domains] = np.inf
            domains += 1
        if unit < best[0][f]:
            best[0][f] = unit
            best[1][f] = c
    return domains


@compiled
def keep_lowest(best: tuple[Floats, Ints], domains: int, most: int, low: Floats, at: Ints) -> int:
    """Fill the lowest prices in rising order, `most` of them, and their columns; their number."""
    kept = 0
    for f in range(domains):
        value = best[0][f]
        if value == np.inf or (kept == most and value >= low[kept - 1]):
            continue
        k = kept if kept < most else most - 1
        while k > 0 and low[k - 1] > value:
            low[k] = low[k - 1]
            at[k] = at[k - 1]
            k -= 1
        low[k] = value
        at[k] = best[1][f]
        kept = min(kept + 1, most)
    return kept


@compiled
def cheapest_mix(low: Floats, kept: int, q: float) -> tuple[float, int, float]:
    """Return (price of the demand, domains used, most load on each) that keeps q of it.

    Without a mix that keeps so much it is the cheapest domain alone, a bound all the same.
    """
    if q <= 0.0:
        return low[0], 1, 1.0
    found, m_best, cap = np.inf, 1, 1.0
    so_far = low[0]
    for m in range(2, kept + 1):
        so_far += low[m - 1]
        if q * m >= m - 1 - 1e-12:
            value = so_far * q / (m - 1)
            if value < found:
                found, m_best, cap = value, m, q / (m - 1)
    if kept * (1.0 - q) >= 1.0 - 1e-12:
        value, left, m = 0.0, 1.0, 0
        while left > 1e-12 and m < kept:
            part = min(left, 1.0 - q)
            value += part * low[m]
            left -= part
            m += 1
        if value < found:
            found, m_best, cap = value, m, 1.0 - q
    return (found, m_best, cap) if found < np.inf else (low[0], 1, 1.0)


@compiled
def domains_needed(q: float) -> int:
    """Return how many domains a mix that keeps q of the demand may use."""
    if q <= 0.0:
        return 1
    least = int(np.ceil(1.0 / (1.0 - q) - 1e-9)) if q < 1.0 else DOMAINS_USED_MAX
    return max(2, min(least, DOMAINS_USED_MAX))


@compiled
def respond(
    part: tuple[int, int, int],
    ranges: tuple[Ints, Ints, Ints, Ints],
    rates: tuple[Floats, Floats, Floats],
    told: tuple[tuple[Floats, Floats, Floats], tuple[Floats, Floats, Floats]],
    blur: tuple[Floats, float, int, Floats, float],
    found: tuple[Floats, Floats, Floats, Floats],
) -> float:
    """Fill usage per pool, spot excess and cost per deployment; return the sum of the costs.

    `part` is (first deployment, last, most domains of any), `ranges` (first, pool, domain, spot),
    `told` (wants, prices), `blur` (noise, its share, its shift, average use, its weight). Infinite
    costs never occur: a deployment without a column costs nothing here.
    """
    _, pool, _, spot = ranges
    (demand, keep, spot_max), prices = told
    noise, sigma, shift, share, weight = blur
    used_accelerators, used_memory, excess, costs = found
    used_accelerators[:] = 0.0
    used_memory[:] = 0.0
    best = np.empty(part[2]), np.empty(part[2], np.int64)
    low = np.empty(DOMAINS_USED_MAX + 2)
    at = np.empty(DOMAINS_USED_MAX + 2, np.int64)
    total = 0.0
    for d in range(part[0], part[1]):
        costs[d] = 0.0
        excess[d] = 0.0
        if ranges[0][d] == ranges[0][d + 1] or demand[d] <= 0.0:
            continue
        q = keep[d]
        asked = prices, spot_max[d], q > 0.0
        domains = best_by_domain(d, ranges, rates, asked, (noise, sigma, shift), best)
        kept = keep_lowest(best, domains, domains_needed(q), low, at)
        answer, used, cap = cheapest_mix(low, kept, q)
        costs[d] = answer * demand[d]
        total += costs[d]
        left = 1.0 if (q <= 0.0 or used == 1 or cap == 1.0 - q) else used * cap
        for k in range(used):
            c, load = at[k], min(left, cap)
            left -= load
            amount = load * demand[d]
            if weight > 0.0:
                share[c] += weight * amount
            used_accelerators[pool[c]] += amount * rates[1][c]
            used_memory[pool[c]] += amount * rates[2][c]
            excess[d] += load * ((1.0 - spot_max[d]) if spot[c] == 1 else -spot_max[d])
    return total


@dataclass(slots=True, kw_only=True)
class Averaging:
    """How an evaluation is blurred and summed: noise on unit prices, a weight for the average.

    Noise makes near equals answer differently, so that thousands of deployments do not all turn to
    the same pool at once; a bound is taken without it only.
    """

    share: Floats
    noise: Floats
    weight: float = 0.0
    sigma: float = 0.0
    shift: int = 0


NOISE_LENGTH = 65_537
NOISE_SEED = 11


# From so many columns on two threads share the work: compiled code runs beside the interpreter.
# Always two halves there, whatever the machine has, so that sums are added up in one order.
SHARED_COLUMNS_MIN = 50_000


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="prices")


def evaluate_dual(
    instance: Instance,
    rates: Rates,
    wants: tuple[Floats, Floats, Floats],
    prices: Prices,
    averaging: Averaging | None = None,
) -> tuple[float, Floats, Floats, Floats, Floats]:
    """Return (bound, used accelerators, used memory, spot excess, cost by deployment)."""
    pools, deployments, columns = instance.size
    how = averaging or Averaging(share=np.zeros(1), noise=np.zeros(1))
    excess, costs = np.empty(deployments), np.empty(deployments)
    middle = int(np.searchsorted(instance.first, columns // 2))
    halves = [(0, middle), (middle, deployments)]
    if columns < SHARED_COLUMNS_MIN:
        halves = [(0, deployments)]

    def answer(half: tuple[int, int]) -> tuple[float, Floats, Floats]:
        used = np.empty(pools), np.empty(pools)
        total = respond(
            (*half, instance.domains_max),
            (instance.first, instance.columns.pool, instance.domain, instance.columns.spot),
            (rates.dollars, rates.accelerators, rates.memory),
            (wants, (prices.accelerator, prices.memory, prices.spot)),
            (how.noise, how.sigma, how.shift, how.share, how.weight),
            (*used, excess, costs),
        )
        return total, *used

    answers = list(map(answer, halves) if len(halves) == 1 else _threads().map(answer, halves))
    total = sum(found[0] for found in answers)
    used_accelerators = np.add.reduce([found[1] for found in answers])
    used_memory = np.add.reduce([found[2] for found in answers])
    owed = float((prices.accelerator * instance.pools.capacity).sum())
    owed += float((prices.memory * instance.pools.memory).sum())
    return total - owed, used_accelerators, used_memory, excess, costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """Steps of an ascent: their number, the first's length over the typical price, noise at first.

    Steps shrink by `fall` in all; noise shrinks to SIGMA_LAST over SMOOTHED of the steps.
    """

    steps: int
    reach: float
    sigma: float
    fall: float


SIGMA_LAST = 0.003
SMOOTHED = 0.7


def ascend(
    instance: Instance,
    wants: tuple[Floats, Floats, Floats],
    start: Prices | None,
    climb: Climb,
) -> Ascent:
    """Return the best prices found from `start`, by normalised subgradient steps.

    The subgradient is divided by its running root mean square, never clipped: clipping left the
    bound 4 % low for ever.
    """
    rates = rates_of(instance)
    at = start or no_prices(instance)
    scales = (*_typical(instance), _unit_cost(instance, rates))
    spot_price_max = _spot_price_max(instance, rates)
    rows = tuple(np.zeros((2, len(scale))) for scale in scales)
    averaging = Averaging(
        share=np.zeros(instance.size[2]),
        noise=np.random.default_rng(NOISE_SEED).normal(size=NOISE_LENGTH),
    )
    best: Ascent | None = None
    price = (at.accelerator.copy(), at.memory.copy(), np.minimum(at.spot, spot_price_max))
    for step in range(climb.steps):
        through = step / max(1, climb.steps - 1)
        noisy = climb.sigma > 0.0 and through < SMOOTHED
        averaging.sigma = (
            climb.sigma * (SIGMA_LAST / climb.sigma) ** (through / SMOOTHED) if noisy else 0.0
        )
        averaging.shift = 7919 * step
        averaging.weight = 1.0 / (climb.steps - climb.steps // 2) if 2 * step >= climb.steps else 0
        prices = Prices(accelerator=price[0].copy(), memory=price[1].copy(), spot=price[2].copy())
        bound, *slopes, costs = evaluate_dual(instance, rates, wants, prices, averaging)
        if best is None or (not noisy and bound > best.bound):
            proven = -np.inf if noisy else bound
            best = Ascent(
                prices=prices, bound=proven, cost_by_deployment=costs, share=averaging.share
            )
        slopes[0] = slopes[0] / np.maximum(instance.pools.capacity, 1.0) - 1.0
        slopes[1] = slopes[1] / np.maximum(instance.pools.memory, 1.0) - 1.0
        length = climb.reach * climb.fall**-through
        for value, slope, scale, row in zip(price, slopes, scales, rows, strict=True):
            _step(value, slope, scale * length, row, step)
        np.minimum(price[2], spot_price_max, out=price[2])
    assert best is not None
    return best


def _step(price: Floats, slope: Floats, length: Floats, row: Floats, step: int) -> None:
    """Move the prices by a smoothed slope over its root mean square; none falls below zero."""
    row[0] = 0.9 * row[0] + 0.1 * slope * slope
    row[1] = 0.6 * row[1] + 0.4 * slope
    root = np.sqrt(row[0] / (1.0 - 0.9 ** (step + 1)))
    price += length * row[1] / np.maximum(root, 1e-3)
    np.maximum(price, 0.0, out=price)


def _typical(instance: Instance) -> tuple[Floats, Floats]:
    """Return the scale of each pool's prices: what an accelerator, and a byte, is worth there.

    That is what those who may use the pool pay on the average, not its own price: reserved capacity
    costs next to nothing and is worth what is paid elsewhere.
    """
    price = typical_prices(instance)
    per_byte = price * instance.pools.per_node / np.maximum(instance.pools.node_memory, 1.0)
    return price, 0.3 * per_byte


def typical_prices(instance: Instance) -> Floats:
    """Return what an accelerator of each pool is worth to those who may use it, in $/h."""
    columns, (pools, deployments, _) = instance.columns, instance.size
    own = (columns.price + columns.move_price) / columns.accelerators
    number = np.maximum(1, np.bincount(columns.deployment, minlength=deployments))
    paid = np.bincount(columns.deployment, own, minlength=deployments) / number
    worth = np.bincount(
        columns.pool, np.maximum(own, paid[columns.deployment]), minlength=pools
    ) / np.maximum(1, np.bincount(columns.pool, minlength=pools))
    return np.maximum(worth, 1e-6)


def _spot_price_max(instance: Instance, rates: Rates) -> Floats:
    """Return how dear spot may be: beyond it what is not spot would be paid for being used.

    Demand may be overserved, so a negative price has no cheapest answer and proves nothing.
    """
    cheapest = np.full(instance.size[1], np.inf)
    steady = instance.columns.spot == 0
    np.minimum.at(cheapest, instance.columns.deployment[steady], rates.dollars[steady])
    cap = instance.deployments.spot_max
    return np.where((cap < 1.0) & np.isfinite(cheapest), cheapest / np.maximum(cap, 1e-9), 0.0)


def _unit_cost(instance: Instance, rates: Rates) -> Floats:
    """Return a typical cost of a unit of throughput of each deployment."""
    of, deployments = instance.columns.deployment, instance.size[1]
    number = np.maximum(np.bincount(of, minlength=deployments), 1)
    return 0.5 * np.bincount(of, rates.dollars, minlength=deployments) / number
