"""Who is compared in the autoscaling benchmark, on which fleet and days, and what is tuned.

Every policy has one setting for all days: the largest of `SETTINGS` with which it meets the
objective on the tuning day, or the smallest where none does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.autoscaling import days
from skerry.fleet.autoscaling.factors import ScalingFactors
from skerry.replay.arrivals import Arrivals
from skerry.replay.catalogue import LOCAL, POLICIES, POOLED, REFERENCE, Wanted
from skerry.replay.hindsight import pooled_hindsight, static_hindsight
from skerry.replay.policies import Away, TwoLevel
from skerry.replay.world import FleetModel, Outcome, RegionFleet, run

OBJECTIVE = 0.99
# What a published rule is to fill its replicas to. 0.7 is Baseten's and Knative's own.
SETTINGS = (0.9, 0.7, 0.5, 0.35)
OWN_SETTING = 0.7  # Skerry's strategies follow the objective from there
PRICES = {"asia": 11.0, "eu": 10.0, "us": 9.0}  # dollars a replica-hour
CEILING = 40
SPILL_AT = 6
BATCH = 8
HOUR_SECONDS = 3_600.0
AWAY = Away(12 * HOUR_SECONDS, 13 * HOUR_SECONDS)
ALONE = "two levels, an hour without control plane"
SPILLED = " + spillover"

TUNING_DAY, TUNING_HOURS = "m-mid day 1", 6.0
DAYS: Mapping[str, Callable[[Path], Arrivals]] = {
    TUNING_DAY: lambda traces: days.mid(traces, 0),
    "m-large": days.mlarge,
    "m-mid day 2": lambda traces: days.mid(traces, 1),
    "m-mid day 3": lambda traces: days.mid(traces, 2),
    "m-mid day 4": lambda traces: days.mid(traces, 3),
    "Azure 2023 code": lambda traces: days.short(traces, "azure2023_code"),
    "Azure 2023 conversation": lambda traces: days.short(traces, "azure2023_conv"),
    "Mooncake conversation": lambda traces: days.short(traces, "mooncake_conversation"),
}
BOUNDS: Mapping[str, Callable[[Arrivals], Outcome]] = {
    "hindsight, pooled": lambda one: pooled_hindsight(fleet(True), one, OBJECTIVE),
    "static, by hindsight": lambda one: static_hindsight(fleet(False), one, OBJECTIVE, False),
    "static + spillover, by hindsight": lambda one: static_hindsight(
        fleet(True), one, OBJECTIVE, True
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One policy, whether requests spill over, and whether it is another's published rule."""

    name: str
    spills: bool
    published: bool

    @property
    def settings(self) -> tuple[float, ...]:
        """Return what may be tuned of it."""
        return SETTINGS if self.published else (OWN_SETTING,)


def _entries() -> tuple[Entry, ...]:
    own = (POOLED, LOCAL)
    silos = tuple(
        Entry(name=name, spills=False, published=name not in own)
        for name in reversed(list(POLICIES))
        if name != POOLED
    )
    return (
        *silos,
        Entry(name=f"Dynamo-like{SPILLED}", spills=True, published=True),
        Entry(name=f"{LOCAL}{SPILLED}", spills=True, published=False),
        Entry(name=POOLED, spills=True, published=False),
        Entry(name=ALONE, spills=True, published=False),
    )


ENTRIES = _entries()


def fleet(spills: bool) -> FleetModel:
    """Return the three regions, with or without spillover."""
    return FleetModel(
        regions=tuple(
            RegionFleet(name=name, floor=1, ceiling=CEILING, price_per_hour=price)
            for name, price in PRICES.items()
        ),
        coefficients=REFERENCE,
        batch=BATCH,
        spill_at=SPILL_AT if spills else 0,
    )


def replay(entry: Entry, arrivals: Arrivals, setting: float, request_seconds: float) -> Outcome:
    """Replay a trace under one policy, two replicas ready in each region at its beginning."""
    world = fleet(entry.spills)
    factors = ScalingFactors(
        min_replicas=len(PRICES),
        max_replicas=len(PRICES) * CEILING,
        concurrency_target=float(BATCH),
        target_utilization=setting,
    )
    if entry.name == ALONE:
        policy = TwoLevel(world, factors, away=AWAY, name=ALONE)
    else:
        wanted = Wanted(fleet=world, factors=factors, request_seconds=request_seconds)
        policy = POLICIES[entry.name.removesuffix(SPILLED)](wanted)  # type: ignore[assignment]
    policy.name = entry.name
    return run(world, arrivals, policy, warm=[2] * len(world.regions))


def first_hours(arrivals: Arrivals, hours: float) -> Arrivals:
    """Return the beginning of a trace."""
    many = int((arrivals.at < hours * HOUR_SECONDS).sum())
    return replace(
        arrivals,
        at=arrivals.at[:many],
        region=arrivals.region[:many],
        prompt=arrivals.prompt[:many],
        output=arrivals.output[:many],
    )
