"""What must hold of both loops of autoscaling, one class for each invariant: S1 to S5.

Watched where worlds are loaded by users. What a load needs is counted here from what users really
sent, never from what the loops were told or made of it.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import cast

from control_plane.store.scalings import ScalingStep
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import Assignment
from skerry.fleet.observation import ReplicaState, Unknown
from skerry.fleet.scaling import Strategy
from tests.simulation.breaches import RACE_SECONDS, SURELY_SECONDS, fail
from tests.simulation.plane import SimPlane
from tests.simulation.scaling import Turn
from tests.simulation.store import Entry
from tests.simulation.users import REPLICA_SECONDS
from tests.simulation.world import World
from tests.simulation.zero import S6NobodyWaitsForNothing
from workload_plane.converge.actions import Action, DrainReplica

# Three readings that did not come, and the one that is on its way.
STALE_SECONDS = 15.0
# Over how long a load is averaged at the least, and how old what is known of it may be.
MEAN_SECONDS = 30.0
FLEET_STALE_SECONDS = 60.0
ROUNDING = 0.2  # of a replica: requests are whole
# All that is averaged when faults end is of a load that moved; then come the delay and a round.
RIPE_SECONDS = 170.0
WAYS_MAX = 2


class S1EnvelopesBoundBothLoops:
    """What a plane's loop wants, and what it is told to run, lies in its floor and ceiling."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.store.watchers.append(self.stored)
        for plane in world.planes.values():
            if plane.scaler is not None:
                plane.scaler.on_turn.append(partial(self.turned, plane))

    def turned(self, plane: SimPlane, turn: Turn) -> None:
        """Compare what is wanted with the envelopes on the disk."""
        for (name, pool), wanted in turn.after.items():
            envelope = turn.state.envelope(name, pool)
            floor, ceiling = (envelope.floor, envelope.ceiling) if envelope else (0, 0)
            if not floor <= wanted <= ceiling:
                text = f"{plane.name} wants {wanted} of {name} within {floor} to {ceiling}"
                fail(self.world, "S1", text)

    def stored(self, entry: Entry, told: object) -> None:
        """Compare each target with the maximum that an operator set."""
        if entry.kind != "scaling.moved":
            return
        scaled = cast(ScalingStep, told).scaled
        most = self.world.store.rows.deployments[scaled.deployment].deployment.scaling.max_replicas
        # An operator's smaller maximum takes effect with the next round.
        asked_at = self.world.changed_at.get(scaled.deployment, -60.0)
        if scaled.demand > most and self.world.now - asked_at > SURELY_SECONDS:
            fail(self.world, "S1", f"{scaled.demand} of {scaled.deployment} are demanded of {most}")


class S2NoPlaneGoesBelowItsFloor:
    """A plane ends no replica that serves while no more than its floor do.

    Less what a rollout may have away, and what is replaced because it failed.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        for plane in world.planes.values():
            plane.on_action.append(self.acted)

    def acted(self, plane: SimPlane, action: Action) -> None:
        """Count what is left after each end of one that served."""
        state = plane.holder.state
        if not isinstance(action, DrainReplica) or isinstance(state, Unknown):
            return
        ended = plane.replicas.get(action.name)
        assignment = _assignment(state.assignments, ended.deployment if ended else "")
        if ended is None or assignment is None or assignment.scaling is None:
            return
        left = [
            one
            for one in plane.replicas.values()
            if one.deployment == ended.deployment
            and one.pool == ended.pool
            and one.state is ReplicaState.READY
        ]
        envelope = state.envelope(ended.deployment, ended.pool)
        floor = envelope.floor if envelope is not None else 0
        rolls = ended.revision != assignment.revisions[-1].number
        away = assignment.deployment.rollout.max_unavailable if rolls else 0
        if len(left) < floor - away:
            text = f"{plane.name} drains {action.name}: {len(left)} of a floor of {floor} are left"
            fail(self.world, "S2", text)


class S3SilenceTakesNothing:
    """Where a plane does not know its load, its own loop lowers nothing, whatever it was before.

    Known is what picker and every host told within the last looks, of requests in flight what the
    picker did. What goes by a plane's own signals goes after a whole delay in which its picker
    counted: that counts on while hosts are silent.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        for plane in world.planes.values():
            if plane.scaler is not None:
                plane.scaler.on_turn.append(partial(self.turned, plane))

    def turned(self, plane: SimPlane, turn: Turn) -> None:
        """Compare what is wanted with what was, where nobody tells the load."""
        scaler, now = plane.scaler, self.world.now
        assert scaler is not None
        for key, wanted in turn.after.items():
            before = turn.before.get(key)
            assignment = _assignment(turn.state.assignments, key[0])
            envelope = turn.state.envelope(*key)
            if before is None or assignment is None or envelope is None:
                continue
            at, since = scaler.answered_at, scaler.counted_since
            if assignment.deployment.scaling.strategy is Strategy.CONCURRENCY:
                at = scaler.counted_at
            if wanted >= min(before, envelope.ceiling):
                continue
            terms = assignment.scaling
            follows = turn.is_heard and terms is not None and terms.fleet_target
            silent = at is None or now - at > STALE_SECONDS
            if silent:
                text = f"{plane.name} lowers {key[0]} from {before} to {wanted}"
                fail(self.world, "S3", f"{text}, last answered at {at}")
            delay = assignment.deployment.scaling.scale_down_delay_seconds or 0.0
            if not follows and (since is None or now - since < delay):
                text = f"{plane.name} lowers {key[0]} from {before} to {wanted}"
                fail(self.world, "S3", f"{text}, watched since {since}")


class S4LoadIsNotForgotten:
    """Nothing goes that users need: a plane's own loop, and the fleet's, keep what they ask for.

    By the smallest rate of all the time that any mean may be of. A plane that the fleet's loop does
    not hear keeps its target, unless it was judged lost.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._lost_at: dict[str, float] = {}
        world.store.watchers.append(self.stored)
        for plane in world.planes.values():
            if plane.scaler is not None:
                plane.scaler.on_turn.append(partial(self.turned, plane))

    def turned(self, plane: SimPlane, turn: Turn) -> None:
        """Look at each plane that lowers by its own signals."""
        for key, wanted in turn.after.items():
            assignment = _assignment(turn.state.assignments, key[0])
            if assignment is None or assignment.scaling is None:
                continue
            if turn.is_heard and assignment.scaling.fleet_target:
                continue
            envelope, before = turn.state.envelope(*key), turn.before.get(key, wanted)
            seconds = MEAN_SECONDS + STALE_SECONDS
            rate = self.world.users[plane.name].least(key[0], seconds, here=True)
            least = min(before, _needed(rate, assignment.deployment))
            if envelope is not None and wanted < min(least, envelope.ceiling):
                text = f"{plane.name} lowers {key[0]} from {before} to {wanted}"
                fail(self.world, "S4", f"{text} while {rate:.2f}/s come")

    def stored(self, entry: Entry, told: object) -> None:
        """Look at each round that moves targets."""
        if entry.kind == "plane.lost":
            self._lost_at[entry.subject] = self.world.now
        if entry.kind != "scaling.moved":
            return
        step = cast(ScalingStep, told)
        if step.before is None or not step.before.targets:
            return
        world, name = self.world, step.scaled.deployment
        deployment = world.store.rows.deployments[name].deployment
        before, after = dict(step.before.targets), dict(step.scaled.targets)
        ceilings = self._ceilings(name)
        for plane, target in before.items():
            least = min(target, ceilings.get(plane, 0))
            if world.now - self._lost_at.get(plane, -math.inf) < RACE_SECONDS:
                continue
            if self._is_unheard(plane) and after.get(plane, 0) < least:
                text = f"{plane} is not heard, and its target of {name} goes from {target}"
                fail(world, "S4", f"{text} to {after.get(plane, 0)}")
        total = sum(after.values())
        if total >= sum(before.values()) or before.keys() - after.keys():
            return
        seconds = MEAN_SECONDS + FLEET_STALE_SECONDS
        heard = [plane for plane in after if not self._is_unheard(plane)]
        rate = sum(world.users[plane].least(name, seconds, here=False) for plane in heard)
        if total < min(_needed(rate, deployment), deployment.scaling.max_replicas):
            text = f"the targets of {name} go from {sum(before.values())} to {total}"
            fail(world, "S4", f"{text} while {rate:.2f}/s come")

    def _is_unheard(self, plane: str) -> bool:
        """Say whether its loads came to the leader too long ago to be known."""
        leader = self.world.leader
        if leader is None or leader.reign is None:
            return False
        told_at = leader.reign.loads_at.get(plane)
        return told_at is None or self.world.now - told_at > FLEET_STALE_SECONDS + SURELY_SECONDS

    def _ceilings(self, name: str) -> Mapping[str, int]:
        rows = self.world.store.rows
        return {
            plane: sum(e.ceiling for e in stored.envelopes or () if e.deployment == name)
            for plane, stored in rows.desired.items()
        }


class S5TargetsComeToRest:
    """Under a load that stays, what is wanted goes one way, turns back once and then no further.

    Counted from when nothing that is averaged is older than the load. Once, for what others give up
    changes places, and the sum is split anew; what goes to and fro turns back twice.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._ways: dict[str, list[int]] = {}
        for plane in world.planes.values():
            if plane.scaler is not None:
                plane.scaler.on_turn.append(partial(self.turned, plane))

    def turned(self, plane: SimPlane, turn: Turn) -> None:
        """Note which way each deployment goes at each plane."""
        world = self.world
        if not world.calm_at or world.now - world.calm_at < RIPE_SECONDS:
            return
        for key, wanted in turn.after.items():
            moved = wanted - turn.before.get(key, wanted)
            if not moved:
                continue
            way, ways = 1 if moved > 0 else -1, self._ways.setdefault(f"{plane.name}/{key[0]}", [])
            if not ways or ways[-1] != way:
                ways.append(way)
            if len(ways) > WAYS_MAX:
                fail(world, "S5", f"{plane.name} wants {wanted} of {key[0]} after turning back")


def _needed(rate: float, deployment: Deployment) -> float:
    """Return how many replicas a rate needs at the least."""
    scaling = deployment.scaling
    if scaling.strategy is Strategy.CONCURRENCY:
        return 0.0
    return rate * REPLICA_SECONDS / scaling.target_utilization - ROUNDING


def _assignment(assignments: tuple[Assignment, ...], name: str) -> Assignment | None:
    return next((one for one in assignments if one.deployment.name == name), None)


SCALING_CHECKERS = (
    S1EnvelopesBoundBothLoops,
    S2NoPlaneGoesBelowItsFloor,
    S3SilenceTakesNothing,
    S4LoadIsNotForgotten,
    S5TargetsComeToRest,
    S6NobodyWaitsForNothing,
)
