"""One seed from its beginning to its end: faults, calm, order (I14); and many of them.

`python -m tests.simulation.run` is `make sim`: many seeds on all cores, or one with its history.
The same seed does the same (I15), whatever process runs it.
"""

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from skerry.fleet.observation import PlaneState, Unknown
from skerry.fleet.rollout import Halt, Stage
from tests.simulation.breaches import Broken, fail
from tests.simulation.checkers import watch
from tests.simulation.faults import Faults
from tests.simulation.operators import Operators
from tests.simulation.world import World

SETTLE_SECONDS = 9.0
FAULTS_SECONDS = (18.0, 36.0)
LONG_FAULTS_SECONDS = 120.0
LONG_EVERY = 50  # one seed in so many breaks things for longer
CONVERGE_SECONDS = 60.0  # I14: in order by then
WAITS_SECONDS_MAX = 60.0  # a minute's budget of moves may be used up when the faults end
QUIET_SECONDS = 7.0  # and then nobody acts
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a seed came to."""

    seed: int
    broken: str
    trace: str
    events: int
    simulated: float
    converged: float
    tail: tuple[str, ...]


def run(seed: int, kinds: tuple[str, ...] = (), only: str = "") -> Result:
    """Run a world to its end, or to what broke; `kinds` of faults come on top of the seed's own.

    With `only`, nothing but that invariant is watched.
    """
    gc.disable()
    logging.disable(logging.CRITICAL)
    world = World(seed)
    broken, converged = "", 0.0
    try:
        converged = _live(world, kinds, only)
    except Broken as error:
        broken = str(error)
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
    return Result(
        seed=seed,
        broken=broken,
        trace=world.trace,
        events=world.timeline.events,
        simulated=world.now,
        converged=converged,
        tail=tuple(world.tail),
    )


def _live(world: World, kinds: tuple[str, ...], only: str = "") -> float:
    watch(world, only)
    _pass(world, SETTLE_SECONDS)
    long = world.seed % LONG_EVERY == 0
    seconds = LONG_FAULTS_SECONDS if long else world.random.uniform(*FAULTS_SECONDS)
    faults = Faults(world, end=world.now + seconds, kinds=kinds)
    faults.begin()
    operators = Operators(world, end=world.now + seconds, kinds=faults.kinds)
    operators.begin()
    _pass(world, seconds)
    faults.calm()
    if only not in ("", "I14"):
        return 0.0  # what was planted may keep order from returning
    operators.settle()
    world.note("calm", "faults are over")
    over = world.now + CONVERGE_SECONDS
    while not operators.is_settled:
        _pass(world, LOOK_SECONDS)
        if world.now > over:
            why = "it recovers" if world.leader else "nobody leads"
            fail(world, "I14", f"{CONVERGE_SECONDS:.0f} s after the faults {why}")
    return _converge(world)


def _converge(world: World) -> float:
    """Return how long it took until all was in order and stayed so, nobody acting (I14)."""
    began = last = world.now
    waits = 0.0  # as long as the budget of moves held some back
    done = (world.acts, len(world.store.journal))
    while True:
        _pass(world, LOOK_SECONDS)
        wrong = disorder(world)
        acted = (world.acts, len(world.store.journal))
        if wrong or acted != done:
            last, done = world.now, acted
        if world.leader and world.leader.reign and world.leader.reign.loop.held_back:
            waits = min(waits + LOOK_SECONDS, WAITS_SECONDS_MAX)
        if last - began > CONVERGE_SECONDS + waits:
            wrong = wrong or "all is in order, but somebody still acts"
            fail(world, "I14", f"{CONVERGE_SECONDS:.0f} s after the faults {wrong}")
        if world.now - last >= QUIET_SECONDS:
            return last - began


def _pass(world: World, seconds: float) -> None:
    step, until = world.timeline.step, world.now + seconds
    while step(until):
        if world.broken:
            raise Broken(world.broken)
    for control in world.controls.values():
        if control.failures:
            fail(world, "turn", f"{control.name} failed: {control.failures[0]!r}")


def disorder(world: World) -> str:
    """Say what is not as it should be; empty when all is in order."""
    rows = world.store.rows
    if world.leader is None:
        return "nobody leads"
    for name, condition in world.conditions().items():
        if condition.state is not PlaneState.CONNECTED:
            return f"{name} is {condition.state.value}: {condition.reason}"
    for stored in rows.deployments.values():
        name = stored.deployment.name
        if stored.deleting:
            return f"{name} is not deleted"
        serving = sum(len(plane.serving(name)) for plane in world.planes.values())
        placed = sum(p.count for p in rows.placements if p.deployment == name)
        least = stored.deployment.scaling.min_replicas  # a spread may take more
        if serving != placed or placed < least:
            return f"{serving} of {placed} replicas of {name} serve, at least {least} are wanted"
    for name, plane in world.planes.items():
        desired = rows.desired.get(name)
        if desired is None or plane.holder.version.generation != desired.version.generation:
            return f"{name} holds {plane.holder.version}, wanted {desired and desired.version}"
        if isinstance(plane.holder.state, Unknown):
            return f"{name} knows of no desired state"
        named = {assignment.deployment.name for assignment in plane.holder.state.assignments}
        if named != rows.deployments.keys():
            return f"{name} is told of {named}"
        if any(not r.is_serving for r in plane.replicas.values()):
            return f"{name} has replicas that do not serve"
    return unfinished(world)


def unfinished(world: World) -> str:
    """Say which rollout is not over, or who runs another revision than it ended at."""
    rows = world.store.rows
    for name, stored in rows.deployments.items():
        rollout = rows.rollouts.get(name)
        if rollout is None or rollout.stage not in (Stage.COMPLETE, Stage.ROLLED_BACK):
            return f"the rollout of {name} is at {rollout and rollout.state}: {rollout}"
        if rollout.revision != stored.deployment.revision.number:
            return f"the rollout of {name} is of revision {rollout.revision}"
        if rollout.halt is not Halt.NONE:
            return f"the rollout of {name} halts: {rollout.reason}"
        for plane in world.planes.values():
            found = {r.revision for r in plane.serving(name)} - {rollout.stable}
            if found:
                return f"{plane.name} runs revision {found} of {name}, not {rollout.stable}"
    return ""


def replay_command(seed: int) -> str:
    """Return the one command that shows what the seed does."""
    return f"SKERRY_SEED={seed} make sim"


def _replay(seed: int) -> int:
    result = run(seed)
    print("\n".join(result.tail))
    print(f"seed {seed}: {result.broken or 'nothing broke'}")
    return 1 if result.broken else 0


def _many(begin: int, count: int, cores: int) -> Iterator[Result]:
    seeds = range(begin, begin + count)
    if cores == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("forkserver").Pool(cores) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=8)


def main() -> int:
    """Run the seeds that are asked for; 1 when one of them broke something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--begin", type=int, default=1)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=None, help="this one alone, with its history")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(asked.seed)
    began = time.perf_counter()
    broken: list[Result] = []
    events, simulated = 0, 0.0
    for result in _many(asked.begin, asked.seeds, asked.cores):
        events, simulated = events + result.events, simulated + result.simulated
        if result.broken:
            broken.append(result)
            print(
                f"seed {result.seed}: {result.broken}\n  {replay_command(result.seed)}", flush=True
            )
    seconds = time.perf_counter() - began
    print(
        f"{asked.seeds} seeds in {seconds:.0f} s on {asked.cores} cores:"
        f" {asked.seeds / seconds:.1f} seeds/s, {events / seconds:,.0f} events/s,"
        f" {simulated / 3600:.1f} simulated hours; {len(broken)} seeds broke something"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
