"""The objective, level by level: each is fixed before the next, never one weighted sum.

Integers here are what the solver minimises; `as_values` turns them into figures with units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.grid import MICRODOLLARS, Counts, Grid, Want
from scheduler.plan import LevelValue
from skerry.fleet.deployment import PRIORITY_CLASSES

DIGITS = 6  # a microdollar; weights that don't divide evenly leave dust below it
# One deployment wholly unserved; a demand of 100,000 replicas in 1/TOKENS_SCALE still divides it
# with an error of a percent, and the sums of 1,000 such deployments stay exact in a float.
WHOLE_DEPLOYMENT = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level's name, the unit of its figure, and how many of the solver's units make one."""

    name: str
    unit: str
    scale: int


def levels_of(grid: Grid) -> tuple[Level, ...]:
    """Return the levels in their order; the first ones are what `optimal` speaks of."""
    unmet = tuple(
        Level(name=f"unmet-class-{number}", unit="deployments", scale=WHOLE_DEPLOYMENT)
        for number in range(PRIORITY_CLASSES)
    )
    return (
        *unmet,
        Level(name="survival", unit="replicas", scale=survival_scale(grid)),
        Level(name="cost", unit="USD/h", scale=MICRODOLLARS),
        Level(name="starts", unit="replicas", scale=starts_weight(grid)),
        Level(name="fragmentation", unit="placements", scale=1),
    )


SURVIVAL = PRIORITY_CLASSES
COST = SURVIVAL + 1
# Above these the order of equals: proof there costs time and changes nothing an operator pays for.
PROOF_LEVELS = COST + 1
LEVELS = COST + 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which levels are searched, in a range; those before it have these `bounds` and stay.

    `is_part` says that the grid is only of those who compete.
    """

    first: int = 0
    end: int = LEVELS
    bounds: tuple[int, ...] = ()
    is_part: bool = False


EVERYTHING = Scope()


def evaluate(grid: Grid, counts: Counts) -> tuple[int, ...]:
    """Return every level's value in the solver's units."""
    unmet = [0] * PRIORITY_CLASSES
    survival, scale = 0, survival_scale(grid)
    for want in grid.wants:
        unmet[want.priority] += unmet_weight(want) * unmet_of(grid, want, counts)
        survival += survival_of(grid, want, counts) * (scale // want.scale)
        survival += spread_shortfall(want, counts) * scale
    columns = list(zip(grid.columns, counts, strict=True))
    started = sum(max(0, count - column.current) for column, count in columns)
    cost = sum(column.cost_microdollars * count for column, count in columns)
    return (
        *unmet,
        survival,
        cost + grid.move_microdollars * started,
        started * starts_weight(grid) + sum(counts),
        sum(1 for count in counts if count),
    )


def as_values(grid: Grid, values: Sequence[int], bounds: Sequence[int]) -> tuple[LevelValue, ...]:
    """Return the levels as figures with units."""
    figures = []
    for level, value, bound in zip(levels_of(grid), values, bounds, strict=True):
        whole = level.name == "starts"  # below one start its units only order equals
        figures.append(
            LevelValue(
                level=level.name,
                value=float(value // level.scale) if whole else round(value / level.scale, DIGITS),
                bound=float(bound // level.scale) if whole else round(bound / level.scale, DIGITS),
                unit=level.unit,
            )
        )
    return tuple(figures)


def served_by(grid: Grid, columns: Sequence[int], counts: Sequence[int]) -> int:
    """Return what these columns serve, in the deployment's 1/scale of a replica."""
    return sum(grid.columns[i].throughput * counts[i] for i in columns)


def unmet_of(grid: Grid, want: Want, counts: Sequence[int]) -> int:
    """Return the demand left, in 1/scale of a replica."""
    return max(0, want.demand - served_by(grid, want.columns, counts))


def survival_of(grid: Grid, want: Want, counts: Sequence[int]) -> int:
    """Return the shortfall summed over the loss of each domain, in 1/scale of a replica."""
    missing = want.kept_demand - served_by(grid, want.columns, counts)
    return sum(max(0, missing + served_by(grid, lost, counts)) for lost in want.domains.values())


def loss_shortfall(grid: Grid, want: Want, lost: Sequence[int], counts: Sequence[int]) -> int:
    """Return what is missing of the promised part once the columns of one domain are lost."""
    left = served_by(grid, want.columns, counts) - served_by(grid, lost, counts)
    return max(0, want.kept_demand - left)


def spread_shortfall(want: Want, counts: Sequence[int]) -> int:
    """Return how many domains fewer than wanted hold a replica."""
    held = sum(1 for columns in want.spread_domains.values() if any(counts[i] for i in columns))
    return max(0, want.domains_min - held)


def moves_of(grid: Grid, want: Want, counts: Sequence[int]) -> int:
    """Return how many healthy replicas are stopped while as many others are started."""
    pairs = [(counts[i], grid.columns[i].current) for i in want.columns]
    started = sum(max(0, count - runs) for count, runs in pairs)
    stopped = sum(max(0, runs - count) for count, runs in pairs)
    return min(started, stopped)


def unmet_weight(want: Want) -> int:
    """Return the weight of 1/scale of a replica: a deployment wholly unmet counts as one."""
    return max(1, WHOLE_DEPLOYMENT // max(1, want.demand))


def survival_scale(grid: Grid) -> int:
    """Return the solver's units in one replica of survival shortfall."""
    return max((want.scale for want in grid.wants), default=1)


def survival_weight(grid: Grid, want: Want) -> int:
    """Return the weight of 1/scale of a replica in the survival level."""
    return survival_scale(grid) // want.scale


def starts_weight(grid: Grid) -> int:
    """Return the weight of one start: more than all replicas, which order equals below it.

    Fewest starts, then fewest replicas, makes a plan that was applied its own only optimum.
    """
    return 1 + sum(column.count_max for column in grid.columns)


def floors(grid: Grid) -> tuple[int, ...]:
    """Return a bound for each level that needs no solver: a level that meets it is done."""
    unmet = [0] * PRIORITY_CLASSES
    survival, scale = 0, survival_scale(grid)
    most = tuple(column.count_max for column in grid.columns)
    for want in grid.wants:
        unmet[want.priority] += unmet_weight(want) * unmet_of(grid, want, most)
        if len(want.domains) == 1:  # losing the only domain loses everything
            survival += want.kept_demand * (scale // want.scale)
        survival += spread_shortfall(want, most) * scale
    return (*unmet, survival, 0, 0, 0)
