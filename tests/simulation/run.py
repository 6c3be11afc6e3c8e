"""One world from its beginning to its end: faults, calm, order (I14); and many of them.

`python -m tests.simulation.run` is `make sim`: many seeds on all cores, or one with its history.
The same seed does the same (I15), whatever process runs it, and so does its schedule once written.
"""

import argparse
import gc
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any

from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import PlaneState, Unknown
from skerry.fleet.rollout import Halt, Stage
from tests.simulation.breaches import Broken, fail
from tests.simulation.chances import LOADS, Chances
from tests.simulation.checkers import watch
from tests.simulation.faults import FAULTS, Faults
from tests.simulation.network import drop_process
from tests.simulation.operators import Operators
from tests.simulation.scaled import RIPE_SECONDS
from tests.simulation.schedule import (
    Happening,
    Schedule,
    Setting,
    from_json,
    setting_of,
    setting_rests,
    to_json,
)
from tests.simulation.users import REPLICA_SECONDS
from tests.simulation.world import World
from tests.simulation.zero import is_kept, sleeping

SETTLE_SECONDS = 9.0
CONVERGE_SECONDS = 60.0  # I14: in order by then
WAITS_SECONDS_MAX = 60.0  # a minute's budget of moves may be used up when the faults end
QUIET_SECONDS = 7.0  # and then nobody acts
# Where deployments scale: the longest mean of a load, two rounds of the fleet's loop, the delay and
# what a replica takes to start. A round without a move is of as many seconds.
SCALED_SECONDS, ROUND_SECONDS = 240.0, 35.0
# In one of two, loads stay for two rounds more from when no mean is of what moved: what would go to
# and fro does so, and what nobody asks for is gone.
REST_SECONDS = 70.0
# With nobody to ask: a tick of the gateway, a start and a look at whether it is over, twice.
ANSWERED_SECONDS = 15.0
LOOK_SECONDS = 1.0


KEPT = Path(__file__).parent / "seeds"


@dataclass(frozen=True, slots=True)
class Result:
    """What a seed, or a schedule that was kept, came to; with all that happened."""

    seed: int
    schedule: Schedule
    broken: str
    trace: str
    events: int
    simulated: float
    converged: float
    tail: tuple[str, ...]


# Has things happen to a world until its end; returns what happened, filled as it does.
Begin = Callable[[World, Faults, Operators, float], list[Happening]]


def run(seed: int, kinds: tuple[str, ...] = (), only: str = "") -> Result:
    """Run a seed's world to its end, or to what broke; `kinds` of faults come on top of its own.

    With `only`, nothing but that invariant is watched.
    """

    def begin(world: World, faults: Faults, operators: Operators, end: float) -> list[Happening]:
        chances = Chances(world, faults, operators, Random(f"{seed}/chances"), end, kinds)
        chances.begin()
        return chances.done

    return _run(setting_of(seed, loaded=not LOADS.isdisjoint(kinds)), begin, only)


def replay(schedule: Schedule, only: str = "") -> Result:
    """Run a world to which happens what was written down, whatever a seed would choose by now."""

    def begin(world: World, faults: Faults, operators: Operators, _: float) -> list[Happening]:
        for one in schedule.happenings:
            part = faults if one.what in FAULTS else operators
            world.timeline.at(one.at, partial(part.happen, one.what, one.told))
        return list(schedule.happenings)

    return _run(schedule.setting, begin, only)


@lru_cache(maxsize=1)
def _set_aside() -> None:
    """Have no collection look through modules and what else is there for good: 10 ms a seed."""
    gc.collect()
    gc.freeze()


def _run(setting: Setting, begin: Begin, only: str) -> Result:
    _set_aside()
    gc.disable()
    logging.disable(logging.CRITICAL)
    world = World(setting)
    broken, converged = "", 0.0
    try:
        watch(world, only)
        _pass(world, SETTLE_SECONDS)
        converged = _live(world, begin, only)
    except Broken as error:
        broken = str(error)
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
    return Result(
        seed=setting.noise,
        schedule=Schedule(setting=setting, happenings=tuple(world.happened)),
        broken=broken,
        trace=world.trace,
        events=world.timeline.events,
        simulated=world.now,
        converged=converged,
        tail=tuple(world.tail),
    )


def _live(world: World, begin: Begin, only: str) -> float:
    seconds = world.setting.seconds
    faults, operators = Faults(world), Operators(world)
    world.happened = begin(world, faults, operators, world.now + seconds)
    operators.begin()
    _pass(world, seconds)
    faults.calm()
    if only not in ("", "I14", "S5"):
        return 0.0  # what was planted may keep order from returning
    operators.settle()
    world.calm_at = world.now
    world.note("calm", "faults are over")
    over = world.now + CONVERGE_SECONDS
    while not operators.is_settled:
        _pass(world, LOOK_SECONDS)
        if world.now > over:
            why = "it recovers" if world.leader else "nobody leads"
            fail(world, "I14", f"{CONVERGE_SECONDS:.0f} s after the faults {why}")
    converged = _converge(world)
    if world.fleet.loaded and setting_rests(world.setting):
        _pass(world, max(0.0, world.calm_at + RIPE_SECONDS + REST_SECONDS - world.now))
        _wake(world)
    return converged


def _wake(world: World) -> None:
    """Have somebody ask for what runs nowhere, with every control plane dead (S6)."""
    found = sleeping(world)
    if found is None:
        return
    plane, name = found
    for control in world.controls.values():
        control.crash()
        drop_process(world.network, control.process)
    # Each plane goes by its own need from now on, which may be more than its part of the sum.
    world.calm_at = 0.0
    world.note("users", f"ask {plane.name} for {name}, and there is no control plane")
    world.users[plane.name].turn(name, 1.0, 0.0)
    _pass(world, ANSWERED_SECONDS)
    waiting = world.users[plane.name].waiting(name)
    if waiting or not plane.serving(name):
        fail(world, "S6", f"{waiting} wait at {plane.name} for {name}, asked for at no other plane")


def _converge(world: World) -> float:
    """Return how long it took until all was in order and stayed so, nobody acting (I14)."""
    began = last = world.now
    waits = 0.0  # as long as the budget of moves held some back
    done = (world.acts, len(world.store.journal))
    quiet, most = QUIET_SECONDS, CONVERGE_SECONDS
    if world.fleet.loaded:
        quiet, most = ROUND_SECONDS, CONVERGE_SECONDS + SCALED_SECONDS
    while True:
        _pass(world, LOOK_SECONDS)
        wrong = disorder(world)
        acted = (world.acts, len(world.store.journal))
        if wrong or acted != done:
            last, done = world.now, acted
        if world.leader and world.leader.reign and world.leader.reign.loop.held_back:
            waits = min(waits + LOOK_SECONDS, WAITS_SECONDS_MAX)
        if last - began > most + waits:
            wrong = wrong or "all is in order, but somebody still acts"
            fail(world, "I14", f"{most:.0f} s after the faults {wrong}")
        if world.now - last >= quiet:
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
        if name in world.fleet.loaded:
            if short := uncovered(world, stored.deployment, serving):
                return short
            continue
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


def uncovered(world: World, deployment: Deployment, serving: int) -> str:
    """Say what of what is wanted for load does not serve, or is too little for it.

    As much as users ask for is covered unless the maximum or the accelerators are used up.
    """
    name, scaling = deployment.name, deployment.scaling
    for plane in world.planes.values():
        wanted = sum(n for (of, _), n in plane.wanted.items() if of == name)
        if wanted == 0 and is_kept(plane, world.users[plane.name], name):
            continue
        if len(plane.serving(name)) != wanted:
            return f"{plane.name} serves {len(plane.serving(name))} of {wanted} {name}"
    if serving < scaling.min_replicas:
        return f"{serving} of {scaling.min_replicas} replicas of {name} serve"
    busy = sum(users.rate(name) for users in world.users.values()) * REPLICA_SECONDS
    free = sum(len(plane.nodes) - len(plane.replicas) for plane in world.planes.values())
    if serving < min(busy, scaling.max_replicas) and free:
        return f"{serving} {name} serve, {busy:.2f} would be busy, {free} nodes are free"
    return ""


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


def kept_in(path: Path) -> Schedule:
    """Return the schedule that a file keeps."""
    return from_json(json.loads(path.read_text(encoding="utf-8"))["schedule"])


def replay_command(seed: int) -> str:
    """Return the one command that shows what the seed does."""
    return f"SKERRY_SEED={seed} make sim"


def _shown(result: Result, what: str) -> int:
    print("\n".join(result.tail))
    print(f"{what}: {result.broken or 'nothing broke'}")
    return 1 if result.broken else 0


def keep(result: Result, name: str, found: str, unmended: str = "") -> Path:
    """Write down for ever what happened; `held_by` is to be named in the file by hand."""
    path = KEPT / f"{name}.json"
    kept = {
        "found": found or result.broken,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",  # noqa: TID251 (of the day, for people)
        "held_by": "",
        "unmended": unmended,
        "schedule": to_json(result.schedule),
    }
    with path.open("x", encoding="utf-8") as file:  # one that is there is another one's
        file.write(_lines(kept))
    return path


def _lines(kept: dict[str, Any]) -> str:
    """Return it as JSON with a line for each happening."""
    schedule = kept["schedule"]
    happenings = ",\n".join(f"    {json.dumps(one)}" for one in schedule["happenings"])
    short = kept | {"schedule": schedule | {"happenings": []}}
    text = json.dumps(short, indent=1)
    return text.replace('"happenings": []', f'"happenings": [\n{happenings}\n  ]') + "\n"


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
    parser.add_argument("--keep", default="", metavar="FOUND", help="and its schedule for ever")
    parser.add_argument("--kept", type=Path, default=None, help="replay a schedule that was kept")
    asked = parser.parse_args()
    if asked.kept is not None:
        return _shown(replay(kept_in(asked.kept)), str(asked.kept))
    if asked.seed is not None:
        result = run(asked.seed)
        if asked.keep:
            path = keep(result, f"{asked.seed:06}", asked.keep)
            print(f"kept in {path}: name its mend, and in `held_by` the test that holds it")
        return _shown(result, f"seed {asked.seed}")
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
