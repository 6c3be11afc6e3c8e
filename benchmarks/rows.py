"""One row of the scheduler's benchmark, in a process of its own: `python -m benchmarks.rows JOB`.

`bench_scheduler` starts it with a job as JSON and reads the row from the last line printed. Imports
and compilation come before the clock starts; plans are judged after it and the memory are read.
"""

import gc
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks import full_model
from benchmarks.baselines import best_fit, greedy
from benchmarks.judge import Verdict, changed, counts_of, first_speeds, judge
from benchmarks.placement_instances import (
    TINY,
    TINY_WIDE,
    Values,
    arrays_of,
    describe,
    problem_of,
    values_of,
)
from scheduler.compiled import Floats, Ints
from scheduler.plan import LevelValue, PlacementPlan, diff
from scheduler.problem import PlacementProblem
from scheduler.session import Session, without

Result = TypeVar("Result")
Row = dict[str, Any]

DRIFT = 0.01  # every demand changes by up to so much
FEW_SHARE, FEW_GROWTH = 0.01, 1.2  # so many deployments want so much more
# What a start costs where something runs; files say nothing of it, so it is what fleets default to.
MOVE_DOLLARS = 0.01
LP_COLUMNS_MAX = 30_000  # GLOP takes seconds up to here, and minutes at 700,000
FULL_MODEL_BYTES_MAX = 4 * 2**30
PROVEN = 1e-6
# A fleet of the exact path, and none that is measured: some compiled code runs only there.
EXACT_SIZE, EXACT_SEED = "10x50", "9"
# The bound of whole replicas takes a tenth of a second a deployment: where it tells most.
CERTIFIED_SIZES = ("100x500",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A plan, how long it took, and for which values it is."""

    plan: PlacementPlan
    seconds: float
    values: Values


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result and the seconds it took, without garbage collection.

    The solver's process collects between questions, never while it answers one.
    """
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - began
    gc.enable()
    return result, seconds


def peak_mb() -> float:
    """Return the most memory this program had resident; what ran before `exec` is not counted."""
    told = Path("/proc/self/status")
    if told.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", told.read_text())):
        return round(int(found.group(1)) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def warm_up(*, thorough: bool) -> float:
    """Solve small fleets every way; return how long loading and compiling took with it."""
    began = time.perf_counter()
    Session().solve(problem_of(values_of(EXACT_SIZE, EXACT_SEED)))
    for size in (TINY, TINY_WIDE):
        values = describe(size, 1)
        problem, session = problem_of(values), Session()
        plan = session.solve(problem)
        again = session.solve(replace(problem, current=plan.placements))
        session.repair(again, lost=(problem.pools[0].name,))
        if thorough:
            session.refine()
            greedy(arrays_of(values))
    return time.perf_counter() - began


def drifted(demand: Floats) -> Floats:
    """Return every demand changed by up to DRIFT."""
    chance = np.random.default_rng(5)
    return np.asarray(np.round(demand * chance.uniform(1 - DRIFT, 1 + DRIFT, len(demand)), 4))


def few_grown(demand: Floats) -> Floats:
    """Return the demands with a few grown much."""
    count = max(1, round(FEW_SHARE * len(demand)))
    grown = demand.copy()
    grown[np.random.default_rng(6).choice(len(demand), count, replace=False)] *= FEW_GROWTH
    return np.asarray(np.round(grown, 4))


def skerry_row(size: str, seed: str, *, certify: bool) -> Row:
    """Return the row of our scheduler: cold, refined, warm, and after the loss of a plane."""
    load_s = warm_up(thorough=False)
    values = values_of(size, seed)
    problem = problem_of(values)
    machine_load = round(os.getloadavg()[0], 2)
    session = Session()
    cold = _solved(session, problem, values)
    row: Row = {
        "cold_s": round(cold.seconds, 4),
        "peak_cold_mb": peak_mb(),
        "load_s": round(load_s, 2),
        "machine_load": machine_load,
    }
    plans = [("cold", cold)]
    refined, seconds = timed(session.refine)
    plans.append(("refined", Timed(plan=refined, seconds=seconds, values=values)))
    row.update(_refined(cold.plan, refined, seconds))
    del session
    plans += _afterwards(cold, problem, row)
    if certify and size in CERTIFIED_SIZES:
        # Last: it takes memory that planning does not.
        row.update(_certified(problem, cold.plan))
    row.update(_levels(cold.plan))
    return _judged(values, plans, row)


def _afterwards(cold: Timed, problem: PlacementProblem, row: Row) -> list[tuple[str, Timed]]:
    """Return the plans of a second session: cold once more, warm twice, and after a loss."""
    session = Session()
    again = _solved(session, problem, cold.values)
    row["cold_again_s"] = round(again.seconds, 4)
    row["same_again"] = again.plan == cold.plan
    warm = _warm(session, problem, cold, row)
    return [*warm, *_lost(session, warm[-1][1], row)]


def _solved(session: Session, problem: PlacementProblem, values: Values) -> Timed:
    plan, seconds = timed(lambda: session.solve(problem))
    return Timed(plan=plan, seconds=seconds, values=values)


def _level(plan: PlacementPlan, name: str) -> LevelValue:
    return next(level for level in plan.levels if level.level == name)


def _gap(plan: PlacementPlan, bound: float | None = None) -> float | None:
    cost = _level(plan, "cost")
    bound = cost.bound if bound is None else bound
    return round(cost.value / bound - 1.0, 6) if bound > 0.0 else None


def _refined(cold: PlacementPlan, refined: PlacementPlan, seconds: float) -> Row:
    """Return the figures of refining; its sharper bound judges the cold plan of the same set."""
    before, after = ([v.value for v in plan.levels[:5]] for plan in (cold, refined))
    same = all(abs(a - b) <= PROVEN for a, b in zip(before, after, strict=True))
    sharpest = max(_level(cold, "cost").bound, _level(refined, "cost").bound)
    return {
        "refine_s": round(seconds, 3),
        "refined_gap": _gap(refined),
        "refined_cost": _level(refined, "cost").value,
        "refined_bound": _level(refined, "cost").bound,
        "refined_optimal": refined.optimal,
        "refined_served_set_proven": _is_proven(refined),
        "integer_gap": _gap(cold, sharpest) if same else None,
    }


def _certified(problem: PlacementProblem, cold: PlacementPlan) -> Row:
    """Return how far the plan, cold and refined, is above the bound of whole replicas."""
    session = Session()
    session.solve(problem)
    session.refine()
    certified, seconds = timed(session.certify)
    bound = _level(certified, "cost").bound
    before, after = ([v.value for v in plan.levels[:5]] for plan in (cold, certified))
    same = all(abs(a - b) <= PROVEN for a, b in zip(before, after, strict=True))
    return {
        "certify_s": round(seconds, 1),
        "integer_bound": bound,
        "integer_gap": _gap(cold, bound) if same else None,
        "refined_integer_gap": _gap(certified),
    }


def _is_proven(plan: PlacementPlan) -> bool:
    before = [v for v in plan.levels if v.level.startswith("unmet-") or v.level == "survival"]
    return all(level.value <= level.bound + PROVEN for level in before)


def _levels(plan: PlacementPlan) -> Row:
    cost, unmet = _level(plan, "cost"), [v for v in plan.levels if v.level.startswith("unmet-")]
    return {
        "solver": plan.solver,
        "gap": _gap(plan),
        "bound": cost.bound,
        "optimal": plan.optimal,
        "served_set_proven": _is_proven(plan),
        "unmet_bound": round(sum(level.bound for level in unmet), 6),
        "survival_bound": _level(plan, "survival").bound,
    }


def _changed(problem: PlacementProblem, demand: Floats, plan: PlacementPlan) -> PlacementProblem:
    """Return the problem with other demands, and with the plan running."""
    told = zip(problem.demands, demand.tolist(), strict=True)
    demands = tuple(replace(wanted, tokens_per_second=amount) for wanted, amount in told)
    return replace(
        problem, demands=demands, current=plan.placements, move_cost_dollars=MOVE_DOLLARS
    )


def _warm(
    session: Session, problem: PlacementProblem, cold: Timed, row: Row
) -> list[tuple[str, Timed]]:
    """Change every demand a little, then a few much; each starts from the plan before it."""
    demand = np.array([d["demand"] for d in cold.values["deployments"]])
    plans: list[tuple[str, Timed]] = []
    before = cold.plan
    for name, change in (("", drifted), ("_few", few_grown)):
        demand = change(demand)
        asked = _changed(problem, demand, before)
        warm = _solved(session, asked, changed(cold.values, demand))
        change_of_plan = diff(warm.plan, before.placements)
        row[f"warm{name}_s"] = round(warm.seconds, 4)
        row[f"moves{name}"] = sum(move.count for move in change_of_plan.move)
        row[f"warm{name}_gap"] = _gap(warm.plan)
        plans.append((f"warm{name}", warm))
        before = warm.plan
    return plans


def _lost(session: Session, running: Timed, row: Row) -> list[tuple[str, Timed]]:
    """Lose the plane that holds the most accelerators in use."""
    values = running.values
    instance = arrays_of(values)
    counts, _ = counts_of(instance, running.plan.placements)
    used = np.bincount(
        instance.pools.plane[instance.columns.pool], counts * instance.columns.accelerators
    )
    plane = int(used.argmax())
    gone = [pool["id"] for pool in values["pools"] if pool["plane"] == plane]
    names = tuple(f"plane-{plane:04d}--pool-{number:05d}" for number in gone)
    repaired, seconds = timed(lambda: session.repair(running.plan, lost=names))
    after, _ = counts_of(instance, repaired.placements)
    healthy = ~np.isin(instance.columns.pool, gone)
    stopped = np.maximum(0, counts - after)[healthy].sum()
    cost = running.plan.cost_per_hour
    row["repair_ms"] = round(1000 * seconds, 1)
    row["repair_healthy_moved_share"] = round(float(stopped / counts[healthy].sum()), 6)
    row["repair_cost_increase"] = round(repaired.cost_per_hour / cost - 1.0, 6)
    rest = changed(values, lost=gone)
    plans = [("repair", Timed(plan=repaired, seconds=seconds, values=rest))]
    refined, refine_seconds = timed(session.refine)
    row["repair_refine_s"] = round(refine_seconds, 3)
    row["repair_refined_cost_increase"] = round(refined.cost_per_hour / cost - 1.0, 6)
    plans.append(("repair_refined", Timed(plan=refined, seconds=refine_seconds, values=rest)))
    row["peak_mb"] = peak_mb()
    # What the fleet that is left must cost, by a solve of its own that nobody waits for.
    new = Session().solve(without(problem_of(values), running.plan, names))
    row["repair_gap"] = _gap_as_good(repaired, new)
    row["repair_refined_gap"] = _gap_as_good(refined, new)
    return plans


def _gap_as_good(plan: PlacementPlan, other: PlacementPlan) -> float | None:
    """Return the gap over the other's bound; none where it serves or survives less or more."""
    mine, its = ([v.value for v in found.levels[:5]] for found in (plan, other))
    same = all(abs(a - b) <= PROVEN for a, b in zip(mine, its, strict=True))
    return _gap(plan, _level(other, "cost").bound) if same else None


def _judged(values: Values, plans: list[tuple[str, Timed]], row: Row) -> Row:
    found: list[str] = []
    for name, made in plans:
        counts, strange = counts_of(arrays_of(made.values), made.plan.placements)
        verdict = judge(made.values, counts)
        wrong = [*strange, *verdict.faults, *_lies(made.plan, verdict)]
        found += [f"{name}: {fault}" for fault in wrong]
        row[f"{name}_unmet"] = round(sum(verdict.unmet), 6)
        if name == "cold":
            row.update(_told(verdict))
            row.update(_lp(values, verdict))
    return {**row, "faults": found}


def _lies(plan: PlacementPlan, verdict: Verdict) -> list[str]:
    """Return where a plan says another figure of itself than it is judged to have."""
    told = [level.value for level in plan.levels[:5]]
    judged = [*verdict.unmet, verdict.survival]
    lies = [
        f"tells {level.level} {a:g}, is {b:g}"
        for level, a, b in zip(plan.levels, told, judged, strict=False)
        if abs(a - b) > 1e-3 * max(1.0, b)
    ]
    if abs(plan.cost_per_hour - verdict.cost) > 1e-6 * max(1.0, verdict.cost):
        lies.append(f"tells ${plan.cost_per_hour:.4f}/h, is ${verdict.cost:.4f}/h")
    return lies


def _told(verdict: Verdict) -> Row:
    return {
        "unmet": round(sum(verdict.unmet), 6),
        "unmet_by_class": [round(value, 6) for value in verdict.unmet],
        "survival": round(verdict.survival, 4),
        "cost": round(verdict.cost, 4),
        "replicas": verdict.replicas,
        "short": [[d, unmet, missing] for d, unmet, missing in verdict.short],
    }


def _lp(values: Values, verdict: Verdict) -> Row:
    instance = arrays_of(values)
    facts = {
        "accelerators": int(instance.pools.capacity.sum()),
        "columns": instance.size[2],
    }
    if instance.size[2] > LP_COLUMNS_MAX:
        return facts
    bound = full_model.lp_bound(instance, verdict, first_speeds(values))
    gap = round(verdict.cost / bound - 1.0, 6) if bound else None
    return {**facts, "lp_bound": bound, "lp_gap": gap}


def baseline_row(size: str, seed: str, method: str, known: Row) -> Row:
    """Return the row of greedy or best fit; warm is the same from nothing for changed demands."""
    place = {"greedy": greedy, "best_fit": best_fit}[method]
    place(arrays_of(describe(TINY, 1)))
    values = values_of(size, seed)
    instance = arrays_of(values)
    placed, cold_s = timed(lambda: place(instance))
    peak = peak_mb()
    other = arrays_of(changed(values, drifted(instance.deployments.demand)))
    again, warm_s = timed(lambda: place(other))
    verdict = judge(values, placed.counts, placed.nodes)
    moved = _moves(instance.columns.deployment, placed.counts, again.counts)
    return {
        "cold_s": round(cold_s, 4),
        "warm_s": round(warm_s, 4),
        "moves": moved,
        "peak_mb": peak,
        **_told(verdict),
        **_against(verdict, known),
    }


def _moves(deployment: Ints, before: Ints, after: Ints) -> int:
    started = np.bincount(deployment, np.maximum(0, after - before))
    stopped = np.bincount(deployment, np.maximum(0, before - after))
    return int(np.minimum(started, stopped).sum())


def _verdict(known: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a row's plan; of no row: all is served."""
    return Verdict(
        faults=(),
        unmet=tuple(known.get("unmet_by_class", (0.0,) * 4)),
        survival=known.get("survival", 0.0),
        cost=known.get("cost", 0.0),
        replicas=known.get("replicas", 0),
        short=tuple((d, unmet, missing) for d, unmet, missing in known.get("short", ())),
    )


def _against(verdict: Verdict, known: Row) -> Row:
    """Return the cost over the certified bound; a gap only for plans that are as good before it."""
    bound = known.get("bound")
    ratio = round(verdict.cost / bound - 1.0, 6) if bound else None
    meaningful = not verdict.faults and verdict.is_as_good(_verdict(known))
    return {
        # As much as what our certificate says can be served.
        "served_set_proven": meaningful and bool(known.get("served_set_proven")),
        "cost_over_bound": ratio,
        "gap": ratio if meaningful else None,
        "faults": list(verdict.faults),
    }


def full_model_row(size: str, seed: str, known: Row) -> Row:
    """Return the row of plain CP-SAT; null where it found no plan in its time and memory."""
    resource.setrlimit(resource.RLIMIT_AS, (FULL_MODEL_BYTES_MAX, FULL_MODEL_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    values = values_of(size, seed)
    instance, first = arrays_of(values), first_speeds(values)
    began = time.perf_counter()
    try:
        found = full_model.search(instance, _verdict(known), first)
    except MemoryError:
        found = full_model.Found(status="OUT_OF_MEMORY", counts=None, bound=None)
    cold_s = time.perf_counter() - began
    row: Row = {
        "cold_s": round(cold_s, 3),
        "peak_mb": peak_mb(),
        "status": found.status,
        "own_bound": found.bound,
    }
    if found.counts is None:
        return row
    verdict = judge(values, found.counts)
    return {**row, **_told(verdict), **_against(verdict, known)}


def main(job: Mapping[str, Any]) -> None:
    """Print the row of a job."""
    method, known = job["method"], job.get("known") or {}
    if method == "warm_up":
        row: Row = {"compile_s": round(warm_up(thorough=True), 1)}
    elif method == "skerry":
        row = skerry_row(job["size"], job["seed"], certify=job["certify"])
    elif method == "cp_sat_full":
        row = full_model_row(job["size"], job["seed"], known)
    else:
        row = baseline_row(job["size"], job["seed"], method, known)
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
